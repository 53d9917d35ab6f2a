//! When a connection's driver is woken: for what `h2` would not wake it for, and not for what nobody
//! waits for.
//!
//! `h2` wakes its connection whenever a stream is dropped that has ended on both sides, so that the last
//! one lets it close. Where RPCs come one at a time that is every third time that the connection is
//! polled, with nothing for it to do. So such a wake-up is *put off* ([`hush`]): it is owed until
//! somebody else [pays](Rouse::pay) it. `h2` wakes its connection once and then not again before it was
//! polled, so whoever gives `h2` something to do has to pay:
//!
//! - who opens a stream or sends on it: `Exchange` and `Pump`, after each poll of theirs;
//! - who gives a stream's window back while it is read: `Download::poll_data`;
//! - who drops a stream in any other way than hushed: its `Permit`, which is dropped behind it;
//! - a connection that closes wakes its driver itself, and so does each permit from then on.
//!
//! A hushed end may give the connection's window back as well. `Download` hushes it only where that can
//! wait.

use std::{
    cell::Cell,
    sync::Arc,
    task::{Wake, Waker},
};

use crate::sync::{AtomicBool, Mutex, MutexGuard, PoisonError, SeqCst, thread_local};

/// The driver's waker. It stays when it is used, so that it is written down once and not at each poll.
#[derive(Debug)]
pub(super) struct Rouse {
    /// A leaf; the waker is called outside of it.
    waker: Mutex<Option<Waker>>,
    /// `h2` has woken the driver since it was last polled, and that was put off.
    owed: AtomicBool,
}

/// What the connection is polled with: the driver's waker, unless it is [hushed](hush).
#[derive(Debug)]
struct Hushable<S> {
    driver: Waker,
    /// What the rouse is a part of.
    whole: Arc<S>,
}

thread_local! {
    /// `h2` wakes from within the drop of a stream, so that only the thread can tell. Of whatever connection:
    /// within [`hush`] there is only the drop of one stream, in which `h2` calls nobody else.
    static HUSHED: Cell<bool> = const { Cell::new(false) };
}

/// Drops what `h2` would wake the driver for without need: a stream that has ended on both sides, of
/// which nothing is left to be sent, on a connection whose window is not about to be used up. Ends with
/// [`unhush`] where its permit is dropped, before others are told of the free place.
pub(super) fn hush(end: impl FnOnce()) {
    struct Unhush;
    impl Drop for Unhush {
        fn drop(&mut self) {
            unhush();
        }
    }
    HUSHED.with(|hushed| hushed.set(true));
    let _whatever_happens = Unhush;
    end();
}

/// Ends [`hush`] on this thread. Whether there was one.
#[inline]
pub(super) fn unhush() -> bool {
    HUSHED.with(|hushed| hushed.replace(false))
}

// === impl Rouse ===

impl Rouse {
    pub(super) fn new() -> Self {
        Self {
            waker: Mutex::new(None),
            owed: AtomicBool::new(false),
        }
    }

    /// Wakes the driver. What it is to see must be there before.
    pub(super) fn wake(&self) {
        let waker = self.waker().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the driver if that was put off. To be called after everything that `h2` would wake it for,
    /// but for an end that may be hushed.
    ///
    /// `h2` puts its waker down, and takes it, under its own lock: whoever finds none there comes after
    /// the one who took it, and so after what is owed.
    #[inline]
    pub(super) fn pay(&self) {
        if self.owed.load(SeqCst) && self.owed.swap(false, SeqCst) {
            self.wake();
        }
    }

    /// For the driver, each time that it is polled, before it looks for what it may have been woken for.
    /// `last` is what the connection was polled with the last time, and is to be polled with now.
    ///
    /// What is put off from here on is still owed when `h2` has put its waker down again: one wake-up too
    /// many, none too few.
    #[inline]
    pub(super) fn register<S>(whole: &Arc<S>, last: &mut Option<(Waker, Waker)>, waker: &Waker)
    where
        S: AsRef<Self> + Send + Sync + 'static,
    {
        let this: &Self = (**whole).as_ref();
        if this.owed.load(SeqCst) {
            this.owed.store(false, SeqCst);
        }
        if !last.as_ref().is_some_and(|(last, _)| last.will_wake(waker)) {
            let hushable = Arc::new(Hushable {
                driver: waker.clone(),
                whole: whole.clone(),
            });
            *last = Some((waker.clone(), Waker::from(hushable)));
            let before = this.waker().replace(waker.clone());
            // Dropping a waker may drop a task.
            drop(before);
        }
    }

    /// Whether a wake-up was put off.
    #[cfg(test)]
    pub(super) fn owes(&self) -> bool {
        self.owed.load(SeqCst)
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Hushable ===

impl<S: AsRef<Rouse> + Send + Sync> Wake for Hushable<S> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if HUSHED.with(Cell::get) {
            (*self.whole).as_ref().owed.store(true, SeqCst);
        } else {
            self.driver.wake_by_ref();
        }
    }
}
