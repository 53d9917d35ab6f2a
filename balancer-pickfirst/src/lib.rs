//! The `pick_first` load-balancing policy for gRPC, the one that a channel uses when nothing else is
//! configured.
//!
//! It tries the resolver's addresses in order, keeps the first connection that comes up, and sends
//! every RPC there. It balances nothing: its worth is one connection, in an order of your choice.
//!
//! # Choosing it
//! Register the [builder](builder()) and name the policy in a service config:
//!
//! ```json
//! {"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}
//! ```
//!
//! ```
//! use balancer_api::{Builder, NoChildren, ParseContext};
//! use balancer_pickfirst::PickFirstConfig;
//!
//! let builder = balancer_pickfirst::builder();
//! let mut cx = ParseContext::new(&NoChildren, 0);
//! let config = builder.parse_config(r#"{"shuffleAddressList":true}"#, &mut cx)?;
//! let config: Option<&PickFirstConfig> = config.downcast_ref();
//! assert!(config.is_some_and(|config| config.shuffle_address_list));
//! # Ok::<(), balancer_api::ConfigError>(())
//! ```
//!
//! | field | default | |
//! |---|---|---|
//! | `shuffleAddressList` | `false` | puts the endpoints of each new result in random order, so that many clients of one list do not all choose its first backend (gRFC A62) |
//!
//! # What it promises
//! - **Order.** The addresses of all endpoints in the resolver's order, each once, then IPv4 and
//!   IPv6 taking turns, beginning with the family of the first (RFC 8305, gRFC A61).
//! - **Racing.** One SubConn holds the whole list. When an address has no result after 250 ms the next
//!   one is tried beside it; the first to connect wins. One back-off for the list.
//! - **Failure is the list's.** TRANSIENT_FAILURE after the last address has failed, not the first;
//!   then it stays until something is READY (gRFC A62), and the error shown is the latest.
//! - **Nothing without need.** A lost connection leaves it IDLE: it reconnects, from the first address
//!   on, when an RPC is picked or the application asks. However many RPCs wait, it asks once.
//! - **Updates.** A new list that still has the connected address changes nothing now; one that does
//!   not moves the policy to a new connection, while RPCs in flight finish on the old one. IDLE stays
//!   IDLE.
//! - **No health.** A backend that says it is unhealthy is used all the same (gRFC A17).
//!
//! | it was | the list is new | the connection is lost | the whole list failed |
//! |---|---|---|---|
//! | IDLE | IDLE | | |
//! | CONNECTING | CONNECTING | IDLE | TRANSIENT_FAILURE |
//! | READY | READY, or CONNECTING where its address is gone | IDLE | |
//! | TRANSIENT_FAILURE | TRANSIENT_FAILURE; CONNECTING after an empty list | | TRANSIENT_FAILURE, with the new error |
//!
//! The resolver is asked to look again after each loss and after each failure of the whole list.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod addresses;
mod balancer;
mod builder;
mod picker;

pub use builder::{NAME, PickFirst, PickFirstConfig, builder};
