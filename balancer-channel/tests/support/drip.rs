//! A stream that gives what it reads a few octets at a time, with a pause after each.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Fewer octets than any HTTP/2 frame has, so that no two arrive together.
const DROP: usize = 8;

/// A pipe whose octets drip.
pub(crate) struct Drip {
    pipe: DuplexStream,
    /// Whether the others have had their turn since the last drop.
    paused: bool,
}

impl Drip {
    pub(crate) fn new(pipe: DuplexStream) -> Self {
        let paused = false;
        Self { pipe, paused }
    }
}

impl AsyncRead for Drip {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.paused = !self.paused;
        if self.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut drop = [0; DROP];
        let room = buf.remaining().min(DROP);
        let mut drop = ReadBuf::new(&mut drop[..room]);
        let read = Pin::new(&mut self.pipe).poll_read(cx, &mut drop);
        buf.put_slice(drop.filled());
        // The next look need not be told to pause: there is nothing yet.
        self.paused = read.is_pending();
        read
    }
}

impl AsyncWrite for Drip {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
