//! The task that moves a connection's bytes.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::client;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    deadlines::Timer,
    keepalive::Keepalive,
    rouse::Rouse,
    shared::{Lowercase, Shared},
    wire::Wire,
};

/// How long a connection that nobody uses may take to say goodbye to a peer that does not read.
const LINGER: Duration = Duration::from_millis(500);

/// Drives one connection to its end. Dropping it ends every stream.
pub(super) struct Driver<T: AsyncRead + AsyncWrite + Unpin> {
    /// `None` when it has ended.
    connection: Option<client::Connection<Wire<T>, Bytes>>,
    keepalive: Option<Keepalive>,
    linger: Option<Pin<Box<Sleep>>>,
    /// For the first deadline of a response.
    deadline: Timer,
    shared: Arc<Shared>,
    /// What it was polled with, and what the connection is polled with.
    wakers: Option<(Waker, Waker)>,
    /// Counts it among the channel's tasks.
    _counted: TaskTrackerToken,
}

// === impl Driver ===

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(super) fn new(
        connection: client::Connection<Wire<T>, Bytes>,
        keepalive: Option<Keepalive>,
        shared: Arc<Shared>,
        counted: TaskTrackerToken,
    ) -> Self {
        Self {
            connection: Some(connection),
            keepalive,
            linger: None,
            deadline: None,
            shared,
            wakers: None,
            _counted: counted,
        }
    }

    /// Ready when the connection has ended, however it did.
    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(());
        };
        if self.shared.is_aborted() {
            return Poll::Ready(());
        }
        let polled = match &self.wakers {
            Some((_, waker)) => Pin::new(connection).poll(&mut Context::from_waker(waker)),
            None => Pin::new(connection).poll(cx),
        };
        if let Poll::Ready(result) = polled {
            self.shared.break_off(match result {
                Ok(()) => self.shared.unavailable("connection closed"),
                Err(error) => self.shared.unavailable(Lowercase(error)),
            });
            return Poll::Ready(());
        }
        // After reading, too: an end that has arrived counts before the clock does.
        self.shared.deadlines.poll(&mut self.deadline, cx);
        // After reading: a task that was not run for long must not blame the peer for it.
        if let Some(keepalive) = &mut self.keepalive
            && keepalive.poll(&self.shared, cx).is_ready()
        {
            self.shared
                .break_off(self.shared.unavailable("keepalive ping timed out"));
            return Poll::Ready(());
        }
        if self.shared.is_closing() && self.shared.admission.open() == 0 {
            let linger = self
                .linger
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + LINGER)));
            if linger.as_mut().poll(cx).is_ready() {
                self.shared
                    .break_off(self.shared.unavailable("connection closed"));
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        Rouse::register(&this.shared, &mut this.wakers, cx.waker());
        let ended = this.poll_connection(cx);
        if ended.is_ready() {
            this.connection = None;
            this.shared.set_ended();
        }
        ended
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Drop for Driver<T> {
    fn drop(&mut self) {
        // Before the streams are told by the connection's own drop. Without effect after an end.
        self.shared.break_off(
            self.shared
                .unavailable("connection dropped with its runtime"),
        );
        self.connection = None;
        self.shared.set_ended();
    }
}
