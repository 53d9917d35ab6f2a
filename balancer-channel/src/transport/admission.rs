//! How many streams a connection may have open, and who waits for the next one.
//!
//! `h2` queues what is above the peer's MAX_CONCURRENT_STREAMS where nobody sees it, and sends it
//! even after a GOAWAY. So RPCs wait here instead, in order, and go to another connection when this
//! one ends.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::line::{Admit, Gate, Grant, Line, News, Ticket};
use crate::sync::SeqCst;

/// The count of open streams, its limit, and the queue, which other connections may share.
///
/// Admitting without a queue is one compare-and-swap. A gate's `open`, `limit` and `waiting` are all
/// sequentially consistent: a stream that ends lowers `open` and then looks at `waiting`; one that
/// comes to wait raises the `waiting` of every gate and then looks at their `open`; so one of the two
/// sees the other.
#[derive(Debug)]
pub(crate) struct Admission<M> {
    gate: Arc<Gate>,
    line: Arc<Line<M>>,
}

// === impl Admission ===

impl<M: Clone> Admission<M> {
    /// Nothing is admitted until the peer's limit is known, and nobody who waits in the line until
    /// the connection has [entered](Self::enter) it.
    pub(crate) fn new(line: Arc<Line<M>>) -> Self {
        Self {
            gate: Gate::new(),
            line,
        }
    }

    /// The queue.
    pub(crate) fn line(&self) -> &Arc<Line<M>> {
        &self.line
    }

    /// The connection can be used, by way of `whose`.
    pub(crate) fn enter(&self, whose: M) {
        self.line.enter(&self.gate, whose);
    }

    /// Admits a stream unless the limit is reached or others wait. [`release`](Self::release) must
    /// follow when it has ended.
    #[inline]
    pub(crate) fn try_admit(&self) -> bool {
        self.gate.waiting.load(SeqCst) == 0 && self.gate.take_one()
    }

    /// Waits for a stream: of any connection of the line, or of this `only`. The first call takes a
    /// place in the queue.
    pub(crate) fn poll_admit(
        &self,
        only: bool,
        ticket: &mut Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Poll<Admit<M>> {
        self.line.poll(&self.gate, only, ticket, cx)
    }

    /// Gives up a place in the queue, or the admission that came meanwhile.
    pub(crate) fn forget(&self, ticket: &Ticket) {
        self.line.forget(ticket);
    }

    /// Gives back what was granted on another connection.
    pub(crate) fn give_back(&self, grant: &Grant<M>) {
        self.line.give_back(grant);
    }

    /// A stream has ended.
    #[inline]
    pub(crate) fn release(&self) {
        self.line.release(&self.gate);
    }

    /// The peer's limit has changed.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.line.set_limit(&self.gate, limit);
    }

    /// Admits nothing from now on. Who waits goes to the other connections, or is sent away.
    pub(crate) fn close(&self) {
        self.line.leave(&self.gate);
    }

    /// Calls `news` once when an RPC waits for a stream, at once if one does.
    pub(crate) fn when_crowded(&self, news: News) {
        self.line.when_crowded(news);
    }

    /// How many streams are open.
    pub(crate) fn open(&self) -> usize {
        self.gate.open.load(SeqCst)
    }

    /// How many may be.
    pub(crate) fn limit(&self) -> usize {
        self.gate.limit.load(SeqCst)
    }

    /// How many wait, here and before the other connections.
    pub(crate) fn waiting(&self) -> usize {
        self.gate.waiting.load(SeqCst)
    }
}
