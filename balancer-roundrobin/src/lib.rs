//! The `round_robin` load-balancing policy for gRPC.
//!
//! Sends each RPC to the next READY backend in turn. It connects to every endpoint that the resolver
//! finds, keeps those connections up, and leaves a backend out of the rotation from the moment its
//! connection is lost until it is READY again.
//!
//! # Choosing it
//! Register the [builder](builder()) and name the policy in a service config; it has no
//! configuration:
//!
//! ```json
//! {"loadBalancingConfig": [{"round_robin": {}}]}
//! ```
//!
//! ```
//! use balancer_api::Builder;
//!
//! let builder = balancer_roundrobin::builder();
//! assert_eq!(builder.name(), balancer_roundrobin::NAME);
//! ```
//!
//! # What it promises
//! - **Exact turns.** While the set of READY backends stays the same, each run of *n* picks goes to
//!   *n* different backends, in the resolver's order, however many threads pick.
//! - **A fair start.** A channel starts at a random backend, so that a thousand clients that start
//!   together do not open with the same one. After that the rotation is *carried on*: when a backend
//!   joins, leaves or comes back, the next pick goes where it would have gone anyway (or, if that
//!   backend is gone, to the one after it). A picker that is replaced after every RPC is therefore as
//!   fair as one that is never replaced.
//! - **One SubConn per endpoint.** Equal endpoints collapse; a repeated address gets no double share.
//!   Where an endpoint has several addresses they are raced as gRFC A61 asks, inside the SubConn.
//! - **Dropped means dropped.** A backend that the resolver withdrew is in no picker published after
//!   that result.
//! - **Fail fast, wait well.** RPCs queue while something connects, and fail with the last real error
//!   when everything has failed. A backend that failed counts as failed until it is READY (gRFC A62),
//!   so dead backends that are being redialled do not keep RPCs hanging.
//! - **Retries go elsewhere.** A retry draws again, at most twice, when its turn falls on a backend
//!   that it has tried already.
//! - **Health.** Its SubConns report health (gRFC A17) where the service config asks for it.
//!
//! A pick costs one atomic addition and two multiplications, and allocates nothing.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod builder;
mod cycle;
mod picker;
mod rotation;
mod turns;

pub use builder::{NAME, RoundRobin, builder};
