//! Time and bytes are bounded, whatever the receiver does.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use webhooks_core::limits::RESPONSE_KEEP_BYTES;
use webhooks_core::outbound::{Failure, Outcome, RetryAfter};

use super::receiver::{Receiver, read_request};
use super::{development, excerpt, failure, post, post_past_deadline, status};

/// Starts a receiver that sends `first`, then `drip` again and again for as long as it can.
async fn dripping(first: &'static str, drip: &'static str, pause: Duration) -> Receiver {
    Receiver::start(move |mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(first.as_bytes()).await.unwrap();
        while stream.write_all(drip.as_bytes()).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    })
    .await
}

/// Starts a receiver that sends `first`, then `flood` again and again as fast as it can.
async fn flooding(first: &'static str, flood: &'static str) -> Receiver {
    Receiver::start(move |mut stream| async move {
        let flood = flood.repeat(1000);
        read_request(&mut stream).await;
        stream.write_all(first.as_bytes()).await.unwrap();
        while stream.write_all(flood.as_bytes()).await.is_ok() {}
    })
    .await
}

const PAUSE: Duration = Duration::from_millis(10);
const FOREVER: Duration = Duration::from_hours(1);

#[tokio::test]
async fn head_that_stalls_is_a_timeout() {
    for (first, drip, pause) in [
        ("", "", FOREVER),
        ("HTTP/1.1 200 OK\r\n", "", FOREVER),
        ("HTTP/1.1 200 OK\r\nx: ", "y", PAUSE),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", PAUSE),
    ] {
        let receiver = dripping(first, drip, pause).await;
        let outcome = post_past_deadline(&development(), &receiver.url()).await;
        assert_eq!(failure(&outcome), Some(Failure::Timeout), "{outcome:?}");
    }
}

#[tokio::test]
async fn complete_head_decides_when_the_body_stalls() {
    for (first, drip, pause) in [
        ("HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-length: 100000\r\n\r\nz", "", FOREVER),
        ("HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-length: 100000\r\n\r\n", "z", PAUSE),
        ("HTTP/1.1 429 X\r\nretry-after: 7\r\n\r\n", "z", PAUSE),
        (
            "HTTP/1.1 429 X\r\nretry-after: 7\r\ntransfer-encoding: chunked\r\n\r\n",
            "1\r\nz\r\n",
            PAUSE,
        ),
    ] {
        let receiver = dripping(first, drip, pause).await;
        let outcome = post_past_deadline(&development(), &receiver.url()).await;
        let Outcome::Response { status: 429, retry_after, excerpt } = outcome else {
            panic!("{first:?}: {outcome:?}")
        };
        assert_eq!(retry_after, Some(RetryAfter::Seconds(7)));
        assert!(!excerpt.is_empty() && excerpt.bytes().all(|byte| byte == b'z'), "{excerpt:?}");
    }
}

#[tokio::test]
async fn tls_handshake_that_stalls_is_a_timeout() {
    // A handshake record of 16 KiB is announced, and comes byte by byte, or not at all.
    for drip in ["", "z"] {
        let receiver = Receiver::start(move |mut stream| async move {
            stream.write_all(&[0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc]).await.unwrap();
            while stream.write_all(drip.as_bytes()).await.is_ok() {
                tokio::time::sleep(PAUSE).await;
            }
        })
        .await;
        let url = format!("https://{}/", receiver.address);
        let outcome = post_past_deadline(&development(), &url).await;
        assert_eq!(failure(&outcome), Some(Failure::Timeout), "{outcome:?}");
    }
}

#[tokio::test]
async fn endless_body_is_read_in_part_and_its_connection_closed() {
    let (sender, mut closed) = mpsc::unbounded_channel();
    let receiver = Receiver::start(move |mut stream| {
        let sender = sender.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'a'; 8192]).await.is_ok() {}
            sender.send(()).unwrap();
        }
    })
    .await;
    let client = development();
    let outcome = post(&client, &receiver.url()).await;
    assert_eq!(status(&outcome), Some(200));
    assert_eq!(excerpt(&outcome), "a".repeat(RESPONSE_KEEP_BYTES));
    closed.recv().await.unwrap();
}

#[tokio::test]
async fn long_body_counts_by_its_status() {
    let body = "b".repeat(10 << 20);
    let head = format!("HTTP/1.1 500 X\r\ncontent-length: {}\r\n\r\n", body.len());
    let receiver = Receiver::responding(head + &body).await;
    assert_eq!(status(&post(&development(), &receiver.url()).await), Some(500));
}

#[tokio::test]
async fn excerpt_is_cut_at_a_character() {
    for offset in 0..4 {
        let prefix = "a".repeat(RESPONSE_KEEP_BYTES - offset);
        for (tail, kept) in [("\u{1f980}\u{1f980}", ""), ("aaa\u{1f980}", &"aaa"[..offset.min(3)])]
        {
            let body = format!("{prefix}{tail}");
            let receiver = Receiver::responding(format!("HTTP/1.1 200 OK\r\n\r\n{body}")).await;
            let outcome = post(&development(), &receiver.url()).await;
            assert_eq!(excerpt(&outcome), format!("{prefix}{kept}"), "{offset}");
        }
    }
}

