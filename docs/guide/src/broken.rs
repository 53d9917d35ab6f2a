//! Step 3: the policy of step 1 with a mistake in it, for the kit to find.

use std::sync::Arc;

use balancer_api::base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet, ReadySubConn};
use balancer_api::{Builder, Endpoint, Pick, PickError, PickOptions, Picker, SubConn};

/// Makes the policy that has the mistake.
pub fn builder() -> impl Builder {
    BaseBuilder::new("guide_random", Random::default)
}

#[derive(Default)]
struct Random {
    ready: Vec<SubConn>,
}

struct RandomPicker(Vec<SubConn>);

impl PickerBuilder for Random {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn on_ready(&mut self, ready: &ReadySubConn, _: &BaseContext<'_>) {
        self.ready.push(ready.sub_conn().clone());
    }

    fn build_picker(&mut self, _: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(RandomPicker(self.ready.clone()))
    }
}

impl Picker for RandomPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let at = options.random() % self.0.len() as u64;
        let chosen = self.0.get(at as usize);
        chosen.map(Pick::new).ok_or(PickError::NoSubConnAvailable)
    }
}
