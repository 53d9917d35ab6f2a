//! Asks a picker as an RPC would, at little cost.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use balancer_api::{DoneInfo, PickError, PickOptions, Picker};

use crate::{SubId, conn::Shared, world::panic_text};

/// What a pick came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Sub(SubId),
    Stranger,
    Queue,
    Fail(Option<Arc<str>>),
    Failed(Arc<str>),
    Drop,
    /// The picker, or an observer of the end.
    Panicked(Arc<str>),
}

/// One RPC, which succeeds at once.
pub(crate) fn probe(shared: &Shared, picker: &dyn Picker) -> Probe {
    let options = PickOptions::new("/kit.Oracle/Probe").with_source(&shared.clock);
    let picked = catch_unwind(AssertUnwindSafe(|| match picker.pick(&options) {
        Ok(pick) => {
            let probe = match shared.id_of(pick.sub_conn()) {
                Some(id) => Probe::Sub(id),
                None => Probe::Stranger,
            };
            let (done, _) = pick.into_parts();
            if done.is_none() {
                return probe;
            }
            shared.observes.store(true, Relaxed);
            let info = DoneInfo::new()
                .with_source(&shared.clock)
                .with_bytes_sent(true)
                .with_bytes_received(true);
            match done.complete(&info) {
                0 => probe,
                _ => Probe::Panicked("an observer of an RPC's end panicked".into()),
            }
        }
        Err(PickError::NoSubConnAvailable) => Probe::Queue,
        Err(PickError::TransientFailure(text)) => Probe::Fail(text),
        Err(PickError::Failed(text)) => Probe::Failed(text),
        Err(PickError::Drop(_)) => Probe::Drop,
    }));
    picked.unwrap_or_else(|payload| Probe::Panicked(panic_text(&*payload)))
}

// === impl Probe ===

impl Probe {
    /// The text of a failure; `None` for what is none.
    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Self::Fail(text) => Some(text.as_deref().unwrap_or_default()),
            Self::Failed(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn sub(&self) -> Option<SubId> {
        match self {
            Self::Sub(id) => Some(*id),
            _ => None,
        }
    }
}
