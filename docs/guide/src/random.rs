//! Step 1: sends each RPC to a random backend.

use std::sync::Arc;

use balancer_api::base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet};
use balancer_api::{Builder, Endpoint, Pick, PickError, PickOptions, Picker};

/// Makes the policy, for any number of channels.
pub fn builder() -> impl Builder {
    BaseBuilder::new("guide_random", || Random)
}

/// The policy at work for one channel.
struct Random;

/// The backends that were READY when it was made. A picker is never edited.
struct RandomPicker(ReadySet);

impl PickerBuilder for Random {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(RandomPicker(ready.clone()))
    }
}

impl Picker for RandomPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let at = options.random() % self.0.len() as u64;
        let chosen = self
            .0
            .get(at as usize)
            .ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(chosen.sub_conn()))
    }
}
