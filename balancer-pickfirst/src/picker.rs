//! The pickers: READY gives the SubConn, IDLE asks it to connect, once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use balancer_api::{Pick, PickError, PickOptions, Picker, SubConn};

/// Sends every RPC to the one SubConn, which is READY.
pub(crate) struct ReadyPicker(pub(crate) SubConn);

/// Keeps RPCs waiting and has the first of them ask for a connection.
pub(crate) struct IdlePicker(pub(crate) Arc<Wish>);

/// A wish to connect, spoken at most once however many ask for it: each idle picker has one, and
/// the balancer has the same one for `exit_idle`.
pub(crate) struct Wish {
    sub_conn: SubConn,
    spoken: AtomicBool,
}

// === impl Wish ===

impl Wish {
    pub(crate) fn new(sub_conn: SubConn) -> Self {
        Self {
            sub_conn,
            spoken: AtomicBool::new(false),
        }
    }

    pub(crate) fn speak(&self) {
        // Relaxed: one of them has to win; nothing else is published. The load first, since a
        // thousand waiting RPCs would otherwise fight for the cache line.
        if !self.spoken.load(Ordering::Relaxed) && !self.spoken.swap(true, Ordering::Relaxed) {
            self.sub_conn.connect();
        }
    }

    /// Whoever speaks it later is not heard.
    pub(crate) fn withdraw(&self) {
        self.spoken.store(true, Ordering::Relaxed);
    }
}

// === impl ReadyPicker, IdlePicker ===

impl Picker for ReadyPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Ok(Pick::new(&self.0))
    }
}

impl Picker for IdlePicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        self.0.speak();
        Err(PickError::NoSubConnAvailable)
    }
}
