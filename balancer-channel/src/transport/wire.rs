//! The byte stream under a connection, with a watch on what passes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    shared::Shared,
    sniff::{ReadSniffer, WriteSniffer},
};

/// `io`, whose traffic and failures are reported to the connection's [`Shared`] state.
#[derive(Debug)]
pub(super) struct Wire<T> {
    io: T,
    reads: ReadSniffer,
    writes: WriteSniffer,
    shared: Arc<Shared>,
}

// === impl Wire ===

impl<T> Wire<T> {
    pub(super) fn new(io: T, shared: Arc<Shared>) -> Self {
        Self {
            io,
            reads: ReadSniffer::new(),
            writes: WriteSniffer::new(),
            shared,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let room = buf.remaining();
        if let Err(error) = ready!(Pin::new(&mut this.io).poll_read(cx, buf)) {
            this.shared.io_failed(&error);
            return Poll::Ready(Err(error));
        }
        let read = &buf.filled()[before..];
        if read.is_empty() {
            if room > 0 {
                this.shared.read_ended(this.reads.partial_first_frame());
            }
            return Poll::Ready(Ok(()));
        }
        let shared = &this.shared;
        shared.count_read();
        let mut refused = Ok(());
        this.reads.read(read, |event| {
            if refused.is_ok() {
                refused = shared.read_event(event);
            }
        });
        Poll::Ready(refused.map_err(|why| {
            let error = io::Error::new(io::ErrorKind::InvalidData, why);
            shared.io_failed(&error);
            error
        }))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match ready!(Pin::new(&mut this.io).poll_write(cx, buf)) {
            Ok(taken) => {
                let shared = &this.shared;
                this.writes
                    .wrote(&buf[..taken], |event| shared.write_event(event));
                Poll::Ready(Ok(taken))
            }
            Err(error) => {
                this.shared.io_failed(&error);
                Poll::Ready(Err(error))
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs)) {
            Ok(taken) => {
                let shared = &this.shared;
                let mut rest = taken;
                for buf in bufs {
                    let part = &buf[..rest.min(buf.len())];
                    this.writes.wrote(part, |event| shared.write_event(event));
                    rest -= part.len();
                    if rest == 0 {
                        break;
                    }
                }
                Poll::Ready(Ok(taken))
            }
            Err(error) => {
                this.shared.io_failed(&error);
                Poll::Ready(Err(error))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Pin::new(&mut this.io).poll_flush(cx).map_err(|error| {
            this.shared.io_failed(&error);
            error
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
