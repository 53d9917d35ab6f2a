//! A policy by somebody who has the packages and nothing else: it uses the first few backends.
//!
//! `{"newcomer_first_few":{"count":2}}` sends RPCs in turn to the first `count` READY backends, in
//! the resolver's order, and keeps the others in reserve.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use balancer_api::base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet};
use balancer_api::{
    Builder, ConfigError, ConfigFields, Endpoint, LbConfig, ParseContext, Pick, PickError,
    PickOptions, Picker,
};

/// The policy's name in a service config.
pub const NAME: &str = "newcomer_first_few";

/// The configuration that was parsed.
#[derive(Debug)]
struct Config {
    /// How many backends are used; at least one.
    count: u32,
}

struct FirstFew;

struct FirstFewPicker {
    ready: ReadySet,
    /// How many of `ready` are used: at least one, and no more than there are.
    used: usize,
    turn: AtomicUsize,
}

/// Makes the policy; goes into a registry.
pub fn builder() -> impl Builder {
    BaseBuilder::new(NAME, || FirstFew)
        .with_description("the first few READY backends in turn, the others in reserve")
        .with_config_parser(parse)
}

fn parse(json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
    let mut fields = ConfigFields::parse(json)?;
    let count = fields.u32("count", 1..=u32::MAX)?.unwrap_or(1);
    fields.finish(cx);
    Ok(LbConfig::new(json, Config { count }))
}

impl PickerBuilder for FirstFew {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn build_picker(&mut self, ready: &ReadySet, cx: &BaseContext<'_>) -> Arc<dyn Picker> {
        let config = cx.config().and_then(|config| config.downcast_ref::<Config>());
        let count = config.map_or(1, |config| config.count as usize);
        let used = count.min(ready.len());
        Arc::new(FirstFewPicker { ready: ready.clone(), used, turn: AtomicUsize::new(0) })
    }
}

impl Picker for FirstFewPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = self.ready.get(turn % self.used).ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(chosen.sub_conn()))
    }
}
