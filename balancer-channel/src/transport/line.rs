//! The queue before the connections of one SubConn, and who is let through next.
//!
//! Most SubConns have one connection. Where the service config allows more (gRFC A105) they share
//! the queue: whoever waits takes the first stream that any of them has, the oldest first.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::sync::{AtomicUsize, Mutex, MutexGuard, PoisonError, SeqCst};

/// The count of one connection's open streams, and its limit.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) open: AtomicUsize,
    pub(super) limit: AtomicUsize,
    /// How many wait in the line.
    pub(super) waiting: AtomicUsize,
    /// 1: no stream is opened any more. Read and written under the line's lock.
    closed: AtomicUsize,
}

/// The queue. `M` leads to a connection.
pub(crate) struct Line<M> {
    /// A leaf: nothing is called under it but `Waker::clone` and `M::clone`.
    queue: Mutex<Queue<M>>,
}

/// The answer to an RPC that waits for a stream.
#[derive(Debug)]
pub(crate) enum Admit<M> {
    /// A stream may be opened on the connection that was asked.
    Granted,
    /// A stream may be opened on another one.
    Elsewhere(Grant<M>),
    /// No stream is opened any more.
    Closed,
}

/// The right to open a stream, which has to be given back.
#[derive(Debug)]
pub(crate) struct Grant<M> {
    gate: Arc<Gate>,
    /// Where.
    pub(crate) whose: M,
}

/// A place in the queue. Give it up with `forget`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Called once, by whoever comes to wait.
pub(crate) type News = Box<dyn FnOnce() + Send>;

struct Queue<M> {
    /// The connections that take streams, oldest first.
    members: Vec<Grant<M>>,
    next: u64,
    waiting: BTreeMap<u64, Waiter>,
    /// Those that were admitted and have not looked yet.
    granted: BTreeMap<u64, Grant<M>>,
    news: Option<News>,
}

struct Waiter {
    waker: Waker,
    /// No other connection will do.
    only: Option<Arc<Gate>>,
}

// === impl Gate ===

impl Gate {
    /// Lets nobody through until the peer's limit is known.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
        })
    }

    pub(super) fn take_one(&self) -> bool {
        let mut open = self.open.load(SeqCst);
        while open < self.limit.load(SeqCst) {
            match self
                .open
                .compare_exchange_weak(open, open + 1, SeqCst, SeqCst)
            {
                Ok(_) => return true,
                Err(now) => open = now,
            }
        }
        false
    }
}

// === impl Line ===

impl<M: Clone> Line<M> {
    /// `gate` lets people through from now on; `whose` leads there.
    pub(super) fn enter(&self, gate: &Arc<Gate>, whose: M) {
        let mut queue = self.queue();
        if gate.closed.load(SeqCst) == 0 {
            queue.members.push(Grant {
                gate: gate.clone(),
                whose,
            });
            queue.tell_gates();
            let woken = queue.grant();
            drop(queue);
            woken.into_iter().for_each(Waker::wake);
        }
    }

    /// `gate` lets nobody through from now on. Those who wait for it alone are sent away, and all
    /// when it was the last.
    pub(super) fn leave(&self, gate: &Arc<Gate>) {
        let mut queue = self.queue();
        gate.closed.store(1, SeqCst);
        gate.limit.store(0, SeqCst);
        gate.waiting.store(0, SeqCst);
        let mut gone = Vec::new();
        if let Some(at) = queue.position(gate) {
            gone.push(queue.members.remove(at));
        }
        let none_left = queue.members.is_empty();
        let lost = |waiter: &Waiter| none_left || waiter.waits_for(gate);
        let (sent_away, left): (BTreeMap<_, _>, _) = std::mem::take(&mut queue.waiting)
            .into_iter()
            .partition(|(_, waiter)| lost(waiter));
        queue.waiting = left;
        queue.tell_gates();
        drop(queue);
        drop(gone);
        let wakers = sent_away.into_values().map(|waiter| waiter.waker);
        wakers.for_each(Waker::wake);
    }

    /// The peer's limit has changed.
    pub(super) fn set_limit(&self, gate: &Arc<Gate>, limit: usize) {
        let mut queue = self.queue();
        if gate.closed.load(SeqCst) == 0 {
            gate.limit.store(limit, SeqCst);
            let woken = queue.grant();
            drop(queue);
            woken.into_iter().for_each(Waker::wake);
        }
    }