#[tokio::test]
async fn excerpt_shows_text_and_names_what_is_not_text() {
    const NO_TEXT: &str = "[body that is not UTF-8 text]";
    for (body, expected) in [
        (&b"plain\ttext\r\n"[..], "plain\ttext\r\n"),
        (b"", ""),
        // Text in Latin-1 is still readable.
        (b"Zugriff verweigert f\xfcr Benutzer", "Zugriff verweigert f\u{fffd}r Benutzer"),
        (&[0xff; RESPONSE_KEEP_BYTES], NO_TEXT),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", NO_TEXT),
        // Japanese in Shift JIS.
        (b"\x93\xfa\x96\x7b\x8c\xea", NO_TEXT),
    ] {
        let mut response = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        response.extend(body);
        let receiver = Receiver::responding(response).await;
        let outcome = post(&development(), &receiver.url()).await;
        assert_eq!(excerpt(&outcome), expected, "{body:?}");
    }
}

#[tokio::test]
async fn encoded_body_is_not_decompressed_and_its_excerpt_names_the_encoding() {
    // A complete gzip file, under every name that a client could decompress.
    let packed = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x4c, 0x04, 0];
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let mut response =
            format!("HTTP/1.1 500 X\r\ncontent-encoding: {encoding}\r\n\r\n").into_bytes();
        response.extend(packed);
        let receiver = Receiver::responding(response).await;
        let outcome = post(&development(), &receiver.url()).await;
        assert_eq!(excerpt(&outcome), format!("[body with content-encoding {encoding}]"));
    }
    let receiver =
        Receiver::responding("HTTP/1.1 500 X\r\ncontent-encoding: identity\r\n\r\ntext").await;
    assert_eq!(excerpt(&post(&development(), &receiver.url()).await), "text");
}

/// A head whose size, as the limit counts it, is `size`.
fn head_of(size: usize) -> String {
    let lines = 16;
    let value = size / lines - 1 - 32;
    let rest = size - lines * (1 + value + 32);
    let mut head = "HTTP/1.1 410 Nope\r\ncontent-length: 0\r\n".to_owned();
    // The reason phrase, `content-length: 0` and its overhead.
    let other = 4 + 15 + 32;
    for line in 0..lines {
        let length = if line == 0 { value + rest - other } else { value };
        head.extend(["x:", &"y".repeat(length), "\r\n"]);
    }
    head + "\r\n"
}

#[tokio::test]
async fn head_is_bounded_in_number_and_size() {
    let many = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(count));
    let wordy = |size| format!("HTTP/1.1 200 {}\r\n\r\n", "K".repeat(size));
    for (response, passes) in [
        (many(crate::RESPONSE_HEADERS_MAX), true),
        (many(crate::RESPONSE_HEADERS_MAX + 1), false),
        (wordy(crate::RESPONSE_HEAD_BYTES_MAX), true),
        (wordy(crate::RESPONSE_HEAD_BYTES_MAX + 1), false),
        (wordy(10 << 20), false),
    ] {
        let receiver = Receiver::responding(response).await;
        let outcome = post(&development(), &receiver.url()).await;
        let expected = (!passes).then_some(Failure::Protocol);
        assert_eq!(failure(&outcome), expected, "{outcome:?}");
    }
}

#[tokio::test]
async fn head_limit_is_the_same_however_the_head_is_split() {
    const LIMIT: usize = crate::RESPONSE_HEAD_BYTES_MAX;
    for (size, passes) in [(40_000, true), (LIMIT, true), (LIMIT + 1, false), (4 * LIMIT, false)] {
        for packet in [700, 1 << 15, 1 << 20] {
            let head = head_of(size);
            let receiver = Receiver::start(move |mut stream| {
                let head = head.clone();
                async move {
                    stream.set_nodelay(true).unwrap();
                    read_request(&mut stream).await;
                    for part in head.as_bytes().chunks(packet) {
                        stream.write_all(part).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                }
            })
            .await;
            let outcome = post(&development(), &receiver.url()).await;
            let expected = if passes { (Some(410), None) } else { (None, Some(Failure::Protocol)) };
            assert_eq!((status(&outcome), failure(&outcome)), expected, "{size} by {packet}");
        }
    }
}

/// hyper limits these to 16 KiB; the head is complete, so the status counts.
#[tokio::test]
async fn endless_trailers_and_chunk_extensions_end_the_body() {
    for (first, flood) in [
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "x: y\r\n"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "1;an-extension=of-a-chunk\r\nz\r\n",
        ),
    ] {
        let receiver = flooding(first, flood).await;
        let outcome = post(&development(), &receiver.url()).await;
        assert_eq!(status(&outcome), Some(200), "{flood:?}: {outcome:?}");
    }
}

/// reqwest cannot limit interim responses: the deadline ends them. Meanwhile they take no memory,
/// and other deliveries on the same thread continue. The receiver has a thread of its own.
#[tokio::test]
async fn endless_interim_responses_end_at_the_deadline_in_bounded_memory() {
    let client = development();
    let other = Receiver::responding("HTTP/1.1 204 X\r\n\r\n").await;
    for flood in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"]
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let sent = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            // A response that comes before the request ends the connection immediately.
            assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
            let flood = flood.repeat(1000);
            let mut sent = 0;
            while stream.write_all(flood.as_bytes()).is_ok() {
                sent += flood.len();
            }
            sent
        });
        let before = resident_bytes();
        let deliveries = async {
            for _ in 0..3 {
                assert_eq!(status(&post(&client, &other.url()).await), Some(204));
            }
        };
        let (outcome, ()) = tokio::join!(post_past_deadline(&client, &url), deliveries);
        assert_eq!(failure(&outcome), Some(Failure::Timeout), "{outcome:?}");
        // Other tests run beside this one.
        let grown = resident_bytes().saturating_sub(before);
        let sent = tokio::task::spawn_blocking(|| sent.join().unwrap()).await.unwrap();
        assert!(grown < 32 << 20, "{grown} bytes more, {sent} sent");
    }
}

#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Only Linux tells.
#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> usize {
    0
}
