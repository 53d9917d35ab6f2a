//! The load-balancing policy `taking_turns`: each READY backend in turn gets some RPCs in a row.
//!
//! `{"taking_turns":{"inARow":3}}` sends three RPCs to one backend, three to the next, and so on, in
//! the resolver's order. Without a configuration it is one each.
//!
//! This crate was made as a start for yours. What to change, from the top:
//!
//! 1. [`Config`]: what the service config may say. `parse` is the only place that checks it; an error
//!    names field, value and rule.
//! 2. `TakingTurns`, the policy at work for one channel. Its callbacks come one at a time, so it needs
//!    no lock. What it has to keep per backend (a counter, a weight) is `PickerBuilder::Data`. It may
//!    also take timers and make calls: the hooks of [`PickerBuilder`] say how.
//! 3. `TakingTurnsPicker`, an immutable snapshot that chooses for each RPC, from many threads at once:
//!    a few atomic operations, no lock, no allocation. Time and chance come from [`PickOptions`].
//! 4. To learn how an RPC ends, add an observer to its pick: `Pick::on_done`.
//!
//! The base does everything else as gRPC's policies do it: one SubConn per endpoint, connected at once
//! and again after a loss; the aggregate state; errors; what RPCs do while nothing is READY.
//!
//! Then say in `tests/conformance.rs` what your policy claims, and write a story in `tests/story.rs`
//! for each timer, call and end of an RPC that it acts on.
#![forbid(unsafe_code)]
// A workspace's clippy.toml may list what no policy calls: clocks, threads, the system.
#![deny(clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use balancer_api::base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet};
use balancer_api::{
    Builder, ConfigError, ConfigFields, Endpoint, LbConfig, ParseContext, Pick, PickError,
    PickOptions, Picker, Rejected,
};

/// The policy's name in a service config.
pub const NAME: &str = "taking_turns";

/// What a service config says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many RPCs a backend gets before the next one's turn. At least one.
    pub in_a_row: usize,
}

/// The policy at work for one channel.
#[derive(Default)]
struct TakingTurns {
    config: Config,
    /// Shared with every picker, so that a new one goes on where the last one was.
    turn: Arc<AtomicUsize>,
}

struct TakingTurnsPicker {
    /// Never empty.
    ready: ReadySet,
    turn: Arc<AtomicUsize>,
    in_a_row: usize,
}

/// Makes the policy: goes into a registry, or to one channel.
///
/// ```
/// use balancer_api::Builder;
/// let builder = balancer_taking_turns::builder();
/// assert_eq!(builder.name(), balancer_taking_turns::NAME);
/// ```
pub fn builder() -> impl Builder {
    BaseBuilder::new(NAME, TakingTurns::default)
        .with_description("READY backends in turn, some RPCs in a row to each")
        .with_config_parser(parse)
}

/// Parses the JSON beside the policy's name. After this nobody checks again.
fn parse(json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
    let mut fields = ConfigFields::parse(json)?;
    let mut config = Config::default();
    // More in a row than that is no balancing.
    if let Some(in_a_row) = fields.u32("inARow", 1..=1_000)? {
        config.in_a_row = in_a_row as usize;
    }
    // Fields that nobody asked for are misspelt: warn of them.
    fields.finish(cx);
    Ok(LbConfig::new(json, config))
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self { in_a_row: 1 }
    }
}

// === impl TakingTurns ===

impl PickerBuilder for TakingTurns {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn set_config(
        &mut self,
        config: Option<&LbConfig>,
        _: &BaseContext<'_>,
    ) -> Result<(), Rejected> {
        self.config = match config {
            None => Config::default(),
            Some(config) => *config
                .downcast_ref()
                .ok_or_else(|| Rejected::new("the configuration is another policy's"))?,
        };
        Ok(())
    }

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(TakingTurnsPicker {
            ready: ready.clone(),
            turn: self.turn.clone(),
            in_a_row: self.config.in_a_row,
        })
    }
}

// === impl TakingTurnsPicker ===

impl Picker for TakingTurnsPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        // Relaxed: a turn has to be handed out once; it publishes nothing else.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let at = turn / self.in_a_row % self.ready.len();
        let chosen = self.ready.get(at).ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(chosen.sub_conn()))
    }
}
