//! Time and bytes are bounded, whatever the receiver does.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use webhooks_core::limits::RESPONSE_KEEP_BYTES;
use webhooks_core::outbound::Failure;

use super::receiver::{Receiver, read_request};
use super::{assert_cut_off, development, excerpt, failure, post, status};

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

#[tokio::test]
async fn the_deadline_covers_all_of_the_response() {
    const PAUSE: Duration = Duration::from_millis(10);
    const FOREVER: Duration = Duration::from_hours(1);
    for (first, drip, pause) in [
        ("", "", FOREVER),
        ("HTTP/1.1 200 OK\r\n", "", FOREVER),
        ("HTTP/1.1 200 OK\r\nx: ", "y", PAUSE),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", PAUSE),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", "z", PAUSE),
        ("HTTP/1.1 200 OK\r\n\r\n", "z", PAUSE),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\nz\r\n", PAUSE),
    ] {
        let receiver = dripping(first, drip, pause).await;
        assert_cut_off(&development(), &receiver.url()).await;
    }
}

#[tokio::test]
async fn the_deadline_covers_the_tls_handshake() {
    // A handshake record of 16 KiB is announced, and comes byte by byte, or not at all.
    for drip in ["", "z"] {
        let receiver = Receiver::start(move |mut stream| async move {
            stream.write_all(&[0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc]).await.unwrap();
            while stream.write_all(drip.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_cut_off(&development(), &format!("https://{}/", receiver.address)).await;
    }
}

#[tokio::test]
async fn of_an_endless_body_a_part_is_read_and_the_connection_dropped() {
    let (sender, mut hung_up) = mpsc::unbounded_channel();
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
    let outcome = post(&development(), &receiver.url()).await;
    assert_eq!(status(&outcome), Some(200));
    assert_eq!(excerpt(&outcome), "a".repeat(RESPONSE_KEEP_BYTES));
    hung_up.recv().await.unwrap();
}

#[tokio::test]
async fn a_long_body_counts_by_its_status() {
    let body = "b".repeat(10 << 20);
    let head = format!("HTTP/1.1 500 X\r\ncontent-length: {}\r\n\r\n", body.len());
    let receiver = Receiver::answering(head + &body).await;
    assert_eq!(status(&post(&development(), &receiver.url()).await), Some(500));
}

#[tokio::test]
async fn the_excerpt_is_cut_at_a_character() {
    for offset in 0..4 {
        let prefix = "a".repeat(RESPONSE_KEEP_BYTES - offset);
        for (tail, kept) in [("\u{1f980}\u{1f980}", ""), ("aaa\u{1f980}", &"aaa"[..offset.min(3)])]
        {
            let body = format!("{prefix}{tail}");
            let receiver = Receiver::answering(format!("HTTP/1.1 200 OK\r\n\r\n{body}")).await;
            let outcome = post(&development(), &receiver.url()).await;
            assert_eq!(excerpt(&outcome), format!("{prefix}{kept}"), "{offset}");
        }
    }
}

#[tokio::test]
async fn what_is_not_utf8_is_replaced_and_stays_within_the_limit() {
    let mut response = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    response.extend([0xff; RESPONSE_KEEP_BYTES]);
    let receiver = Receiver::answering(response).await;
    let outcome = post(&development(), &receiver.url()).await;
    assert_eq!(excerpt(&outcome), "\u{fffd}".repeat(RESPONSE_KEEP_BYTES / 3));
}

#[tokio::test]
async fn nothing_is_decompressed() {
    // What any decompressor would begin to unfold, under every name there is for it.
    let packed = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x4c, 0x04, 0];
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let mut response =
            format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\n\r\n").into_bytes();
        response.extend(packed);
        let receiver = Receiver::answering(response).await;
        let outcome = post(&development(), &receiver.url()).await;
        assert_eq!(excerpt(&outcome), String::from_utf8_lossy(&packed), "{encoding}");
    }
}

#[tokio::test]
async fn the_head_is_bounded_in_number_and_size() {
    let many = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(count));
    let long = |size| format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(size));
    let wordy = |size| format!("HTTP/1.1 200 {}\r\n\r\n", "K".repeat(size));
    let sizeable = format!("x: {}\r\n", "y".repeat(1 << 10)).repeat(70);
    for (response, passes) in [
        (many(crate::RESPONSE_HEADERS_MAX), true),
        (many(crate::RESPONSE_HEADERS_MAX + 1), false),
        (long(30 << 10), true),
        (long(crate::RESPONSE_HEAD_BYTES_MAX), false),
        (wordy(30 << 10), true),
        (wordy(crate::RESPONSE_HEAD_BYTES_MAX), false),
        (format!("HTTP/1.1 200 OK\r\n{sizeable}\r\n"), false),
    ] {
        let receiver = Receiver::answering(response).await;
        let outcome = post(&development(), &receiver.url()).await;
        let expected = (!passes).then_some(Failure::Protocol);
        assert_eq!(failure(&outcome), expected, "{outcome:?}");
    }
}

/// What none of the other limits counts: it ends long before the deadline.
#[tokio::test]
async fn all_that_comes_is_bounded() {
    for (first, flood) in [
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "x: y\r\n"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "1;an-extension=of-a-chunk\r\nz\r\n",
        ),
    ] {
        let receiver = flooding(first, flood).await;
        let outcome = post(&development(), &receiver.url()).await;
        assert_eq!(failure(&outcome), Some(Failure::Protocol), "{flood:?}: {outcome:?}");
    }
}
