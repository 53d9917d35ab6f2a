//! Step 5: of a few random backends, the one with the fewest RPCs in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use balancer_api::base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet};
use balancer_api::{
    Builder, DoneInfo, Endpoint, LbConfig, OnDone, Pick, PickError, PickOptions, Picker, Rejected,
};

use crate::config::{self, Config};

/// Makes the policy.
pub fn builder() -> impl Builder {
    BaseBuilder::new("guide_least_request", LeastRequest::default).with_config_parser(config::parse)
}

#[derive(Default)]
struct LeastRequest {
    config: Config,
}

/// How many RPCs a backend has: counted from pick to end, across pickers and reconnects.
#[derive(Default)]
struct InFlight(AtomicU64);

struct LeastRequestPicker {
    ready: ReadySet<Arc<InFlight>>,
    choice_count: u32,
}

impl PickerBuilder for LeastRequest {
    type Data = Arc<InFlight>;

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) -> Self::Data {
        Arc::default()
    }

    fn set_config(
        &mut self,
        config: Option<&LbConfig>,
        _: &BaseContext<'_>,
    ) -> Result<(), Rejected> {
        self.config = Config::of(config)?;
        Ok(())
    }

    fn build_picker(
        &mut self,
        ready: &ReadySet<Self::Data>,
        _: &BaseContext<'_>,
    ) -> Arc<dyn Picker> {
        Arc::new(LeastRequestPicker {
            ready: ready.clone(),
            choice_count: self.config.choice_count,
        })
    }
}

impl Picker for LeastRequestPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let draw = |_| {
            let at = options.random() % self.ready.len() as u64;
            self.ready.get(at as usize)
        };
        let drawn = (0..self.choice_count).filter_map(draw);
        let least = drawn.min_by_key(|backend| backend.data().0.load(Relaxed));
        let least = least.ok_or(PickError::NoSubConnAvailable)?;
        least.data().0.fetch_add(1, Relaxed);
        Ok(Pick::new(least.sub_conn()).on_done(least.data().clone(), 0))
    }
}

impl OnDone for InFlight {
    fn on_done(&self, _: u64, _: &DoneInfo<'_>) {
        self.0.fetch_sub(1, Relaxed);
    }
}
