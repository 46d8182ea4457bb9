//! `GET /console`: the files of the console, which are compiled in, and its configuration.
//!
//! The files are the same for everybody and hold no data, so they need no token; what they show, they
//! read from the API with the token of their user. A file is served with an entity tag, so that a
//! browser that has it gets 304, and compressed if the browser accepts gzip.
//!
//! Deliberately absent: any use of a table or a queue.

mod files;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use lambda_http::http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use lambda_http::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use lambda_http::{Body, Request, RequestExt as _, Response};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use url::Url;
use webhooks_api::problem;
use webhooks_api::problem::Problem;

use crate::files::FILES;

/// The variables of the environment that the function reads.
pub const NAMES: [&str; 4] = [ISSUER, CLIENT_ID, SCOPE, CONNECT_ORIGINS];

const ISSUER: &str = "OIDC_ISSUER";
const CLIENT_ID: &str = "OIDC_CLIENT_ID";
const SCOPE: &str = "OIDC_SCOPE";
const CONNECT_ORIGINS: &str = "OIDC_CONNECT_ORIGINS";

/// A setting that cannot be used.
#[derive(Debug)]
pub struct InvalidSetting {
    variable: &'static str,
    value: String,
}

impl std::fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?} is not an absolute https URL", self.variable, self.value)
    }
}

impl std::error::Error for InvalidSetting {}

/// What the console needs to know of its stack.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settings {
    /// The base URL of the API; empty for the origin of the page.
    pub api_url: String,
    /// Where the local system gives a token.
    pub token_url: Option<String>,
    /// The OpenID Connect issuer at which users sign in.
    pub issuer: Option<String>,
    /// The client at the issuer.
    pub client_id: Option<String>,
    /// The scopes that it asks for.
    pub scope: Option<String>,
    /// Whether http URLs are allowed.
    pub development: bool,
    /// Origins besides the issuer's that the page may call, such as that of the token endpoint.
    #[serde(skip)]
    pub connect_origins: Vec<String>,
}

impl Settings {
    /// Reads the environment of the function.
    pub fn from_environment() -> Result<Self, InvalidSetting> {
        #[expect(clippy::disallowed_methods, reason = "the configuration of this function")]
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, InvalidSetting> {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        let origin = |variable, value: String| match Url::parse(&value) {
            Ok(url) if url.scheme() == "https" => Ok(url.origin().ascii_serialization()),
            _ => Err(InvalidSetting { variable, value }),
        };
        let issuer = given(ISSUER);
        let others = given(CONNECT_ORIGINS).unwrap_or_default();
        let connect_origins = issuer
            .iter()
            .map(|issuer| origin(ISSUER, issuer.clone()))
            .chain(others.split_whitespace().map(|one| origin(CONNECT_ORIGINS, one.to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            issuer,
            client_id: given(CLIENT_ID),
            scope: given(SCOPE),
            connect_origins,
            ..Self::default()
        })
    }
}

/// A file to be served. It is compressed and gets its entity tag when it is first asked for, because all
/// files together would be most of a cold start.
struct Served {
    content_type: &'static str,
    plain: Cow<'static, [u8]>,
    etag: OnceLock<HeaderValue>,
    gzip: OnceLock<Vec<u8>>,
}

impl Served {
    fn new(content_type: &'static str, plain: Cow<'static, [u8]>) -> Self {
        Self { content_type, plain, etag: OnceLock::new(), gzip: OnceLock::new() }
    }

    fn etag(&self) -> &HeaderValue {
        self.etag.get_or_init(|| {
            let etag = format!("\"{}\"", hex::encode(&Sha256::digest(&self.plain)[..16]));
            HeaderValue::from_str(&etag).expect("hexadecimal digits are a header value")
        })
    }

    fn gzip(&self) -> &[u8] {
        self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&self.plain).expect("a Vec takes every byte");
            encoder.finish().expect("a Vec takes every byte")
        })
    }
}

/// The handler.
pub struct Console {
    files: BTreeMap<&'static str, Served>,
    policy: HeaderValue,
}

impl Console {
    /// The function with this configuration.
    pub fn new(settings: &Settings) -> Self {
        let config = serde_json::to_vec(settings).expect("strings and booleans are JSON");
        let files = FILES
            .iter()
            .map(|file| (file.path, Served::new(content_type(file.path), file.bytes.into())))
            .chain([("config.json", Served::new("application/json", config.into()))])
            .collect();
        Self { files, policy: policy(&settings.connect_origins) }
    }

    /// Handles a request.
    pub fn handle(&self, request: &Request) -> Response<Body> {
        let parameters = request.path_parameters();
        let path = parameters.first("path").unwrap_or("index.html");
        match self.files.get(path) {
            Some(file) if request.method() == Method::GET => self.file(file, request.headers()),
            _ => problem(&Problem::NotFound),
        }
    }

    fn file(&self, file: &Served, request: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        let fixed: [(HeaderName, &'static str); 8] = [
            // The browser asks each time whether the file has changed.
            (CACHE_CONTROL, "no-cache"),
            (VARY, "accept-encoding"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
            // A product's page loads the element from here. The files hold no data.
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
            (CONTENT_TYPE, file.content_type),
        ];
        headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
        headers.insert(ETAG, file.etag().clone());
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        let names = |name, value: &str| {
            let given = request.get_all(name).iter().filter_map(|given| given.to_str().ok());
            given.flat_map(|given| given.split(',')).any(|one| one.trim().starts_with(value))
        };
        let etag = file.etag().to_str().expect("an entity tag is ASCII");
        if names(IF_NONE_MATCH, etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if names(ACCEPT_ENCODING, "gzip") {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            *response.body_mut() = Body::Binary(file.gzip().to_vec());
        } else {
            *response.body_mut() = Body::Binary(file.plain.to_vec());
        }
        response
    }
}

/// No inline script or style, nothing from elsewhere, and no page around it.
fn policy(connect_origins: &[String]) -> HeaderValue {
    let connect = [vec!["'self'".to_owned()], connect_origins.to_vec()].concat();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        connect.join(" ")
    );
    HeaderValue::from_str(&policy).expect("origins are header values")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests;
