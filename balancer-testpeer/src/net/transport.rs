//! What a connection runs over: a TCP socket, or anything that reads and writes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Anything a peer can speak over: a socket, a TLS stream, one end of a pipe.
///
/// Implemented for all that reads and writes; nobody implements it by name.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) struct Transport {
    inner: Inner,
    ends: Ends,
}

/// Shared by all connections of one server: whether the next drops are resets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(Arc<AtomicBool>);

enum Inner {
    Tcp(TcpStream),
    Other(Box<dyn Io>),
}

// === impl Ends ===

impl Ends {
    /// From now on, dropping a connection resets it (or no longer does).
    pub(crate) fn reset_on_drop(&self, reset: bool) {
        // Relaxed: the task that drops a connection is told to by a channel, which orders it.
        self.0.store(reset, Ordering::Relaxed);
    }
}

// === impl Transport ===

impl Transport {
    pub(crate) fn tcp(stream: TcpStream, ends: Ends) -> Self {
        // Frames of a test are small and must leave when they are sent. A socket that refuses is
        // already broken, and the next read says so.
        let _ = stream.set_nodelay(true);
        Self {
            inner: Inner::Tcp(stream),
            ends,
        }
    }

    pub(crate) fn other(io: Box<dyn Io>) -> Self {
        Self {
            inner: Inner::Other(io),
            ends: Ends::default(),
        }
    }

    /// Ends the connection with RST. Over anything but TCP this is an ordinary drop.
    pub(crate) fn reset(self) {
        self.linger_zero();
    }

    fn linger_zero(&self) {
        if let Inner::Tcp(stream) = &self.inner {
            // Closing a socket with a zero linger time sends RST and discards what is unsent.
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut dyn Io> {
        match &mut self.get_mut().inner {
            Inner::Tcp(stream) => Pin::new(stream),
            Inner::Other(io) => Pin::new(io),
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.ends.0.load(Ordering::Relaxed) {
            self.linger_zero();
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}
