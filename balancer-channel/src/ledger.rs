//! What the channels of a runtime hold that has to be given back. Read by this crate's own tests, after
//! each of them; a program that asks for nothing pays one load for each channel that it builds.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::runtime::{Handle, Id};
use tokio_util::task::TaskTracker;

/// The channels that are built on one runtime while this lives.
///
/// No example: it is for the tests of this crate, which have one for all.
#[derive(Debug)]
pub struct Watch(Id);

/// What is held, of all channels together.
///
/// No example: see [`Watch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Tasks that run.
    pub tasks: usize,
    /// Byte streams that are open.
    pub sockets: usize,
    /// Timers that are armed, but for those inside of RPCs.
    pub timers: usize,
}

/// What one channel holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) tasks: TaskTracker,
    pub(crate) sockets: Count,
    pub(crate) timers: Count,
}

/// Counts what is alive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

/// Something that is alive.
#[derive(Debug)]
pub(crate) struct Counted(Count);

/// How many runtimes are watched.
static WATCHES: AtomicUsize = AtomicUsize::new(0);

/// The ledgers of those.
static WATCHED: Mutex<Vec<(Id, Vec<Ledger>)>> = Mutex::new(Vec::new());

/// Watches the channels that are built on `runtime` from now on.
///
/// No example: see [`Watch`].
pub fn watch(runtime: &Handle) -> Watch {
    WATCHES.fetch_add(1, Relaxed);
    watched().push((runtime.id(), Vec::new()));
    Watch(runtime.id())
}

// === impl Watch ===

impl Watch {
    /// How many channels were built.
    pub fn channels(&self) -> usize {
        self.ledgers().len()
    }

    /// What they hold now.
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        for ledger in self.ledgers() {
            held.tasks += ledger.tasks.len();
            held.sockets += ledger.sockets.alive();
            held.timers += ledger.timers.alive();
        }
        held
    }

    fn ledgers(&self) -> Vec<Ledger> {
        let watched = watched();
        let mine = watched.iter().filter(|(runtime, _)| *runtime == self.0);
        mine.flat_map(|(_, ledgers)| ledgers.iter().cloned())
            .collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Relaxed);
        watched().retain(|(runtime, _)| *runtime != self.0);
    }
}

// === impl Ledger ===

impl Ledger {
    /// The ledger of a channel that is built on `runtime`.
    pub(crate) fn new(runtime: &Handle) -> Self {
        let ledger = Self::default();
        if WATCHES.load(Relaxed) > 0 {
            let mut watched = watched();
            for (_, ledgers) in watched.iter_mut().filter(|(id, _)| *id == runtime.id()) {
                ledgers.push(ledger.clone());
            }
        }
        ledger
    }
}

// === impl Count ===

impl Count {
    /// One more, until it is dropped.
    pub(crate) fn one(&self) -> Counted {
        self.0.fetch_add(1, Relaxed);
        Counted(self.clone())
    }

    fn alive(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

fn watched() -> MutexGuard<'static, Vec<(Id, Vec<Ledger>)>> {
    // Every change under the lock is whole before anything can panic.
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}
