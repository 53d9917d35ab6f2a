//! A policy for the models: the first READY backend, with an observer of each pick's end.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use balancer_api::{
    Builder, DoneInfo, Endpoint, OnDone, Pick, PickError, PickOptions, Picker,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};

use crate::sync::this_thread;

/// What the policy's pickers have seen. No part of what is modelled: `loom` need not know of it.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// How often the end of each pick was told.
    ends: Mutex<Vec<usize>>,
    /// Where pickers were dropped.
    drops: Mutex<Vec<u64>>,
    pub(crate) pickers: AtomicUsize,
}

struct First(Arc<Witness>);

struct FirstPicker {
    ready: ReadySet,
    witness: Arc<Witness>,
}

pub(crate) fn first(witness: &Arc<Witness>) -> Arc<dyn Builder> {
    let witness = witness.clone();
    Arc::new(BaseBuilder::new("first", move || First(witness.clone())))
}

impl Witness {
    /// How many picks there were.
    ///
    /// # Panics
    /// Unless the end of each was told exactly once.
    pub(crate) fn picks(&self) -> usize {
        let ends = self.ends.lock().expect("no panic");
        assert!(ends.iter().all(|told| *told == 1), "told: {ends:?}");
        ends.len()
    }

    /// The threads that pickers were dropped on.
    pub(crate) fn drops(&self) -> Vec<u64> {
        self.drops.lock().expect("no panic").clone()
    }
}

impl OnDone for Witness {
    fn on_done(&self, token: u64, _: &DoneInfo<'_>) {
        self.ends.lock().expect("no panic")[token as usize] += 1;
    }
}

impl PickerBuilder for First {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        self.0.pickers.fetch_add(1, Relaxed);
        Arc::new(FirstPicker {
            ready: ready.clone(),
            witness: self.0.clone(),
        })
    }
}

impl Picker for FirstPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let ready = self.ready.get(0).ok_or(PickError::NoSubConnAvailable)?;
        let token = {
            let mut ends = self.witness.ends.lock().expect("no panic");
            ends.push(0);
            ends.len() as u64 - 1
        };
        Ok(Pick::new(ready.sub_conn()).on_done(self.witness.clone(), token))
    }
}

impl Drop for FirstPicker {
    fn drop(&mut self) {
        self.witness
            .drops
            .lock()
            .expect("no panic")
            .push(this_thread());
    }
}
