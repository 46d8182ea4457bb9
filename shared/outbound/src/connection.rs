//! A TCP connection to one of the addresses that were vetted, and a meter on what comes in.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, Join, Take};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::failure::Failed;

/// The bytes that one attempt may receive, TLS and interim responses included. It is far more than
/// a response within the other limits takes; behind it the connection counts as ended.
pub const RECEIVED_BYTES_MAX: u64 = 1024 * 1024;
/// How long an address is tried before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// A connection that ends when it has received too much.
pub(crate) type Stream = Join<Take<OwnedReadHalf>, OwnedWriteHalf>;

/// Connects to the first of the addresses that answers.
pub(crate) async fn open(addresses: &[SocketAddr]) -> Result<Stream, Failed> {
    let stream = connect(addresses).await.map_err(|error| Failed::unconnected(&error))?;
    // The request is written at once. This only spares it a wait, so that it may fail.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    Ok(tokio::io::join(reader.take(RECEIVED_BYTES_MAX), writer))
}

#[expect(clippy::disallowed_methods, reason = "the one way out: every address here was vetted")]
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut trying = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        trying.extend(waiting.next().map(|address| TcpStream::connect(*address)));
        tokio::select! {
            Some(tried) = trying.next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => first_error = first_error.or(Some(error)),
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => {}
            else => return Err(first_error.unwrap_or_else(|| io::ErrorKind::NotFound.into())),
        }
    }
}
