//! A receiver that handles each connection as a test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// An empty response after which the connection can be used again.
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Listens on a port of its own for as long as the test's runtime lives.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    /// Hands each connection to `handle`.
    pub(super) async fn start<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), handle)
    }

    pub(super) fn listen<F>(
        listener: TcpListener,
        handle: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(handle(stream));
            }
        });
        Self { address, connections }
    }

    /// Reads each request, answers it with the same bytes and closes the connection.
    pub(super) async fn responding(response: impl Into<Vec<u8>>) -> Self {
        let response = Arc::new(response.into());
        Self::start(move |stream| respond(stream, Arc::clone(&response))).await
    }

    /// Responds with `response`, and hands over each request it reads.
    pub(super) async fn recording(
        response: &'static str,
    ) -> (Self, mpsc::UnboundedReceiver<String>) {
        let (sender, requests) = mpsc::unbounded_channel();
        let receiver = Self::start(move |mut stream| {
            let sender = sender.clone();
            async move {
                sender.send(read_request(&mut stream).await).unwrap();
                stream.write_all(response.as_bytes()).await.unwrap();
            }
        });
        (receiver.await, requests)
    }

    /// Responds to every request on a connection with an empty 200 and keeps the connection open. Hands
    /// over each request it reads, and `None` when the client closes a connection.
    pub(super) async fn keeping_alive() -> (Self, mpsc::UnboundedReceiver<Option<String>>) {
        let (sender, events) = mpsc::unbounded_channel();
        let receiver = Self::start(move |mut stream| {
            let sender = sender.clone();
            async move {
                while stream.readable().await.is_ok()
                    && !matches!(stream.peek(&mut [0]).await, Ok(0) | Err(_))
                {
                    let _ = sender.send(Some(read_request(&mut stream).await));
                    stream.write_all(OK.as_bytes()).await.unwrap();
                }
                let _ = sender.send(None);
            }
        });
        (receiver.await, events)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn respond(mut stream: TcpStream, response: Arc<Vec<u8>>) {
    read_request(&mut stream).await;
    // The client may have closed the connection, which the test notices.
    let _ = stream.write_all(&response).await;
}

/// Reads one request to the end of its body.
pub(super) async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !is_complete(&request) {
        let read = stream.read_buf(&mut request).await.unwrap();
        assert!(read > 0, "the request ends early");
    }
    String::from_utf8(request).unwrap()
}

fn is_complete(request: &[u8]) -> bool {
    let Some((head, body)) = std::str::from_utf8(request).unwrap().split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() == length.map_or(0, |length| length.parse().unwrap())
}
