//! The sending half of a stream: pulls a request body and sends it, as fast as the peer lets it.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::SendStream;

use super::{
    connection::{H2Connection, Permit},
    replay::{ReplayBody, ReplayBudget},
};

/// What the largest window holds.
const LARGEST_CHUNK: usize = (1 << 31) - 1;

/// A body on its way. What the peer's windows do not take stays with the application, but for the
/// chunk at hand and what `h2` buffers of a stream (400 KiB).
#[derive(Debug)]
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    /// The chunk to send next; held back until it is known whether it is the last.
    chunk: Option<Bytes>,
    /// The chunk before is still waiting for the peer's flow control.
    stalled: bool,
    sent: u64,
}

/// Sends what is left of a body after the response has begun: the application may read the
/// response as slowly as it likes without holding its own requests back.
pub(super) struct Pump {
    upload: Option<(Upload, ReplayBody)>,
    control: Arc<PumpControl>,
}

/// What a [`Pump`] and the response share.
#[derive(Debug)]
pub(super) struct PumpControl {
    cancelled: AtomicBool,
    waker: AtomicWaker,
    sent: AtomicU64,
    /// Why the application's body ended early.
    error: Mutex<Option<tonic::Status>>,
    /// Given back when both have ended.
    permit: Permit,
}

// === impl Upload ===

impl Upload {
    /// `chunk` is the first of a body that has not ended with it.
    pub(super) fn new(stream: SendStream<Bytes>, chunk: Option<Bytes>) -> Self {
        Self {
            stream,
            chunk,
            stalled: false,
            sent: 0,
        }
    }

    /// How many bytes were given to the connection.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Ready when the body was sent to its end, or when the peer wants no more of it: then the
    /// response says why.
    ///
    /// # Errors
    /// The body's own error, or a chunk that cannot be sent. The stream was reset.
    pub(super) fn poll(
        &mut self,
        body: &mut ReplayBody,
        budget: &Arc<ReplayBudget>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), tonic::Status>> {
        loop {
            if self.stalled {
                if ready!(self.poll_capacity(cx)).is_err() {
                    return Poll::Ready(Ok(()));
                }
                self.stalled = false;
            }
            match body.poll_chunk(budget, cx) {
                Poll::Ready(Some(Ok(next))) => {
                    if let Some(chunk) = self.chunk.replace(next)
                        && !self.send(chunk, false)?
                    {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(None) => {
                    let last = self.chunk.take().unwrap_or_default();
                    self.send(last, true)?;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Some(Err(status))) => {
                    self.stream.send_reset(h2::Reason::CANCEL);
                    return Poll::Ready(Err(status));
                }
                Poll::Pending => {
                    if let Some(chunk) = self.chunk.take()
                        && !self.send(chunk, false)?
                    {
                        return Poll::Ready(Ok(()));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Ready when the peer reset the stream or the connection ended.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }

    /// Whether the stream still takes data.
    ///
    /// # Errors
    /// It never would. The stream was reset.
    fn send(&mut self, chunk: Bytes, last: bool) -> Result<bool, tonic::Status> {
        let length = chunk.len();
        // An error here means that the stream has ended; the receiving half knows how.
        let sent = self.stream.send_data(chunk, last).is_ok();
        if sent {
            self.sent += length as u64;
            if !last {
                // Ask for a byte more than is buffered: capacity comes when the chunk is on its way.
                self.stream.reserve_capacity(1);
                self.stalled = true;
            }
        } else if length > LARGEST_CHUNK {
            self.stream.send_reset(h2::Reason::CANCEL);
            return Err(tonic::Status::resource_exhausted(format!(
                "{length} bytes of a request in one piece; HTTP/2 takes at most {LARGEST_CHUNK}"
            )));
        }
        Ok(sent)
    }

    /// Ready when the peer takes more, or with an error when it never will.
    fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if self.stream.capacity() > 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(_)) => return Poll::Ready(Ok(())),
                Some(Err(_)) | None => return Poll::Ready(Err(())),
            }
        }
    }
}

// === impl Pump ===

impl Pump {
    pub(super) fn new(upload: Upload, mut body: ReplayBody, control: Arc<PumpControl>) -> Self {
        body.commit();
        Self {
            upload: Some((upload, body)),
            control,
        }
    }
}

impl Future for Pump {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some((upload, body)) = &mut this.upload else {
            return Poll::Ready(());
        };
        this.control.waker.register(cx.waker());
        if !this.control.cancelled.load(Acquire) {
            let budget = this.control.connection().setup().replay();
            // The body is the application's code, and nobody waits for this task.
            let progress = catch_unwind(AssertUnwindSafe(|| upload.poll(body, budget, cx)));
            this.control.sent.store(upload.sent(), Relaxed);
            let progress = progress.unwrap_or_else(|_panic| {
                upload.stream.send_reset(h2::Reason::CANCEL);
                let status = tonic::Status::internal("the body of the request panicked");
                Poll::Ready(Err(status))
            });
            this.control.connection().shared().driver.pay();
            match progress {
                // A peer that resets the stream must not keep the application's stream alive.
                Poll::Pending if upload.poll_reset(cx).is_pending() => return Poll::Pending,
                Poll::Ready(Err(status)) => this.control.fail(status),
                _ => {}
            }
        }
        // The application's stream may do anything when it is dropped; ours is gone by then.
        this.upload = None;
        Poll::Ready(())
    }
}

// === impl PumpControl ===

impl PumpControl {
    pub(super) fn new(permit: Permit) -> Arc<Self> {
        Arc::new(Self {
            cancelled: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            sent: AtomicU64::new(0),
            error: Mutex::new(None),
            permit,
        })
    }

    /// The response has ended or nobody wants it: no more of the request is sent.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Release);
        self.waker.wake();
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn connection(&self) -> &H2Connection {
        self.permit.connection()
    }

    /// The error of the application's body, once.
    pub(super) fn take_error(&self) -> Option<tonic::Status> {
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn fail(&self, status: tonic::Status) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}
