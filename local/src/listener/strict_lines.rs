//! Refuses heads whose lines end in a bare LF.
//!
//! hyper accepts them; API Gateway and most proxies do not, and two servers that read one request
//! differently are how requests are smuggled. Here such an LF becomes a NUL, which hyper refuses
//! with 400.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that checks the line endings of the heads that are read from it.
pub(super) struct StrictLines<S> {
    stream: S,
    part: Part,
    /// The line of the head that is being read.
    line: Vec<u8>,
    /// What follows the head.
    body: Part,
}

#[derive(Clone, Copy)]
enum Part {
    Head,
    /// So many bytes, then the next head.
    Body(u64),
    /// A body without a `content-length`; the listener reads no head after it.
    Rest,
}

impl<S> StrictLines<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, part: Part::Head, line: Vec::new(), body: Part::Head }
    }

    fn check(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            match self.part {
                Part::Head => {
                    self.check_head(&mut bytes[0]);
                    bytes = &mut bytes[1..];
                }
                Part::Body(left) => {
                    let skipped = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    bytes = &mut bytes[skipped..];
                    let left = left - skipped as u64;
                    self.part = if left == 0 { Part::Head } else { Part::Body(left) };
                }
                Part::Rest => return,
            }
        }
    }

    fn check_head(&mut self, byte: &mut u8) {
        if *byte != b'\n' {
            // hyper refuses a head that is longer than it may be; so must not this buffer grow.
            if self.line.len() < super::HEAD_BYTES {
                self.line.push(*byte);
            }
            return;
        }
        let Some(line) = self.line.strip_suffix(b"\r") else {
            *byte = 0;
            return;
        };
        if line.is_empty() {
            self.part = std::mem::replace(&mut self.body, Part::Head);
        } else if let Some(length) = value(line, "content-length") {
            // hyper refuses a length that is no number.
            if let (Part::Head, Ok(length @ 1..)) = (self.body, length.parse()) {
                self.body = Part::Body(length);
            }
        } else if value(line, "transfer-encoding").is_some() {
            self.body = Part::Rest;
        }
        self.line.clear();
    }
}

fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a str> {
    let (given, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    given.eq_ignore_ascii_case(name).then_some(value.trim())
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictLines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.check(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictLines<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
