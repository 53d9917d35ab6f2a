//! The deadlines of a connection's responses: an RPC ends in time whether or not anybody reads it.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::Context,
};

use tokio::time::{Instant, Sleep};

/// What is still to come of a connection's responses that have a deadline.
///
/// The driver looks after them, so that no RPC needs a task or a timer of its own. It is woken only
/// for a deadline that is earlier than all others.
pub(super) struct Deadlines {
    /// A deadline came that the driver's timer is not set to.
    news: AtomicBool,
    /// Guards the list. A leaf: nothing is called under it.
    list: Mutex<List>,
}

/// Names an entry.
pub(super) type Key = (Instant, u64);

/// A response that may have to end.
pub(super) trait Expire: Send + Sync {
    /// The deadline has passed.
    fn expire(&self);

    /// The connection has ended: nothing comes any more.
    fn settle(&self);
}

/// The driver's timer; `None` while nothing has a deadline.
pub(super) type Timer = Option<Pin<Box<Sleep>>>;

#[derive(Default)]
struct List {
    /// Weak: a response holds its connection.
    entries: BTreeMap<Key, Weak<dyn Expire>>,
    next: u64,
    /// What the timer is set to.
    armed: Option<Instant>,
    ended: bool,
}

// === impl Deadlines ===

impl Deadlines {
    pub(super) fn new() -> Self {
        Self {
            news: AtomicBool::new(false),
            list: Mutex::default(),
        }
    }

    /// Adds an entry; answers whether the driver has to be woken. `None`: the connection has ended.
    pub(super) fn add(&self, at: Instant, entry: Weak<dyn Expire>) -> Option<(Key, bool)> {
        let mut list = self.list();
        if list.ended {
            return None;
        }
        let key = (at, list.next);
        list.next += 1;
        list.entries.insert(key, entry);
        let first = list.armed.is_none_or(|armed| at < armed);
        if first {
            list.armed = Some(at);
            self.news.store(true, Release);
        }
        Some((key, first))
    }

    /// Takes an entry out, if it is still there.
    pub(super) fn remove(&self, key: Key) {
        let removed = self.list().entries.remove(&key);
        drop(removed);
    }

    /// Ends what is due. For the driver. One load where no response has a deadline.
    #[inline]
    pub(super) fn poll(&self, timer: &mut Timer, cx: &mut Context<'_>) {
        if timer.is_some() || self.news.load(Acquire) {
            self.poll_some(timer, cx);
        }
    }

    fn poll_some(&self, timer: &mut Timer, cx: &mut Context<'_>) {
        loop {
            let fired = match timer {
                Some(timer) => timer.as_mut().poll(cx).is_ready(),
                None => false,
            };
            if !fired && !self.news.load(Acquire) {
                return;
            }
            let (due, next) = self.take_due(Instant::now());
            for entry in due {
                entry.expire();
            }
            match (next, &mut *timer) {
                (None, _) => *timer = None,
                (Some(at), Some(timer)) => timer.as_mut().reset(at),
                (Some(at), None) => *timer = Some(Box::pin(tokio::time::sleep_until(at))),
            }
        }
    }

    /// The connection has ended, and so has whatever was on it.
    pub(super) fn end(&self) {
        let mut list = self.list();
        list.ended = true;
        let entries = std::mem::take(&mut list.entries);
        drop(list);
        for entry in entries.into_values().filter_map(|entry| entry.upgrade()) {
            entry.settle();
        }
    }

    fn take_due(&self, now: Instant) -> (Vec<Arc<dyn Expire>>, Option<Instant>) {
        let mut list = self.list();
        self.news.store(false, Release);
        let mut due = Vec::new();
        while let Some(first) = list.entries.first_entry()
            && first.key().0 <= now
        {
            due.extend(first.remove().upgrade());
        }
        list.armed = list.entries.first_key_value().map(|(key, _)| key.0);
        (due, list.armed)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        // Every change under the lock is whole before anything can panic.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlines")
            .field("waiting", &self.list().entries.len())
            .finish_non_exhaustive()
    }
}
