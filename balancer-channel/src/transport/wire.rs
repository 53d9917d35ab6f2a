//! The byte stream under a connection, with a watch on what passes.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{
    preface::Together,
    shared::Shared,
    sniff::{ReadEvent, ReadSniffer, WriteSniffer},
};

/// `io`, whose traffic and failures are reported to the connection's [`Shared`] state.
///
/// A write that fails is not the end: what the peer sent before it closed is still there to be read,
/// responses and a GOAWAY among it. From then on writes are swallowed (they do not count as taken),
/// and reads go on to their own end, for a short while at most; then the error is told.
#[derive(Debug)]
pub(super) struct Wire<T> {
    io: Together<T>,
    reads: ReadSniffer,
    writes: WriteSniffer,
    broken: Option<Broken>,
    shared: Arc<Shared>,
}

/// A socket that takes nothing more.
#[derive(Debug)]
struct Broken {
    error: io::Error,
    /// When to stop reading.
    until: Pin<Box<Sleep>>,
}

/// A socket that was closed says so to its reader at once; others may not.
const LAST_WORDS: Duration = Duration::from_millis(100);

// === impl Wire ===

impl<T> Wire<T> {
    pub(super) fn new(io: T, shared: Arc<Shared>) -> Self {
        Self {
            io: Together::new(io),
            reads: ReadSniffer::new(),
            writes: WriteSniffer::new(),
            broken: None,
            shared,
        }
    }

    /// The socket takes nothing more; the driver must read what is left.
    fn write_failed(&mut self, error: io::Error, cx: &Context<'_>) {
        let until = Box::pin(tokio::time::sleep(LAST_WORDS));
        self.broken = Some(Broken { error, until });
        cx.waker().wake_by_ref();
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
        let read = match (Pin::new(&mut this.io).poll_read(cx, buf), &mut this.broken) {
            (Poll::Ready(read), _) => read,
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(broken)) => {
                ready!(broken.until.as_mut().poll(cx));
                Err(std::mem::replace(
                    &mut broken.error,
                    io::ErrorKind::BrokenPipe.into(),
                ))
            }
        };
        if let Err(error) = read {
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
        let mut answered = false;
        this.reads.read(read, |event| {
            answered |= matches!(event, ReadEvent::Answer(_));
            if refused.is_ok() {
                refused = shared.read_event(event);
            }
        });
        if answered && shared.answered() {
            this.reads.heard_enough();
        }
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
        if this.broken.is_none() {
            match ready!(Pin::new(&mut this.io).poll_write(cx, buf)) {
                Ok(taken) => {
                    let shared = &this.shared;
                    this.writes
                        .wrote(&buf[..taken], |event| shared.write_event(event));
                    return Poll::Ready(Ok(taken));
                }
                Err(error) => this.write_failed(error, cx),
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Small messages lie behind their frame's head in one piece, and for that `send` is the shorter
        // way into the kernel.
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let this = self.get_mut();
        if this.broken.is_none() {
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
                    return Poll::Ready(Ok(taken));
                }
                Err(error) => this.write_failed(error, cx),
            }
        }
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken.is_none()
            && let Err(error) = ready!(Pin::new(&mut this.io).poll_flush(cx))
        {
            this.write_failed(error, cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
