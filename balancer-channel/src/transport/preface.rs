//! The client's preface leaves together with the SETTINGS behind it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that holds the first write back until the second one, or a flush: `h2` writes its
/// preface by itself, and with Nagle's algorithm off that is a packet of 24 bytes, on its way through
/// both machines. With a thousand backends to connect to it is a third of all packets that are sent.
#[derive(Debug)]
pub(super) struct Together<T> {
    io: T,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing was written.
    Before,
    /// Of the preface so much has still to leave.
    Held(&'static [u8]),
    /// It has left, or what was written is no preface.
    Behind,
}

/// As in RFC 9113, 3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The preface, and the frames that are behind it as a rule.
const ROOM: usize = 256;

// === impl Together ===

impl<T> Together<T> {
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            state: State::Before,
        }
    }
}

impl<T: AsyncWrite + Unpin> Together<T> {
    /// Writes the preface's rest and what there is room for of `next`. Says how much of that left.
    #[inline]
    fn poll_start(&mut self, cx: &mut Context<'_>, next: &[u8]) -> Poll<io::Result<usize>> {
        match self.state {
            State::Held(_) => self.poll_held(cx, next),
            State::Before | State::Behind => Poll::Ready(Ok(0)),
        }
    }

    #[cold]
    fn poll_held(&mut self, cx: &mut Context<'_>, next: &[u8]) -> Poll<io::Result<usize>> {
        while let State::Held(rest) = &mut self.state {
            let mut both = [0; ROOM];
            let with = next.len().min(ROOM - rest.len());
            both[..rest.len()].copy_from_slice(rest);
            both[rest.len()..rest.len() + with].copy_from_slice(&next[..with]);
            let both = &both[..rest.len() + with];
            let taken = ready!(Pin::new(&mut self.io).poll_write(cx, both))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if taken < rest.len() {
                *rest = &rest[taken..];
                continue;
            }
            let of_next = taken - rest.len();
            self.state = State::Behind;
            if of_next > 0 {
                return Poll::Ready(Ok(of_next));
            }
        }
        Poll::Ready(Ok(0))
    }

    #[cold]
    fn poll_first(&mut self, cx: &mut Context<'_>, next: &[u8]) -> Poll<io::Result<usize>> {
        if matches!(self.state, State::Before) {
            if next == PREFACE {
                self.state = State::Held(PREFACE);
                return Poll::Ready(Ok(next.len()));
            }
            self.state = State::Behind;
        }
        match ready!(self.poll_start(cx, next))? {
            0 => Pin::new(&mut self.io).poll_write(cx, next),
            left => Poll::Ready(Ok(left)),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Together<T> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Together<T> {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.state {
            State::Behind => Pin::new(&mut self.io).poll_write(cx, buf),
            _ => self.poll_first(cx, buf),
        }
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.state {
            State::Behind => Pin::new(&mut self.io).poll_write_vectored(cx, bufs),
            _ => {
                let first = bufs.iter().find(|buf| !buf.is_empty());
                self.poll_first(cx, first.map_or(&[], |buf| buf))
            }
        }
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_start(cx, &[]))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_start(cx, &[]))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
