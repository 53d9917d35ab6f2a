//! The gRPC load-balancing contract.
//!
//! A gRPC channel has many backends to choose from; a *policy* decides which connections to keep
//! and which of them takes each RPC. This crate is what a policy and a channel agree on, and
//! nothing else: no transport, no runtime, no registry. Its vocabulary is that of gRPC-Go's
//! `balancer` package.
//!
//! # The parts
//! | | |
//! |---|---|
//! | [`Builder`] | makes balancers; registered under a policy's name |
//! | [`Balancer`] | the policy at work for one channel: told of addresses and connection states |
//! | [`ClientConn`] | the channel as the policy sees it: makes SubConns, takes pickers, keeps time |
//! | [`SubConn`] | a handle to one connection, or to the attempt to make one |
//! | [`Picker`] | an immutable snapshot that chooses a SubConn for each RPC |
//! | [`Done`], [`OnDone`] | how a policy learns that an RPC ended |
//! | [`PickError`] | why there is no SubConn, and what then happens to the RPC |
//! | [`Child`] | a policy inside a policy, for composites |
//! | [`base`] | everything but the choice, for authors who want to write only that |
//!
//! # How they work together
//! ```text
//!   resolver ──► Balancer::handle_resolved_addrs ──► ClientConn::new_sub_conn, SubConn::connect
//!   network  ──► Balancer::handle_sub_conn_state_change
//!                Balancer::settle ──────────────────► ClientConn::update_balancer_state(state, picker)
//!   RPC ───────► Picker::pick ──► SubConn ──► … ──► OnDone::on_done
//! ```
//! The callbacks of one balancer come one at a time; picks come from everywhere at any time. A
//! policy does no I/O: it starts no task, opens no socket, and asks its [`ClientConn`] for time,
//! timers and chance. So the same object runs in a channel, under the test kit's virtual clock and
//! in a simulator.
//!
//! # Writing a policy
//! Given the READY SubConns, choose: that is a policy on the [`base`]. This one sends each RPC to the
//! backend with the fewest RPCs in flight, counted from pick to end, across reconnects:
//!
//! ```
//! use balancer_api::base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet};
//! use balancer_api::{DoneInfo, Endpoint, OnDone, Pick, PickError, PickOptions, Picker};
//! use std::sync::{Arc, atomic::{AtomicUsize, Ordering::Relaxed}};
//!
//! struct LeastBusy;
//! #[derive(Default)]
//! struct InFlight(AtomicUsize);
//! struct LeastBusyPicker(ReadySet<Arc<InFlight>>);
//!
//! impl PickerBuilder for LeastBusy {
//!     type Data = Arc<InFlight>;
//!     fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) -> Self::Data {
//!         Arc::default()
//!     }
//!     fn build_picker(&mut self, ready: &ReadySet<Self::Data>, _: &BaseContext<'_>) -> Arc<dyn Picker> {
//!         Arc::new(LeastBusyPicker(ready.clone()))
//!     }
//! }
//!
//! impl Picker for LeastBusyPicker {
//!     fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
//!         let least = self.0.iter().min_by_key(|ready| ready.data().0.load(Relaxed));
//!         let least = least.ok_or(PickError::NoSubConnAvailable)?;
//!         least.data().0.fetch_add(1, Relaxed);
//!         Ok(Pick::new(least.sub_conn()).on_done(least.data().clone(), 0))
//!     }
//! }
//!
//! impl OnDone for InFlight {
//!     fn on_done(&self, _: u64, _: &DoneInfo<'_>) {
//!         self.0.fetch_sub(1, Relaxed);
//!     }
//! }
//!
//! let builder = BaseBuilder::new("least_busy", || LeastBusy);
//! # assert_eq!(balancer_api::Builder::name(&builder), "least_busy");
//! ```
//! The builder then goes into a registry under its name, and a service config chooses it:
//! `{"loadBalancingConfig":[{"least_busy":{}}]}`.
//!
//! - A policy with configuration: [`BaseBuilder::with_config_parser`](base::BaseBuilder::with_config_parser)
//!   and [`ConfigFields`].
//! - A policy with a timer, a call on its SubConns, or state per backend: the hooks of
//!   [`PickerBuilder`](base::PickerBuilder); `examples/probing.rs` runs a call on each SubConn.
//! - A policy that wraps others: [`Child`]; `examples/composite.rs` counts through a child.
//! - Full control over SubConns: [`Builder`] and [`Balancer`] themselves.
//!
//! # Allocation
//! A pick and its completion allocate nothing, with up to four observers (so through three levels
//! of composites as well); neither do the errors of a picker, however many RPCs fail with them.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod address;
mod attributes;
mod balancer;
pub mod base;
mod child;
mod client_conn;
mod config;
mod done;
mod error;
mod hash;
mod picker;
mod proofs;
mod security;
mod state;
mod status;
mod sub_conn;

pub use address::{Address, Endpoint};
pub use attributes::Attributes;
pub use balancer::{Balancer, BuildOptions, Builder, ResolvedAddrs};
pub use child::{Child, ChildEvent, Handled};
pub use client_conn::{CallEvent, CallId, CallRequest, ClientConn, Source, TimerId, Timestamp};
pub use config::{
    ChildConfig, ChildResolver, ConfigFields, ConfigWarning, LbConfig, MAX_POLICY_DEPTH,
    NoChildren, ParseContext, parse_duration,
};
pub use done::{Done, DoneInfo, OnDone};
pub use error::{
    ConfigError, ERR_NO_SUB_CONN_AVAILABLE, ERR_TRANSIENT_FAILURE, NewSubConnError, PickError,
    Rejected, ResolveError,
};
pub use picker::{FailingPicker, Pick, PickOptions, Picker, QueuePicker};
pub use security::{AuthInfo, Dialer, HandshakeError, Io, SecurityLevel, TransportCredentials};
pub use state::{ConnectivityState, ConnectivityStateEvaluator};
pub use status::{Code, Status};
pub use sub_conn::{
    HealthReporting, NewSubConnOptions, Reconnect, StateCause, SubConn, SubConnHandle, SubConnState,
};