    /// A stream on `gate` has ended.
    pub(super) fn release(&self, gate: &Gate) {
        let before = gate.open.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "a stream that ends must have been admitted");
        if gate.waiting.load(SeqCst) > 0 {
            let woken = self.queue().grant();
            woken.into_iter().for_each(Waker::wake);
        }
    }

    /// Gives back what was granted and not used.
    pub(super) fn give_back(&self, grant: &Grant<M>) {
        self.release(&grant.gate);
    }

    /// Waits for an answer. The first call takes a place in the queue, for a stream of any
    /// connection, or of `gate`'s alone.
    pub(super) fn poll(
        &self,
        gate: &Arc<Gate>,
        only: bool,
        ticket: &mut Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Poll<Admit<M>> {
        let mut queue = self.queue();
        let Some(Ticket(id)) = ticket else {
            if only && queue.position(gate).is_none() || queue.members.is_empty() {
                return Poll::Ready(Admit::Closed);
            }
            let waiter = Waiter {
                waker: cx.waker().clone(),
                only: only.then(|| gate.clone()),
            };
            // Nobody is overtaken, and nobody who comes has to look here for that.
            if queue.waiting.is_empty()
                && let Some(grant) = queue.find(&waiter)
            {
                return Poll::Ready(grant.seen_from(gate));
            }
            let id = queue.next;
            queue.next += 1;
            queue.waiting.insert(id, waiter);
            queue.tell_gates();
            // A stream may have ended before they were told.
            let woken = queue.grant();
            let grant = queue.granted.remove(&id);
            let news = match grant.is_some() || only {
                true => None,
                false => queue.news.take(),
            };
            drop(queue);
            woken.into_iter().for_each(Waker::wake);
            if let Some(news) = news {
                news();
            }
            if let Some(grant) = grant {
                return Poll::Ready(grant.seen_from(gate));
            }
            *ticket = Some(Ticket(id));
            return Poll::Pending;
        };
        let answer = if let Some(grant) = queue.granted.remove(id) {
            grant.seen_from(gate)
        } else if let Some(waiter) = queue.waiting.get_mut(id) {
            waiter.waker.clone_from(cx.waker());
            return Poll::Pending;
        } else {
            Admit::Closed
        };
        *ticket = None;
        Poll::Ready(answer)
    }

    /// Gives up a place in the queue, or the admission that came meanwhile.
    pub(super) fn forget(&self, ticket: &Ticket) {
        let mut queue = self.queue();
        let waiter = queue.waiting.remove(&ticket.0);
        if waiter.is_some() {
            queue.tell_gates();
        }
        let grant = queue.granted.remove(&ticket.0);
        drop(queue);
        if let Some(grant) = grant {
            self.give_back(&grant);
        }
    }

    /// How many wait for a stream, whosever.
    pub(super) fn crowd(&self) -> usize {
        let queue = self.queue();
        let any = |waiter: &&Waiter| waiter.only.is_none();
        queue.waiting.values().filter(any).count()
    }

    /// Calls `news` when somebody waits for a stream, whosever: at once, if that is so.
    pub(super) fn when_crowded(&self, news: News) {
        let mut queue = self.queue();
        let crowded = queue.waiting.values().any(|it| it.only.is_none());
        let (now, before) = match crowded {
            true => (Some(news), queue.news.take()),
            false => (None, queue.news.replace(news)),
        };
        drop(queue);
        drop(before);
        if let Some(news) = now {
            news();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<M>> {
        // Every change under the lock is whole before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Default for Line<M> {
    fn default() -> Self {
        Self {
            queue: Mutex::new(Queue {
                members: Vec::new(),
                next: 0,
                waiting: BTreeMap::new(),
                granted: BTreeMap::new(),
                news: None,
            }),
        }
    }
}

impl<M> fmt::Debug for Line<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

// === impl Queue ===

impl<M: Clone> Queue<M> {
    fn position(&self, gate: &Arc<Gate>) -> Option<usize> {
        self.members
            .iter()
            .position(|it| Arc::ptr_eq(&it.gate, gate))
    }

    /// Admits `waiter`, if a connection that it may use has a free stream.
    fn find(&self, waiter: &Waiter) -> Option<Grant<M>> {
        let mut fit = self
            .members
            .iter()
            .filter(|it| waiter.only.is_none() || waiter.waits_for(&it.gate));
        fit.find(|it| it.gate.take_one()).map(Grant::again)
    }

    /// Admits those at the head of the queue. The caller wakes them when it has let go of the lock.
    fn grant(&mut self) -> Vec<Waker> {
        let mut admitted = Vec::new();
        for (id, waiter) in &self.waiting {
            match self.find(waiter) {
                Some(grant) => admitted.push((*id, grant)),
                // Others may do for those behind.
                None if waiter.only.is_some() => {}
                None => break,
            }
        }
        let mut woken = Vec::with_capacity(admitted.len());
        for (id, grant) in admitted {
            self.granted.insert(id, grant);
            woken.extend(self.waiting.remove(&id).map(|waiter| waiter.waker));
        }
        if !woken.is_empty() {
            self.tell_gates();
        }
        woken
    }

    /// Each connection knows how many wait: who wants a stream of it must look here then, and so
    /// must a stream that ends.
    fn tell_gates(&self) {
        for member in &self.members {
            member.gate.waiting.store(self.waiting.len(), SeqCst);
        }
    }
}

// === impl Waiter ===

impl Waiter {
    fn waits_for(&self, gate: &Arc<Gate>) -> bool {
        self.only
            .as_ref()
            .is_some_and(|only| Arc::ptr_eq(only, gate))
    }
}

// === impl Grant ===

impl<M: Clone> Grant<M> {
    fn again(&self) -> Self {
        Self {
            gate: self.gate.clone(),
            whose: self.whose.clone(),
        }
    }

    fn seen_from(self, gate: &Arc<Gate>) -> Admit<M> {
        match Arc::ptr_eq(&self.gate, gate) {
            true => Admit::Granted,
            false => Admit::Elsewhere(self),
        }
    }
}
