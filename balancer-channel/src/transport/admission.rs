//! How many streams may be open, and who waits for the next one.
//!
//! `h2` queues what is above the peer's MAX_CONCURRENT_STREAMS where nobody sees it, and sends it
//! even after a GOAWAY. So RPCs wait here instead, in order, and go to another connection when this
//! one ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::{Context, Poll, Waker},
};

use crate::sync::{AtomicUsize, Mutex, MutexGuard, PoisonError, SeqCst};

/// The count of open streams, its limit, and the queue.
///
/// Admitting without a queue is one compare-and-swap. `open`, `limit` and `waiting` are all
/// sequentially consistent: a stream that ends lowers `open` and then looks at `waiting`; one that
/// comes to wait raises `waiting` and then looks at `open`; so one of the two sees the other.
#[derive(Debug)]
pub(crate) struct Admission {
    open: AtomicUsize,
    limit: AtomicUsize,
    waiting: AtomicUsize,
    /// Guards the queue. A leaf: nothing is called under it but `Waker::clone`.
    queue: Mutex<Queue>,
}

/// The answer to an RPC that wants to open a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// A stream may be opened; [`Admission::release`] must follow when it has ended.
    Granted,
    /// The limit is reached.
    Full,
    /// No stream is opened any more.
    Closed,
}

/// A place in the queue. Give it up with [`Admission::forget`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

#[derive(Debug, Default)]
struct Queue {
    closed: bool,
    next: u64,
    waiting: BTreeMap<u64, Waker>,
    /// Those that were admitted and have not looked yet.
    granted: BTreeSet<u64>,
}

// === impl Admission ===

impl Admission {
    /// Nothing is admitted until the peer's limit is known.
    pub(crate) fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(Queue::default()),
        }
    }

    /// Admits a stream unless the limit is reached or others wait.
    pub(crate) fn try_admit(&self) -> Admit {
        if self.waiting.load(SeqCst) == 0 && self.take_one() {
            return Admit::Granted;
        }
        if self.queue().closed {
            Admit::Closed
        } else {
            Admit::Full
        }
    }

    /// Waits for [`Admit::Granted`] or [`Admit::Closed`]. The first call takes a place in the queue.
    pub(crate) fn poll_admit(
        &self,
        ticket: &mut Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Poll<Admit> {
        let mut queue = self.queue();
        let Some(Ticket(id)) = ticket else {
            if queue.closed {
                return Poll::Ready(Admit::Closed);
            }
            let id = queue.next;
            queue.next += 1;
            queue.waiting.insert(id, cx.waker().clone());
            self.waiting.fetch_add(1, SeqCst);
            // A stream may have ended before `waiting` was raised.
            let woken = self.grant_locked(&mut queue);
            let granted = queue.granted.remove(&id);
            drop(queue);
            woken.into_iter().for_each(Waker::wake);
            if granted {
                return Poll::Ready(Admit::Granted);
            }
            *ticket = Some(Ticket(id));
            return Poll::Pending;
        };
        let answer = if queue.granted.remove(id) {
            Admit::Granted
        } else if let Some(waker) = queue.waiting.get_mut(id) {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        } else {
            Admit::Closed
        };
        *ticket = None;
        Poll::Ready(answer)
    }

    /// Gives up a place in the queue, or the admission that came meanwhile.
    pub(crate) fn forget(&self, ticket: &Ticket) {
        let mut queue = self.queue();
        if queue.waiting.remove(&ticket.0).is_some() {
            self.waiting.fetch_sub(1, SeqCst);
        } else if queue.granted.remove(&ticket.0) {
            drop(queue);
            self.release();
        }
    }

    /// A stream has ended.
    pub(crate) fn release(&self) {
        let before = self.open.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "a stream that ends must have been admitted");
        if self.waiting.load(SeqCst) > 0 {
            let woken = self.grant_locked(&mut self.queue());
            woken.into_iter().for_each(Waker::wake);
        }
    }

    /// The peer's limit has changed.
    pub(crate) fn set_limit(&self, limit: usize) {
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        self.limit.store(limit, SeqCst);
        let woken = self.grant_locked(&mut queue);
        drop(queue);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Admits nothing from now on, and sends everybody in the queue away.
    pub(crate) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        self.limit.store(0, SeqCst);
        let waiting = std::mem::take(&mut queue.waiting);
        self.waiting.store(0, SeqCst);
        drop(queue);
        waiting.into_values().for_each(Waker::wake);
    }

    /// How many streams are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// How many RPCs wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    fn take_one(&self) -> bool {
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

    /// Admits those at the head of the queue. The caller wakes them when it has let go of the lock.
    fn grant_locked(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut woken = Vec::new();
        while !queue.waiting.is_empty() && self.take_one() {
            if let Some((id, waker)) = queue.waiting.pop_first() {
                self.waiting.fetch_sub(1, SeqCst);
                queue.granted.insert(id);
                woken.push(waker);
            }
        }
        woken
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change under the lock is whole before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
