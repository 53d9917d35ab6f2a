//! A small round robin on the base, for the kit's own tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use balancer_api::{
    Builder, Endpoint, HealthReporting, Pick, PickError, PickOptions, Picker, Reconnect,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};

pub(crate) struct RoundRobin(Arc<AtomicUsize>);

struct RoundRobinPicker {
    ready: ReadySet,
    cursor: Arc<AtomicUsize>,
}

pub(crate) fn round_robin() -> impl Builder + 'static {
    BaseBuilder::new("round_robin", || RoundRobin(Arc::default()))
}

pub(crate) fn round_robin_in_mode(mode: Reconnect) -> impl Builder + 'static {
    BaseBuilder::new("round_robin", || RoundRobin(Arc::default())).with_reconnect(mode)
}

pub(crate) fn round_robin_with_health() -> impl Builder + 'static {
    BaseBuilder::new("round_robin", || RoundRobin(Arc::default())).with_health(HealthReporting::On)
}

impl PickerBuilder for RoundRobin {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(RoundRobinPicker {
            ready: ready.clone(),
            cursor: self.0.clone(),
        })
    }
}

impl Picker for RoundRobinPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.cursor.fetch_add(1, Ordering::Relaxed) % self.ready.len();
        let ready = self.ready.get(turn).ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(ready.sub_conn()))
    }
}
