//! What clients should not send, byte for byte, and what they get for it.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Local, token};

/// A request, without the line that ends its head.
struct Head(String);

impl Head {
    fn of(method: &str, path: &str, token: &str) -> Self {
        let first = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
        Self(format!("{first}authorization: Bearer {token}\r\n"))
    }

    fn with(mut self, header: &str) -> Self {
        self.0.push_str(header);
        self.0.push_str("\r\n");
        self
    }

    fn and(self, body: impl AsRef<[u8]>) -> Vec<u8> {
        [self.0.as_bytes(), b"\r\n", body.as_ref()].concat()
    }

    /// With a body and its length.
    fn body(self, body: impl AsRef<[u8]>) -> Vec<u8> {
        let length = format!("content-length: {}", body.as_ref().len());
        self.with(&length).and(body)
    }
}

struct Response {
    status: u16,
    body: Value,
}

impl Response {
    /// The problem and the fields it names.
    fn problem(&self) -> (u16, String, Vec<String>) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let kind = text(&self.body["type"]).replace("urn:webhooks:problem:", "");
        assert_eq!(self.body["status"], self.status);
        let errors = self.body["errors"].as_array().cloned().unwrap_or_default();
        (self.status, kind, errors.iter().map(|error| text(&error["field"])).collect())
    }
}

/// All responses on one connection.
async fn exchange(local: &Local, bytes: &[u8]) -> Vec<Response> {
    let address = local.api.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have had enough before the end.
    let _ = stream.write_all(bytes).await;
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    let got = String::from_utf8(got).unwrap();
    let mut responses = Vec::new();
    let mut rest = got.as_str();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        let (body, after) = after.split_at(length);
        responses.push(Response {
            status: head[9..12].parse().unwrap(),
            body: serde_json::from_str(body).unwrap_or_default(),
        });
        rest = after;
    }
    responses
}

