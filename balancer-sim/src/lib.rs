//! The whole channel in virtual time: worlds of faults drawn from seeds, and the laws that hold in
//! each.
//!
//! A world is one channel of `balancer-channel-core` with its policies, on one thread, under a clock
//! that only this crate moves, over a network without sockets. The same seed gives the same world,
//! event by event, in any process: what a seed finds, it finds again.
//!
//! | module | idea |
//! |---|---|
//! | `world` | what is drawn from the seed before anything happens |
//! | `run` | lets it happen, and looks at the laws whenever everything waits |
//! | `sim` | clock, tasks in an order that chance chooses, the story and its hash |
//! | `net` | backends, connections, messages that are late and partitions |
//! | `resolver`, `env`, `call` | the channel's other neighbours: lists, effects, RPCs |
//! | `witness` | a policy with a witness around it, which may misbehave |
//! | `book` | what the witnesses wrote down, held against the laws |
//! | `sabotage` | parts of a world broken on purpose, to see the laws notice |
//! | `law`, `fault` | their names |

#![forbid(unsafe_code)]

mod book;
mod call;
mod env;
mod fault;
mod law;
mod net;
mod resolver;
mod rng;
mod run;
mod sabotage;
mod sim;
mod witness;
mod world;

use std::time::Duration;

use balancer_api::Timestamp;

pub use self::{
    fault::{Fault, Hits},
    law::{Law, Violation},
    sabotage::Sabotage,
};

/// What became of a world.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose world it was.
    pub seed: u64,
    /// Of every event, in order: the same for the same seed.
    pub hash: u64,
    /// What hit RPCs in flight.
    pub hits: Hits,
    /// The first law that was broken, if one was.
    pub violation: Option<Violation>,
    /// What happened and when; only of a world that broke a law.
    pub story: Vec<(Timestamp, String)>,
    /// How many events there were.
    pub events: usize,
    /// How often a task was polled.
    pub polls: u64,
    /// How many picks gave a SubConn.
    pub picks: usize,
    /// How many RPCs ended, but for those that were dropped.
    pub calls: u64,
    /// How long it lasted, in virtual time.
    pub lasted: Duration,
}

/// Lets the world of `seed` happen; with `echo`, its story is printed meanwhile.
///
/// ```
/// let (once, again) = (balancer_sim::run(1, false), balancer_sim::run(1, false));
/// assert_eq!(once.hash, again.hash);
/// assert!(once.violation.is_none(), "{:?}", once.violation);
/// ```
pub fn run(seed: u64, echo: bool) -> Report {
    run::silence();
    run::run(seed, echo, None)
}

/// As [`run`], in a world where a part is broken on purpose.
///
/// ```
/// use balancer_sim::{Law, Sabotage, run_sabotaged};
/// let mut violations = (0..50).filter_map(|seed| run_sabotaged(seed, Sabotage::LeakedTask).violation);
/// assert_eq!(violations.next().map(|it| it.law), Some(Law::Clean));
/// ```
pub fn run_sabotaged(seed: u64, sabotage: Sabotage) -> Report {
    run::silence();
    run::run(seed, false, Some(sabotage))
}
