//! The HTTP API of the service.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use url::{Host, Url};

use crate::error::Error;

/// Longer than the API takes: it answers a test within 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(35);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A page of a list.
#[derive(Deserialize)]
pub(crate) struct Page {
    pub(crate) items: Vec<Box<RawValue>>,
    pub(crate) next_cursor: Option<String>,
}

/// An error of the API (RFC 9457), or of API Gateway, which says `message` only.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    message: String,
    detail: Option<String>,
    errors: Vec<FieldError>,
}

#[derive(Deserialize)]
struct FieldError {
    field: String,
    message: String,
}

/// The API as the user of one token sees it.
pub(crate) struct Api {
    http: reqwest::Client,
    base: Url,
    token: String,
}

impl Api {
    pub(crate) fn new(base: Url, token: String) -> Result<Self, Error> {
        Ok(Self { http: http_client(&base)?, base, token })
    }

    /// Where the API is.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// The user of the token, if the token says so.
    pub(crate) fn user(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Claims {
            sub: String,
        }
        use base64::Engine as _;
        let claims = self.token.split('.').nth(1)?;
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
        Some(serde_json::from_slice::<Claims>(&claims).ok()?.sub)
    }

    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<String, Error> {
        self.call(Method::GET, path, query, None).await
    }

    pub(crate) async fn post(&self, path: &[&str], body: &impl ToString) -> Result<String, Error> {
        self.call(Method::POST, path, &[], Some(body.to_string())).await
    }

    pub(crate) async fn patch(&self, path: &[&str], body: &impl ToString) -> Result<String, Error> {
        self.call(Method::PATCH, path, &[], Some(body.to_string())).await
    }

    pub(crate) async fn delete(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<String, Error> {
        self.call(Method::DELETE, path, query, None).await
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<String, Error> {
        let mut url = join(&self.base, path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request =
            self.http.request(method, url).header(AUTHORIZATION, format!("Bearer {}", self.token));
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        send(&self.base, request).await
    }

    /// At most `limit` items of a list.
    pub(crate) async fn list(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        limit: usize,
    ) -> Result<Page, Error> {
        let mut all = Page { items: Vec::new(), next_cursor: None };
        loop {
            let size = (limit - all.items.len()).min(100).to_string();
            let mut query = query.to_vec();
            query.push(("limit", &size));
            query.extend(all.next_cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page: Page = read(&self.get(path, &query).await?)?;
            all.items.extend(page.items);
            all.next_cursor = page.next_cursor;
            if all.items.len() >= limit || all.next_cursor.is_none() {
                return Ok(all);
            }
        }
    }
}

/// What the local system offers without a token.
pub(crate) async fn local(base: &Url, method: Method, path: &str) -> Result<String, Error> {
    let url = join(base, &["_local", path]);
    send(base, http_client(base)?.request(method, url)).await
}

/// Whether a URL leads to this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    }
}

/// Reads an answer of the API.
pub(crate) fn read<T: DeserializeOwned>(answer: &str) -> Result<T, Error> {
    serde_json::from_str(answer).map_err(|error| {
        Error::Failed(format!("the API answers what this program does not know: {error}"))
    })
}

/// A client for requests to this address.
pub(crate) fn http_client(base: &Url) -> Result<reqwest::Client, Error> {
    // Only the first client of the process installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("webhooks-cli/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT);
    if is_loopback(base) {
        client = client.no_proxy();
    }
    client.build().map_err(|error| Error::Failed(format!("cannot make an HTTP client: {error}")))
}

async fn send(base: &Url, request: reqwest::RequestBuilder) -> Result<String, Error> {
    let unavailable = |error: reqwest::Error| Error::Unavailable(unreachable(base, &error));
    let response = request.send().await.map_err(unavailable)?;
    let status = response.status().as_u16();
    let body = response.text().await.map_err(unavailable)?;
    if (200..300).contains(&status) { Ok(body) } else { Err(refusal(status, &body)) }
}

fn unreachable(base: &Url, error: &reqwest::Error) -> String {
    let hint = if is_loopback(base) { "; is `cargo dev` running there?" } else { "" };
    format!("cannot reach {base}: {}{hint}", cause(error))
}

/// The innermost cause, which says what happened.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Appends segments to the path of a URL, percent-encoded.
fn join(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    url.path_segments_mut()
        .expect("a URL with a host has a path; others are refused where they are read")
        .pop_if_empty()
        .extend(path);
    url
}

/// The error of a response that is no success.
fn refusal(status: u16, body: &str) -> Error {
    let problem: Problem = serde_json::from_str(body).unwrap_or_default();
    let reason = match (problem.title, problem.message) {
        (title, _) if !title.is_empty() => title,
        (_, message) if !message.is_empty() => message,
        _ => "no reason is given".to_owned(),
    };
    let detail = problem.detail.map(|detail| format!(": {detail}")).unwrap_or_default();
    let text = format!("{reason}{detail} (HTTP {status})");
    match status {
        401 => Error::Refused(format!(
            "{text}: the token is not valid, or no longer; `webhooks login`"
        )),
        404 => Error::NotFound(text),
        422 if !problem.errors.is_empty() => {
            let errors = problem.errors.iter();
            let errors: Vec<String> =
                errors.map(|error| format!("{} {}", flag(&error.field), error.message)).collect();
            Error::Usage(errors.join("; "))
        }
        400 | 413 | 422 => Error::Usage(text),
        402..=499 => Error::Refused(text),
        500..=599 => Error::Unavailable(text),
        _ => Error::Failed(format!("the API answers {status}; is its URL right?")),
    }
}

/// The flag that sets a field of the API.
fn flag(field: &str) -> String {
    let end = field.find(['.', '[']).unwrap_or(field.len());
    let (name, place) = field.split_at(end);
    match name {
        "headers" => format!("--header ({field})"),
        // Below `data` and `filter` the place inside of the JSON matters.
        name if place.is_empty() => format!("--{}", name.replace('_', "-")),
        name => format!("--{} ({field})", name.replace('_', "-")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refused_fields_name_their_flags() {
        let body = json!({"title": "Some fields are not valid", "status": 422, "errors": [
            {"field": "retry_count", "message": "must be at most 10"},
            {"field": "headers.host", "message": "is set by HTTP"},
        ]});
        let error = refusal(422, &body.to_string());
        assert_eq!(
            error.to_string(),
            "--retry-count must be at most 10; --header (headers.host) is set by HTTP"
        );
    }

    #[test]
    fn statuses_have_their_exit_codes() {
        let code = |status| format!("{:?}", refusal(status, "{}").exit_code());
        let exit = |code: u8| format!("{:?}", std::process::ExitCode::from(code));
        for (statuses, expected) in [
            (&[302][..], 1),
            (&[400, 413, 422], 2),
            (&[404], 3),
            (&[401, 403, 405, 409, 429], 4),
            (&[500, 502, 503], 5),
        ] {
            for status in statuses {
                assert_eq!(code(*status), exit(expected), "{status}");
            }
        }
        let gateway = refusal(429, r#"{"message":"Too Many Requests"}"#).to_string();
        assert_eq!(gateway, "Too Many Requests (HTTP 429)");
    }

    #[test]
    fn path_of_the_base_stays_and_segments_are_encoded() {
        let base = Url::parse("https://example.com/prod/").unwrap();
        assert_eq!(
            join(&base, &["api", "a/b?c"]).as_str(),
            "https://example.com/prod/api/a%2Fb%3Fc"
        );
    }
}
