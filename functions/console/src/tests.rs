use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use lambda_http::http::header::HeaderName;
use webhooks_api::testing::{TestRequest, TestResponse};

const ROUTE: &str = "GET /console/{path+}";

async fn get(console: &Console, path: &str, headers: &[(HeaderName, &str)]) -> TestResponse {
    let mut request = TestRequest::to(ROUTE).without_token().with("path", path);
    for (name, value) in headers {
        request = request.header(name.as_str(), value);
    }
    request.send(|request| std::future::ready(console.handle(&request))).await
}

#[test]
fn every_file_of_the_console_is_served() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../console");
    let mut found = BTreeSet::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.to_str().unwrap().ends_with(".d.ts") && !path.ends_with("README.md") {
                found.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let served = FILES.iter().map(|file| file.path).filter(|path| !path.starts_with("snippets/"));
    assert_eq!(served.map(str::to_owned).collect::<BTreeSet<_>>(), found);
}

#[tokio::test]
async fn file_is_compressed_when_the_browser_accepts_gzip() {
    let console = Console::new(&Settings::default());
    let plain = get(&console, "app.js", &[]).await;
    let gzip = get(&console, "app.js", &[(ACCEPT_ENCODING, "br, gzip;q=0.8")]).await;
    assert_eq!((plain.status(), gzip.status()), (200, 200));
    assert_eq!(plain.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(
        (plain.header("content-encoding"), gzip.header("content-encoding")),
        (None, Some("gzip"))
    );
    assert!(gzip.bytes().len() < plain.bytes().len());
}

#[tokio::test]
async fn known_entity_tag_returns_304() {
    let console = Console::new(&Settings::default());
    let etag = get(&console, "style.css", &[]).await.header("etag").unwrap().to_owned();
    let response = get(&console, "style.css", &[(IF_NONE_MATCH, &etag)]).await;
    assert_eq!((response.status(), response.bytes().len()), (304, 0));
    let other = get(&console, "style.css", &[(IF_NONE_MATCH, "\"0\"")]).await;
    assert_eq!(other.status(), 200);
}

#[tokio::test]
async fn missing_path_returns_404() {
    let console = Console::new(&Settings::default());
    for path in ["nothing.js", "../Cargo.toml", "", "vendor/"] {
        assert_eq!(get(&console, path, &[]).await.problem(), "not-found", "{path}");
    }
}

#[tokio::test]
async fn policy_allows_only_the_own_origin_and_the_issuer() {
    let settings = Settings::from_variables(|name| match name {
        "OIDC_ISSUER" => Some("https://id.example.com/pool".to_owned()),
        "OIDC_CONNECT_ORIGINS" => Some("https://login.example.com/".to_owned()),
        "OIDC_CLIENT_ID" => Some("c1".to_owned()),
        _ => None,
    });
    let console = Console::new(&settings.unwrap());
    let response = get(&console, "index.html", &[]).await;
    let policy = response.header("content-security-policy").unwrap();
    assert!(
        policy.contains("connect-src 'self' https://id.example.com https://login.example.com;")
    );
    assert!(!policy.contains("unsafe"));
    let config = get(&console, "config.json", &[]).await.json();
    assert_eq!(config["issuer"], "https://id.example.com/pool");
    assert_eq!((&config["client_id"], &config["token_url"]), (&"c1".into(), &().into()));
}

#[test]
fn issuer_that_is_no_https_url_is_refused_by_name() {
    for bad in ["http://id.example.com", "id.example.com", "'self'"] {
        let settings =
            Settings::from_variables(|name| (name == "OIDC_ISSUER").then(|| bad.to_owned()));
        assert!(settings.unwrap_err().to_string().starts_with("OIDC_ISSUER: "), "{bad}");
    }
}

#[test]
fn exactly_the_named_variables_are_read() {
    let read = std::cell::RefCell::new(BTreeSet::new());
    Settings::from_variables(|name| {
        read.borrow_mut().insert(name);
        None
    })
    .unwrap();
    assert_eq!(read.into_inner(), BTreeSet::from(NAMES));
}