async fn one(local: &Local, bytes: &[u8]) -> Response {
    let mut responses = exchange(local, bytes).await;
    assert_eq!(responses.len(), 1, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
    responses.remove(0)
}

const WEBHOOKS: &str = "/api/webhooks";

#[tokio::test]
async fn ambiguous_request_is_rejected() {
    let local = Local::start().await;
    let token = token("u");
    let post = || Head::of("POST", WEBHOOKS, &token);
    let request = json!({"url": local.receiver, "event_types": ["task.created"]}).to_string();
    let hidden = format!("0\r\n\r\n{}", String::from_utf8(post().body(&request)).unwrap());
    for bytes in [
        post().with("content-length: 2").with("content-length: 3").and("{}x"),
        post().with("content-length: +2").and("{}"),
        post().with("content-length: 2, 2").and("{}"),
        post().with("content-length: 0x2").and("{}"),
        post().with("content-length: -1").and("{}"),
        post().with("content-length: 99999999999999999999999").and("{}"),
        post().with("transfer-encoding: xchunked").and(&hidden),
        post().with("transfer-encoding: identity").and(&request),
        post().with("transfer-encoding: chunked").and("fffffffffffffffff\r\n"),
        post().with("transfer-encoding: chunked").and("-1\r\n{}\r\n0\r\n\r\n"),
        post().with("x: y\r\n folded: z").and("{}"),
        post().with("content-length : 2").and("{}"),
        post().with("host: b").body(&request),
        String::from_utf8(post().body(&request)).unwrap().replace("host: a\r\n", "").into(),
        String::from_utf8(post().body(&request)).unwrap().replace("\r\n", "\n").into(),
        post().with("x: a\0b").and("{}"),
        post()
            .with(&format!("content-length: {}", hidden.len()))
            .with("transfer-encoding: chunked")
            .and(&hidden),
    ] {
        for response in exchange(&local, &bytes).await {
            assert!(response.status >= 400, "{}: {}", response.status, response.body);
        }
    }
    let list = local.expect(200, "GET", WEBHOOKS, "u", None).await;
    assert_eq!(list["items"], json!([]), "something was smuggled in");
}

#[tokio::test]
async fn oversized_body_is_rejected_in_every_framing() {
    let local = Local::start().await;
    let token = token("u");
    let post = || Head::of("POST", WEBHOOKS, &token);
    let of = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    let chunked = |body: String| {
        let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        post().with("transfer-encoding: chunked").and(chunks)
    };
    let most = 64 * 1024;
    for fits in [post().body(of(most)), chunked(of(most))] {
        let (status, _, fields) = one(&local, &fits).await.problem();
        assert_eq!((status, fields.len()), (422, 3), "it is read");
    }
    for large in [post().body(of(most + 1)), chunked(of(most + 1)), post().body(of(11 << 20))] {
        assert_eq!(one(&local, &large).await.status, 413);
    }
    // Cut off: the length is longer than the body, and the client stops sending.
    let short = post().with("content-length: 3").and("{}");
    let responses = cut_off(&local, &short).await;
    assert!(responses.iter().all(|response| response.status == 400));
}

/// Sends, and says that nothing more comes.
async fn cut_off(local: &Local, bytes: &[u8]) -> Vec<Response> {
    let address = local.api.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = String::new();
    let _ = stream.read_to_string(&mut got).await;
    let status = got.get(9..12).map(|status| status.parse().unwrap());
    status.map(|status| Response { status, body: Value::Null }).into_iter().collect()
}

#[tokio::test]
async fn refused_body_names_its_fields() {
    let local = Local::start().await;
    let token = token("u");
    let request = |more: &str| {
        format!("{{\"url\":\"{}\",\"event_types\":[\"task.created\"]{more}}}", local.receiver)
    };
    let deep = format!("{}1{}", "{\"a\":".repeat(101), "}".repeat(101));
    let json: &[&[u8]] = &[
        b"",
        b" ",
        b"null",
        b"[]",
        b"{",
        b"\xff{}",
        b"\xef\xbb\xbf{}",
        deep.as_bytes(),
        b"{\"description\":\"\\ud800\"}",
        b"{\"description\":\"a\0b\"}",
        b"{\"retry_count\":1e400}",
    ];
    for body in json {
        let response = one(&local, &Head::of("POST", WEBHOOKS, &token).body(body)).await;
        assert_eq!(response.problem(), (400, "invalid-json".to_owned(), vec![]), "{body:?}");
    }
    let long = "x".repeat(1_025);
    let types = ["\"task.created\""; 51].join(",");
    let fields: &[(String, &[&str])] = &[
        ("{}".to_owned(), &["url", "event_types"]),
        (request(",\"url\":\"http://127.0.0.1\""), &["url"]),
        (request(",\"retry_count\":11"), &["retry_count"]),
        (request(",\"retry_count\":1.5"), &["retry_count"]),
        (request(",\"retry_count\":18446744073709551616"), &["retry_count"]),
        (request(",\"timeout_seconds\":0"), &["timeout_seconds"]),
        (request(&format!(",\"description\":\"{long}\"")), &["description"]),
        (request(",\"secret\":\"x\",\"__proto__\":{}"), &["__proto__", "secret"]),
        (format!("{{\"url\":\"http://127.0.0.1\",\"event_types\":[{types}]}}"), &["event_types"]),
        (
            "{\"url\":\"http://127.0.0.1/\\u0000\",\"event_types\":[]}".to_owned(),
            &["url", "event_types"],
        ),
    ];
    for (body, named) in fields {
        let response = one(&local, &Head::of("POST", WEBHOOKS, &token).body(body)).await;
        let (status, kind, fields) = response.problem();
        assert_eq!((status, kind.as_str()), (422, "invalid-fields"), "{body}");
        assert_eq!(fields, *named, "{body}");
    }
}

#[tokio::test]
async fn unusual_paths_methods_and_queries_are_refused() {
    let local = Local::start().await;
    let token = token("u");
    for path in [
        "/api/webhooks/",
        "//api/webhooks",
        "/api//webhooks",
        "/API/webhooks",
        "/api/%77ebhooks",
        "/api/webhooks%2f",
        "/api/webhooks/..",
        "/api/webhooks/%2e%2e",
        "/api/webhooks/a%2fb",
        "/api/webhooks/%00",
        "/api/webhooks/%ff",
        "/api/webhooks;a=b",
        "/api/webhooks/event%2dtypes",
        "/api/webhooks/event-types/",
        "/_local/../api/webhooks",
    ] {
        let response = one(&local, &Head::of("GET", path, &token).and("")).await;
        assert_eq!(response.status, 404, "{path}");
    }
    for method in ["PUT", "PATCH"] {
        let response = one(&local, &Head::of(method, WEBHOOKS, &token).and("")).await;
        assert_eq!(response.problem(), (405, "method-not-allowed".to_owned(), vec![]), "{method}");
    }
    for method in ["OPTIONS", "TRACE", "get", "BREW"] {
        let response = one(&local, &Head::of(method, WEBHOOKS, &token).and("")).await;
        assert_eq!(response.status, 404, "{method}");
    }
    for (query, named) in [
        ("limit=1&limit=1", "limit"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=+5", "limit"),
        ("limit=5%00", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit", "limit"),
        ("limit=1;x=2", "limit"),
        ("Limit=1", "Limit"),
        ("a=1", "a"),
        ("cursor=", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("%zz=1", "%zz"),
        ("%ff=1", "\u{fffd}"),
        ("=", ""),
    ] {
        let path = format!("{WEBHOOKS}?{query}");
        let response = one(&local, &Head::of("GET", &path, &token).and("")).await;
        assert_eq!(response.problem().2, [named], "{query}");
    }
}

#[tokio::test]
async fn request_needs_one_token_in_one_header() {
    let local = Local::start().await;
    let good = token("u");
    let head = "GET /api/webhooks HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    let (claims, signature) = good.rsplit_once('.').unwrap();
    for authorization in [
        String::new(),
        format!("authorization: Bearer {good}\r\nauthorization: Bearer {good}\r\n"),
        format!("authorization: Bearer {good}, Bearer {good}\r\n"),
        format!("authorization: Basic {good}\r\n"),
        format!("authorization: Bearer {good}x\r\n"),
        format!("authorization: Bearer {good}=\r\n"),
        format!("authorization: Bearer {claims}.\r\n"),
        format!("authorization: Bearer {claims}.{}\r\n", signature.to_uppercase()),
        format!("x-authorization: Bearer {good}\r\n"),
        format!("cookie: authorization=Bearer {good}\r\n"),
        format!("authorization: Bearer {}\r\n", "a.".repeat(7_000)),
    ] {
        let response = one(&local, format!("{head}{authorization}\r\n").as_bytes()).await;
        assert_eq!(response.status, 401, "{authorization}");
    }
    // The second request on a connection needs a token of its own.
    let first = head.replace("connection: close\r\n", "");
    let two = format!("{first}authorization: Bearer {good}\r\n\r\n{head}\r\n");
    let statuses: Vec<u16> =
        exchange(&local, two.as_bytes()).await.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [200, 401]);
}
