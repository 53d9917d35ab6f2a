//! A gRPC channel for tonic clients with pluggable load balancing.
//!
//! tonic's generated clients take any tower service; give them a [`Channel`] instead of tonic's own
//! and their RPCs are spread over connected backends by a policy that a service config names.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use balancer_channel::Channel;
//!
//! let channel = Channel::builder("dns:///greeter.prod:50051")
//!     .plaintext() // or .tls(..): never a silent default
//!     .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
//!     .build()?;
//! # Ok(()) }
//! ```
//!
//! # What it does
//! - connects to every backend that the policy wants, and sends no RPC to one that is not READY:
//!   READY means that the peer has sent its HTTP/2 SETTINGS;
//! - redials what is lost, with gRPC's back-off;
//! - keeps RPCs waiting while something connects, and fails them with the last real error when
//!   nothing does;
//! - sends an RPC again that no server can have seen, so that draining backends costs nothing; and
//!   one that failed as the service config says (retries, hedging, their throttling);
//! - asks backends for their health where the service config names a service;
//! - falls asleep after half an hour without RPCs;
//! - switches policies without a gap, and contains those that panic.
//!
//! # What it tells
//! By `tracing`. At INFO: connections that could not be made and why, connections that were lost (a GOAWAY
//! with its code and text, silence after a keepalive ping), changes of policy, retries that are throttled.
//! At DEBUG also: each attempt to connect, states, what the resolver says and when it is asked again, and
//! RPCs that wait or are tried again, with how long and why. What happens over and over is told a few times
//! in half a minute, the next line says how much was not (`untold`); at TRACE everything is. An RPC that
//! goes straight through is told of nowhere. [`Channel::snapshot`] shows the present.
//!
//! # Where things are
//! [`Channel::builder`] takes a [`Target`] and builds; [`WaitForReady`] is for single calls;
//! [`Resolver`] and [`ManualResolver`] say where endpoints come from; [`TlsConfig`] how connections
//! are secured. Policies of your own go into a [`Registry`] or to
//! [`ChannelBuilder::policy`].

#![forbid(unsafe_code)]

mod builder;
mod call;
mod channel;
mod credentials;
mod deadline;
mod env;
#[cfg(test)]
mod fuzz;
mod headers;
#[doc(hidden)]
pub mod ledger;
mod options;
mod orca;
mod policies;
mod proxy;
mod resolver;
mod rpc_config;
mod runtime;
mod status;
mod sync;
mod target;
mod timeout;
mod transport;

pub use balancer_channel_core::{
    Backoff, ConnectionSnapshot, ConnectivityStates, ManualResolver, Resolution, Resolver,
    Snapshot, SubConnSnapshot,
};
pub use balancer_registry::{Limits, Registry, ServiceConfig, ServiceConfigError};
pub use builder::{BuildError, ChannelBuilder};
pub use call::ResponseFuture;
pub use channel::Channel;
pub use credentials::{CallCredentials, CallInfo, PerCallCredentials};
pub use options::WaitForReady;
pub use policies::register_shipped;
pub use proxy::{HttpProxy, HttpProxyError};
pub use target::{Target, TargetError};
pub use transport::{TlsConfig, TlsConfigError};
