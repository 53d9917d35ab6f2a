//! The current picker, and the RPCs that wait for the next one.
//!
//! Readers load the current value with one atomic operation and no lock. A reader that must wait
//! registers under the lock and then looks at the generation once more, so a publication between
//! its pick and its registration is not missed; the publisher swaps first and takes the waiters
//! afterwards. Going idle is a publication of nothing: whoever waits looks again, finds no picker
//! and wakes the channel.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use balancer_api::{ConnectivityState, Picker};

use crate::sync::{
    Arc, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, OnceLock, Ordering, Swap, SwapGuard,
    lock,
};

/// One publication: what RPCs see from it until the next.
pub(crate) struct Published<R> {
    /// Counts publications, from 1.
    pub(crate) generation: u64,
    /// The state reported with the picker.
    pub(crate) state: ConnectivityState,
    /// The picker.
    pub(crate) picker: Arc<dyn Picker>,
    /// The policy that made it.
    pub(crate) policy: Arc<str>,
    /// What calls need of the service config.
    pub(crate) config: Arc<R>,
    /// How often the picker panicked.
    pub(crate) panics: AtomicU32,
    /// Whether an RPC has asked an idle policy to connect.
    pub(crate) kicked: AtomicBool,
}

/// Holds the current publication and those who wait for the next.
pub(crate) struct PickerCell<R> {
    current: Swap<Published<R>>,
    /// The generation of `current`, or `CLOSED`.
    generation: AtomicU64,
    /// How many wait, for the limit and for people.
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
    limit: usize,
    /// Whether the channel sleeps: an RPC that finds no picker then wakes it.
    idle: AtomicBool,
    /// Why it was closed.
    closed: OnceLock<balancer_api::Status>,
}

/// Wakers by slot; free slots are chained through `free`.
#[derive(Default)]
struct Waiters {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// Counts how often everybody was woken: a slot is the waiter's own only in its epoch.
    epoch: u64,
}

/// Waits until there is a publication newer than `seen`, or the cell is closed.
///
/// # Cancel safety
/// Dropping it gives the place up.
pub struct NextPicker<'a, R> {
    cell: &'a PickerCell<R>,
    seen: u64,
    slot: Option<(u64, usize)>,
}

/// Too many RPCs wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

const CLOSED: u64 = u64::MAX;

// === impl PickerCell ===

impl<R> PickerCell<R> {
    /// The cell of an idle channel, with room for `limit` waiting RPCs.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            current: Swap::empty(),
            generation: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
            limit,
            idle: AtomicBool::new(true),
            closed: OnceLock::new(),
        }
    }

    #[inline]
    pub(crate) fn load(&self) -> SwapGuard<Published<R>> {
        self.current.load()
    }

    /// Replaces the publication, wakes every waiter, and answers the one before, which the caller
    /// drops when nobody else holds it. Called by the balancer's task only.
    pub(crate) fn publish(&self, mut published: Published<R>) -> Option<Arc<Published<R>>> {
        // There is none after CLOSED, and `replace` answers what would have had it.
        let before = self.generation.load(Ordering::Relaxed);
        published.generation = before.saturating_add(1);
        self.replace(Some(Arc::new(published)))
    }

    /// Lets the channel sleep: takes the picker away. Who waits, or comes, finds the channel idle
    /// and wakes it. `None` when it slept already.
    pub(crate) fn go_idle(&self) -> Option<Option<Arc<Published<R>>>> {
        // The flag first: who finds no picker must find the channel idle, or woken since.
        if self.idle.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(self.replace(None))
    }

    /// Wakes the channel; answers whether it slept.
    pub(crate) fn leave_idle(&self) -> bool {
        self.idle.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    fn replace(&self, new: Option<Arc<Published<R>>>) -> Option<Arc<Published<R>>> {
        if self.closed.get().is_some() {
            return new;
        }
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        let before = self.current.swap(new);
        self.generation.store(generation, Ordering::Release);
        self.wake_all();
        before
    }

    /// Ends all waiting, now and later, with `reason`.
    pub(crate) fn close(&self, reason: balancer_api::Status) -> Option<Arc<Published<R>>> {
        let _ = self.closed.set(reason);
        let before = self.current.swap(None);
        self.generation.store(CLOSED, Ordering::Release);
        self.wake_all();
        before
    }

    /// The generation of the last publication.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn closed(&self) -> Option<&balancer_api::Status> {
        self.closed.get()
    }

    /// How many RPCs wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for a publication newer than generation `seen` (0: for any).
    pub(crate) fn next(&self, seen: u64) -> NextPicker<'_, R> {
        NextPicker {
            cell: self,
            seen,
            slot: None,
        }
    }

    fn wake_all(&self) {
        // The lock is taken also when nobody waits: a waiter that registers later comes after this
        // critical section, and so after the new generation, which it looks at once more.
        let woken = {
            let mut waiters = lock(&self.waiters);
            if waiters.slots.is_empty() {
                return;
            }
            waiters.epoch += 1;
            waiters.free.clear();
            std::mem::take(&mut waiters.slots)
        };
        // Outside the lock: a waker may run anything.
        woken.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<R> fmt::Debug for PickerCell<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickerCell")
            .field("generation", &self.generation.load(Ordering::Relaxed))
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

// === impl NextPicker ===

impl<R> NextPicker<'_, R> {
    fn is_there(&self) -> bool {
        self.cell.generation.load(Ordering::Acquire) > self.seen
    }

    fn register(&mut self, waker: &Waker) -> Result<(), QueueFull> {
        if self.slot.is_none()
            && self.cell.waiting.fetch_add(1, Ordering::Relaxed) >= self.cell.limit
        {
            self.cell.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(QueueFull);
        }
        let mine = Some(waker.clone());
        let mut waiters = lock(&self.cell.waiters);
        let epoch = waiters.epoch;
        let replaced = match self.slot {
            Some((since, slot)) if since == epoch => {
                std::mem::replace(&mut waiters.slots[slot], mine)
            }
            _ => {
                let slot = match waiters.free.pop() {
                    Some(slot) => slot,
                    None => {
                        waiters.slots.push(None);
                        waiters.slots.len() - 1
                    }
                };
                waiters.slots[slot] = mine;
                self.slot = Some((epoch, slot));
                None
            }
        };
        drop(waiters);
        // Outside the lock: dropping a waker may drop a task, and another waiter with it.
        drop(replaced);
        Ok(())
    }

    fn leave(&mut self) {
        if let Some((epoch, slot)) = self.slot.take() {
            self.cell.waiting.fetch_sub(1, Ordering::Relaxed);
            let mut waiters = lock(&self.cell.waiters);
            let left = if waiters.epoch == epoch {
                waiters.free.push(slot);
                waiters.slots[slot].take()
            } else {
                None
            };
            drop(waiters);
            drop(left);
        }
    }
}

impl<R> Future for NextPicker<'_, R> {
    type Output = Result<(), QueueFull>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.is_there() {
            self.leave();
            return Poll::Ready(Ok(()));
        }
        if let Err(full) = self.register(cx.waker()) {
            return Poll::Ready(Err(full));
        }
        // A publication may have come between the first look and the registration.
        if self.is_there() {
            self.leave();
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl<R> Drop for NextPicker<'_, R> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<R> fmt::Debug for NextPicker<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextPicker")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Published<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("generation", &self.generation)
            .field("state", &self.state)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many RPCs wait for a connection")
    }
}

impl std::error::Error for QueueFull {}
