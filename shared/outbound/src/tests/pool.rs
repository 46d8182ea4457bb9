//! Connections are reused where that is safe, and their number and age are bounded.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use webhooks_core::outbound::Failure;
use webhooks_core::target::TargetPolicy;

use super::name_server::NameServer;
use super::receiver::{OK, Receiver};
use super::{development, failure, post, status};
use crate::{CONNECTIONS_MAX, GuardedClient};

#[tokio::test]
async fn connection_is_reused() {
    let (receiver, mut requests) = Receiver::keeping_alive().await;
    let client = development();
    for _ in 0..CONNECTIONS_MAX + 5 {
        assert_eq!(status(&post(&client, &receiver.url()).await), Some(200));
        assert!(requests.recv().await.unwrap().is_some());
    }
    assert_eq!(receiver.connections(), 1);
}

/// A frozen Lambda function does not see the endpoint close its connections. The server runs on a
/// thread of its own, and this test's thread, which is the client's, sleeps meanwhile.
#[tokio::test]
async fn connection_that_was_closed_while_frozen_is_replaced_without_a_second_post() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut requests = 0;
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                let mut part = [0; 4096];
                let read = stream.read(&mut part).unwrap();
                request.extend(&part[..read]);
            }
            requests += request.windows(5).filter(|window| window == b"POST ").count();
            stream.write_all(OK.as_bytes()).unwrap();
        }
        requests
    });
    let client = development();
    assert_eq!(status(&post(&client, &url).await), Some(200));
    std::thread::sleep(Duration::from_millis(200));
    let outcome = post(&client, &url).await;
    assert_eq!(status(&outcome), Some(200), "{outcome:?}");
    assert_eq!(server.join().unwrap(), 2, "each delivery is one POST");
}

#[tokio::test]
async fn connection_that_closes_after_the_request_was_sent_is_one_failed_attempt() {
    let (sender, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Receiver::start(move |mut stream| {
        let sender = sender.clone();
        async move {
            use tokio::io::AsyncWriteExt as _;
            sender.send(super::receiver::read_request(&mut stream).await).unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            sender.send(super::receiver::read_request(&mut stream).await).unwrap();
        }
    })
    .await;
    let client = development();
    assert_eq!(status(&post(&client, &receiver.url()).await), Some(200));
    let outcome = post(&client, &receiver.url()).await;
    assert_eq!(failure(&outcome), Some(Failure::Protocol), "{outcome:?}");
    assert_eq!(receiver.connections(), 1);
    assert!(requests.recv().await.is_some() && requests.recv().await.is_some());
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let (receiver, mut requests) = Receiver::keeping_alive().await;
    let client = development();
    assert_eq!(status(&post(&client, &receiver.url()).await), Some(200));
    assert!(requests.recv().await.unwrap().is_some());
    let idle = Instant::now();
    assert_eq!(requests.recv().await.unwrap(), None);
    let idle = idle.elapsed().as_secs_f64();
    assert!((3.5..10.0).contains(&idle), "{idle} s");
}

#[tokio::test]
async fn connections_to_all_hosts_together_are_bounded() {
    let server = NameServer::start().await;
    let (receiver, mut requests) = Receiver::keeping_alive().await;
    let client =
        GuardedClient::with_name_servers(TargetPolicy::Development, &[server.address]).unwrap();
    let hosts = CONNECTIONS_MAX + 20;
    for host in 0..hosts {
        server.set(&format!("host-{host}.test"), "A 127.0.0.1");
        let url = format!("http://host-{host}.test:{}/", receiver.address.port());
        assert_eq!(status(&post(&client, &url).await), Some(200), "{host}");
    }
    assert_eq!(receiver.connections(), hosts);
    // The first pool has been closed with all its connections.
    let mut closed = 0;
    while closed < CONNECTIONS_MAX {
        closed += usize::from(requests.recv().await.unwrap().is_none());
    }
}
