//! The rotation: what outlives a picker, so that the next one goes on where it left off.

use std::{mem, sync::Arc};

use balancer_api::{
    Endpoint, LbConfig, Picker, QueuePicker, Rejected,
    base::{BaseContext, PickerBuilder, ReadySet},
};

use crate::{picker::RoundRobinPicker, turns::Turns};

/// Whose turn it is, across pickers.
///
/// A counter alone would not do. Taken modulo the size of each new set it points somewhere else
/// after every change, and in step with a flapping backend it points at the same victim again and
/// again; so does a start at index 0. A random start per picker is fair on average only. So each
/// picker starts with the backend that would have been next in the one before.
#[derive(Default)]
pub(crate) struct Rotation {
    turns: Arc<Turns>,
    last: Option<Arc<RoundRobinPicker>>,
    /// Whether a resolver result came since `last` was built: ranks may mean other backends now.
    relisted: bool,
}

// === impl Rotation ===

impl Rotation {
    fn start(&mut self, ready: &ReadySet, cx: &BaseContext<'_>) -> (u64, u64) {
        let relisted = mem::take(&mut self.relisted);
        // Picks of the last picker go on meanwhile: a turn that they take after this is as well
        // missing from the new one, since both count from the same counter.
        let now = self.turns.next();
        let next = self.last.as_ref().and_then(|last| match relisted {
            false => last.next_by_rank(now, ready),
            true => last.next_by_identity(now, ready),
        });
        match next {
            Some(next) => (now, next),
            None => {
                let random = cx.random();
                if self.last.is_none() {
                    // Nobody draws yet. A counter that starts anywhere has its wrap exercised.
                    self.turns.set_next(random);
                    return (random, random % ready.len().max(1) as u64);
                }
                (now, random % ready.len().max(1) as u64)
            }
        }
    }
}

impl PickerBuilder for Rotation {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn set_config(&mut self, _: Option<&LbConfig>, _: &BaseContext<'_>) -> Result<(), Rejected> {
        self.relisted = true;
        Ok(())
    }

    fn build_picker(&mut self, ready: &ReadySet, cx: &BaseContext<'_>) -> Arc<dyn Picker> {
        let (now, start) = self.start(ready, cx);
        match RoundRobinPicker::new(ready.clone(), self.turns.clone(), now, start) {
            Some(picker) => {
                let picker = Arc::new(picker);
                self.last = Some(picker.clone());
                picker
            }
            None => Arc::new(QueuePicker),
        }
    }
}
