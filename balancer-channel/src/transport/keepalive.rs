//! Finds a peer that has gone silent (gRFC A8).

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

use super::shared::Shared;

/// When to ask a silent peer whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeepaliveOptions {
    /// A ping goes out when nothing was read for so long.
    pub(crate) time: Duration,
    /// The connection is dropped when nothing was read for so long after a ping.
    pub(crate) timeout: Duration,
    /// Whether to ping while no stream is open.
    pub(crate) without_streams: bool,
}

/// The pings of one connection.
pub(super) struct Keepalive {
    options: KeepaliveOptions,
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    /// [`Shared::reads`] when the timer was set.
    reads: u64,
    /// When something was last read, as far as the driver saw it.
    active: Instant,
    /// A ping is on its way.
    pinged: bool,
}

// === impl Keepalive ===

impl Keepalive {
    pub(super) fn new(options: KeepaliveOptions, pings: PingPong) -> Self {
        let active = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(after(active, options.time)));
        Self {
            options,
            pings,
            timer,
            reads: 0,
            active,
            pinged: false,
        }
    }

    /// Ready when the peer is gone. To be called by the driver after it has read what was there.
    pub(super) fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<()> {
        // Takes the answer, so that the next ping can go out.
        let _ = self.pings.poll_pong(cx);
        let reads = shared.reads();
        if reads != self.reads {
            self.reads = reads;
            self.active = Instant::now();
            // Any frame shows that the peer is there, not only the answer.
            if std::mem::take(&mut self.pinged) {
                self.set_timer(after(self.active, self.options.time));
            }
        }
        loop {
            if !self.pinged && !self.options.without_streams && shared.admission.open() == 0 {
                // Dormant: the driver is polled when a stream opens.
                return Poll::Pending;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.pinged {
                return Poll::Ready(());
            }
            let due = after(self.active, self.options.time);
            if Instant::now() < due {
                self.set_timer(due);
                continue;
            }
            // One that is on its way already will do.
            let _ = self.pings.send_ping(Ping::opaque());
            self.pinged = true;
            self.set_timer(after(Instant::now(), self.options.timeout));
        }
    }

    fn set_timer(&mut self, at: Instant) {
        self.timer.as_mut().reset(at);
    }
}

/// `wait` later; one that the clock cannot say is as good as never.
fn after(at: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);
    at.checked_add(wait).unwrap_or_else(|| at + FAR)
}
