//! The gRPC channel without a runtime: pick loop, waiting RPCs and SubConn state machines.
//!
//! [`Core`] is a channel that knows no socket, no clock and no executor: what it wants of the world
//! goes through one [`Env`]. `balancer-channel` gives it tokio and `h2`; a simulation
//! gives it virtual time.
//!
//! | module | idea |
//! |---|---|
//! | `machine` | one SubConn: addresses, attempts, back-off, losses; pure |
//! | `actor` | the balancer's task: one FIFO in, callbacks and pickers out |
//! | `picker_cell` | the current picker, and the RPCs that wait for the next |
//! | `contain` | panics of foreign code end here |
//! | `rpc` | one pick: load, pick, take the connection |
//! | `env` | the seam |
//! | `resolver` | where endpoints come from |
//! | `watch`, `snapshot` | how the channel is seen from outside |

#![forbid(unsafe_code)]

mod actor;
mod backoff;
mod by_id;
mod chatter;
mod conn;
mod contain;
mod core;
mod env;
mod health;
mod machine;
mod picker_cell;
mod queue;
mod resolver;
mod rpc;
mod settings;
mod shared;
mod snapshot;
mod sub_conn;
mod sync;
mod watch;

pub use self::{
    backoff::Backoff,
    chatter::Chatter,
    core::Core,
    env::{
        BoxFuture, CallSender, ConnectRequest, Connected, Connection, Env, Lookaside, Lost,
        ParsedConfig, PolicyCall,
    },
    picker_cell::{NextPicker, QueueFull},
    resolver::{ManualResolver, Resolution, Resolver},
    rpc::{Attempt, Current, PickOutcome},
    settings::Settings,
    snapshot::{ConnectionSnapshot, Snapshot, SubConnSnapshot},
    watch::ConnectivityStates,
};
