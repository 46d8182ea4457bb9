//! A receiver of webhooks on loopback, for tests of the whole system: it records what comes in,
//! byte for byte, and responds as scripted, also as no well-behaved server would.
//!
//! Deliberately absent: TLS, chunked requests and pipelining.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::lock;

/// The most bytes of a request's head that are read.
const HEAD_BYTES: u64 = 64 * 1024;
/// The most bytes of a request's body that are read.
const BODY_BYTES: usize = 4 * 1024 * 1024;

/// One request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// `POST`, for a webhook.
    pub method: String,
    /// The path and the query.
    pub path: String,
    /// The headers in their order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The bytes of the body.
    pub body: Vec<u8>,
    /// When all of it had been read.
    pub at: Instant,
}

impl Received {
    /// The first header of this name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the receiver does with one request after it has read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    delay: Duration,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Writes these bytes; then the connection stays open for the next request, or is closed.
    Bytes { bytes: Vec<u8>, keep: bool },
    /// Writes these bytes and then nothing more, and keeps the connection open.
    Hang(Vec<u8>),
    /// Resets the connection.
    Reset,
}

impl Reply {
    /// An HTTP response with this status, these headers and this body.
    pub fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let mut lines = vec![format!("HTTP/1.1 {status} Scripted")];
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        // Such a response never has a body (RFC 9110, section 6.4.1).
        if status >= 200 && status != 204 && status != 304 {
            lines.push(format!("content-length: {}", body.len()));
        }
        let text = format!("{}\r\n\r\n{body}", lines.join("\r\n"));
        Self::now(End::Bytes { bytes: text.into_bytes(), keep: true })
    }

    /// An HTTP response with this status and an empty body.
    pub fn status(status: u16) -> Self {
        Self::response(status, &[], "")
    }

    /// A redirect (302) to another URL.
    pub fn redirect(to: &str) -> Self {
        Self::response(302, &[("location", to)], "")
    }

    /// These bytes and the end of the connection, whatever they mean.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::now(End::Bytes { bytes: bytes.into(), keep: false })
    }

    /// These bytes and then silence, on a connection that stays open.
    pub fn hang_after(bytes: impl Into<Vec<u8>>) -> Self {
        Self::now(End::Hang(bytes.into()))
    }

    /// Silence, on a connection that stays open.
    pub fn hang() -> Self {
        Self::hang_after(Vec::new())
    }

    /// A reset of the connection.
    pub fn reset() -> Self {
        Self::now(End::Reset)
    }

    /// The same, this much later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    fn now(end: End) -> Self {
        Self { delay: Duration::ZERO, end }
    }
}

/// A receiver of webhooks on loopback. It stops, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct FakeReceiver {
    address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    scripts: Mutex<Scripts>,
    received: Mutex<Vec<Received>>,
    arrival: Notify,
}

#[derive(Debug)]
struct Scripts {
    by_path: HashMap<String, VecDeque<Reply>>,
    otherwise: Otherwise,
}

type Rule = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

#[derive(Clone)]
enum Otherwise {
    Always(Reply),
    ByRule(Rule),
}

impl fmt::Debug for Otherwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(reply) => reply.fmt(f),
            Self::ByRule(_) => f.write_str("by a rule"),
        }
    }
}

impl FakeReceiver {
    /// Starts one on a free port. It returns 200 where nothing is scripted.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            scripts: Mutex::new(Scripts {
                by_path: HashMap::new(),
                otherwise: Otherwise::Always(Reply::status(200)),
            }),
            received: Mutex::default(),
            arrival: Notify::new(),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Responds to the next requests for this path (and query) in this way, one reply each.
    pub fn script(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut scripts = lock(&self.state.scripts);
        scripts.by_path.entry(path.to_owned()).or_default().extend(replies);
    }

    /// Responds to the next requests for this path (and query) with these statuses.
    pub fn statuses(&self, path: &str, statuses: &[u16]) {
        self.script(path, statuses.iter().map(|status| Reply::status(*status)));
    }

    /// Responds in this way where no script is left.
    pub fn otherwise(&self, reply: Reply) {
        lock(&self.state.scripts).otherwise = Otherwise::Always(reply);
    }

    /// Responds by this rule where no script is left.
    pub fn by_rule(&self, rule: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        lock(&self.state.scripts).otherwise = Otherwise::ByRule(Arc::new(rule));
    }

    /// What came in and was not taken yet, in order.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state.received).clone()
    }

    /// Takes everything that came in, in order.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut lock(&self.state.received))
    }

    /// Waits until at least `n` requests have come in that were not taken yet. Put a timeout
    /// around it where they may never come.
    pub async fn wait_for(&self, n: usize) -> Vec<Received> {
        loop {
            // The wait begins before the look, so that nothing arrives between them unseen.
            let mut arrival = std::pin::pin!(self.state.arrival.notified());
            arrival.as_mut().enable();
            let received = self.received();
            if received.len() >= n {
                return received;
            }
            arrival.await;
        }
    }
}

impl Drop for FakeReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn reply(&self, request: &Received) -> Reply {
        let otherwise = {
            let mut scripts = lock(&self.scripts);
            let scripted = scripts.by_path.get_mut(&request.path).and_then(VecDeque::pop_front);
            if let Some(reply) = scripted {
                return reply;
            }
            scripts.otherwise.clone()
        };
        match otherwise {
            Otherwise::Always(reply) => reply,
            Otherwise::ByRule(rule) => rule(request),
        }
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    // The set ends its connections when the server is stopped.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(converse(stream, Arc::clone(&state)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Reads requests and responds to them until one side closes the connection.
async fn converse(stream: TcpStream, state: Arc<State>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        let reply = state.reply(&request);
        lock(&state.received).push(request);
        state.arrival.notify_waiters();
        if !reply.delay.is_zero() {
            tokio::time::sleep(reply.delay).await;
        }
        match reply.end {
            End::Bytes { bytes, keep } => {
                stream.write_all(&bytes).await?;
                if !keep {
                    return stream.shutdown().await;
                }
            }
            End::Hang(bytes) => {
                stream.write_all(&bytes).await?;
                return std::future::pending().await;
            }
            End::Reset => return stream.into_inner().set_zero_linger(),
        }
    }
    Ok(())
}

/// The next request; `None` when the other side has closed the connection.
async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Received>> {
    let mut head = (&mut *stream).take(HEAD_BYTES);
    let Some(first) = line(&mut head).await? else { return Ok(None) };
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(no_http()) };
    let mut headers = Vec::new();
    loop {
        let line = line(&mut head).await?.ok_or_else(no_http)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(no_http)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut received = Received { method, path, headers, body: Vec::new(), at: Instant::now() };
    if received.header("transfer-encoding").is_some() {
        return Err(no_http());
    }
    if let Some(length) = received.header("content-length") {
        let length: usize = length.parse().map_err(|_| no_http())?;
        if length > BODY_BYTES {
            return Err(no_http());
        }
        received.body = vec![0; length];
        stream.read_exact(&mut received.body).await?;
        received.at = Instant::now();
    }
    Ok(Some(received))
}

/// The next line without its end; `None` at the end of the stream.
async fn line(
    stream: &mut tokio::io::Take<&mut BufReader<TcpStream>>,
) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if stream.read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    let bytes = bytes.strip_suffix(b"\r\n").ok_or_else(no_http)?;
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

fn no_http() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a request that this receiver reads")
}
