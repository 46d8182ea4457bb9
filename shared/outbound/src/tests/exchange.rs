//! What is sent, and the outcome of each kind of response.

use std::process::{Command, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use webhooks_core::outbound::{Failure, Outcome, RetryAfter};
use webhooks_core::ports::Sender;
use webhooks_core::time::Timestamp;

use super::receiver::{Receiver, read_request};
use super::{AMPLE, development, excerpt, failure, post, request, status};

#[tokio::test]
async fn request_is_sent_as_given() {
    let (receiver, mut requests) =
        Receiver::recording("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let mut given = request(&receiver.url(), AMPLE);
    given.headers = vec![
        ("content-type", "application/json".to_owned()),
        ("user-agent", "webhooks/1".to_owned()),
        ("webhook-signature", "v1,a v1,b".to_owned()),
    ];
    given.owner_headers = vec![("x-key".parse().unwrap(), "a key".parse().unwrap())];
    given.body = r#"{"data":"\u00fc"}"#.to_owned();
    let outcome = development().post(given).await.outcome;
    assert_eq!(
        outcome,
        Outcome::Response { status: 200, retry_after: None, excerpt: "ok".to_owned() }
    );
    let sent = requests.recv().await.unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, r#"{"data":"\u00fc"}"#);
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /hook HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept-encoding: identity",
            "accept: */*",
            "content-length: 17",
            "content-type: application/json",
            format!("host: {}", receiver.address).as_str(),
            "user-agent: webhooks/1",
            "webhook-signature: v1,a v1,b",
            "x-key: a key",
        ]
    );
}

/// The test above, in a process whose environment names a proxy at which nobody listens.
#[test]
fn proxies_of_the_environment_are_ignored() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "tests::exchange::request_is_sent_as_given"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, "http://127.0.0.1:1").env(name.to_lowercase(), "http://127.0.0.1:1");
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy").stdout(Stdio::piped());
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn every_status_is_a_response() {
    for code in [200, 201, 204, 304, 400, 404, 410, 429, 500, 503, 599, 999] {
        let receiver = Receiver::responding(format!("HTTP/1.1 {code} X\r\n\r\n")).await;
        assert_eq!(status(&post(&development(), &receiver.url()).await), Some(code));
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere = Receiver::responding("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for code in [301, 302, 303, 307, 308] {
        let response = format!("HTTP/1.1 {code} X\r\nlocation: {}\r\n\r\n", elsewhere.url());
        let receiver = Receiver::responding(response).await;
        assert_eq!(status(&post(&development(), &receiver.url()).await), Some(code));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn retry_after_is_read() {
    let date = RetryAfter::At(Timestamp::from_millis(784_111_777_000));
    for (value, expected) in [
        ("120", Some(RetryAfter::Seconds(120))),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(date)),
        ("soon", None),
        ("\u{fc}", None),
    ] {
        let receiver =
            Receiver::responding(format!("HTTP/1.1 503 X\r\nretry-after: {value}\r\n\r\n")).await;
        let outcome = post(&development(), &receiver.url()).await;
        let Outcome::Response { retry_after, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(retry_after, expected, "{value}");
    }
}

#[tokio::test]
async fn closed_port_is_a_connect_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let outcome = post(&development(), &url).await;
    assert_eq!(
        outcome,
        Outcome::NoResponse {
            failure: Failure::Connect,
            detail: "The connection was refused.".to_owned()
        }
    );
}

#[tokio::test]
async fn malformed_response_is_a_protocol_failure() {
    for response in [
        "",
        "\0\u{1}\u{2}\u{3}\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n123456",
        "HTTP/1.1 200 OK\r\ncontent-type: text",
        "HTTP/2.0 200 OK\r\n\r\n",
    ] {
        let receiver = Receiver::responding(response).await;
        let outcome = post(&development(), &receiver.url()).await;
        assert_eq!(failure(&outcome), Some(Failure::Protocol), "{response:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn reset_before_the_head_is_complete_is_a_protocol_failure() {
    let receiver = Receiver::start(move |mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let outcome = post(&development(), &receiver.url()).await;
    assert_eq!(failure(&outcome), Some(Failure::Protocol), "{outcome:?}");
}

#[tokio::test]
async fn complete_head_decides_when_the_body_is_cut() {
    for (head, body) in [
        ("content-length: 100", "short"),
        ("transfer-encoding: chunked", "5\r\nshort\r\n"),
        ("transfer-encoding: chunked", "5\r\nshort\r\nnumber\r\n"),
    ] {
        for (status, retry_after) in [(200, None), (429, Some(RetryAfter::Seconds(7)))] {
            let wait = retry_after.map_or("", |_| "retry-after: 7\r\n");
            let response = format!("HTTP/1.1 {status} X\r\n{wait}{head}\r\n\r\n{body}");
            let receiver = Receiver::responding(response).await;
            let expected = Outcome::Response { status, retry_after, excerpt: "short".to_owned() };
            assert_eq!(post(&development(), &receiver.url()).await, expected, "{head}");
        }
    }
}

#[tokio::test]
async fn folded_header_lines_are_unfolded() {
    let receiver = Receiver::responding(
        "HTTP/1.1 503 X\r\nx-note: one\r\n two\r\nretry-after:\r\n\t 120\r\n\r\n",
    )
    .await;
    let retry_after = Some(RetryAfter::Seconds(120));
    let expected = Outcome::Response { status: 503, retry_after, excerpt: String::new() };
    assert_eq!(post(&development(), &receiver.url()).await, expected);
}

#[tokio::test]
async fn body_that_ends_with_the_connection_is_complete() {
    let receiver = Receiver::responding("HTTP/1.0 200 OK\r\n\r\nall there is").await;
    let outcome = post(&development(), &receiver.url()).await;
    assert_eq!(excerpt(&outcome), "all there is");
}

#[tokio::test]
async fn informational_response_is_skipped() {
    let receiver = Receiver::responding(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    )
    .await;
    assert_eq!(status(&post(&development(), &receiver.url()).await), Some(204));
}

#[tokio::test]
async fn switching_protocols_is_no_success() {
    let receiver = Receiver::responding(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    )
    .await;
    let outcome = post(&development(), &receiver.url()).await;
    assert!(status(&outcome) == Some(101) || failure(&outcome) == Some(Failure::Protocol));
}

#[tokio::test]
async fn header_that_cannot_be_sent_is_a_protocol_failure() {
    let receiver = Receiver::responding("HTTP/1.1 200 OK\r\n\r\n").await;
    let mut given = request(&receiver.url(), AMPLE);
    given.headers.push(("x-bad", "a\r\nhost: b".to_owned()));
    let outcome = development().post(given).await.outcome;
    assert_eq!(failure(&outcome), Some(Failure::Protocol));
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn every_accepted_url_can_be_sent() {
    let (receiver, mut requests) = Receiver::recording("HTTP/1.1 204 X\r\n\r\n").await;
    let printable: String = ('!'..='~').filter(|c| !['#', '\\'].contains(c)).collect();
    let url = format!("{}/{printable}ü?{printable}ü", receiver.url());
    let outcome = post(&development(), &url).await;
    assert_eq!(status(&outcome), Some(204), "{outcome:?}");
    assert!(requests.recv().await.unwrap().starts_with("POST /hook/!"));
}
