//! The policy author's base: "given the READY SubConns, build me a picker".
//!
//! Most policies differ only in how they choose among connected backends. The base does the rest as
//! gRPC's policies do it (gRFC A62 and the connectivity semantics):
//!
//! - one SubConn per distinct endpoint, connected at once (from a random place in the list on, so that
//!   many clients do not start alike) and again whenever it is IDLE; endpoints
//!   that are gone are removed, the others keep their connection, also when the order changes;
//! - the aggregate state, with sticky failure: an endpoint that failed counts as failed until it is
//!   READY again, so that RPCs do not hang while dead backends are redialled;
//! - RPCs queue while something connects, and fail with the last real error when nothing does;
//! - resolver errors and empty lists; re-resolution after a loss or a failure;
//! - one picker per run of changes, and only when something changed; a change costs the same for
//!   ten SubConns and for a hundred thousand, since pickers share the list ([`ReadySet`]).
//!
//! An author implements [`PickerBuilder`] and registers a [`BaseBuilder`]. State that belongs to a
//! backend and outlives pickers (an in-flight counter, a weight) is [`PickerBuilder::Data`].
//!
//! ```
//! use balancer_api::base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet};
//! use balancer_api::{Pick, PickError, PickOptions, Picker};
//! use std::sync::Arc;
//!
//! /// Sends each RPC to a random backend.
//! struct Random;
//! struct RandomPicker(ReadySet);
//!
//! impl PickerBuilder for Random {
//!     type Data = ();
//!     fn data(&mut self, _: &balancer_api::Endpoint, _: &BaseContext<'_>) {}
//!     fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
//!         Arc::new(RandomPicker(ready.clone()))
//!     }
//! }
//!
//! impl Picker for RandomPicker {
//!     fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
//!         let at = options.random() % self.0.len() as u64;
//!         let chosen = self.0.get(at as usize).ok_or(PickError::NoSubConnAvailable)?;
//!         Ok(Pick::new(chosen.sub_conn()))
//!     }
//! }
//!
//! let builder = BaseBuilder::new("random", || Random).with_description("a random backend");
//! # use balancer_api::Builder;
//! # assert_eq!(builder.name(), "random");
//! ```

mod balancer;
mod builder;
mod overlay;
mod ready;
mod sub_conns;

use std::sync::Arc;

pub use builder::BaseBuilder;
pub use ready::{ReadySet, ReadySubConn};

use crate::{
    Attributes, CallEvent, CallId, ClientConn, Endpoint, LbConfig, Picker, Rejected, TimerId,
    Timestamp,
};

/// What makes a policy on the base its own: how to choose among READY SubConns.
///
/// # Calls
/// As for [`Balancer`](crate::Balancer): one caller, one call at a time.
///
/// # Order
/// What happened comes first, in order ([`on_ready`](Self::on_ready),
/// [`on_not_ready`](Self::on_not_ready), timers, calls), then [`settle`](Self::settle), then, if
/// something changed (readiness, the list, its attributes or the configuration, or a hook asked
/// for it), [`build_picker`](Self::build_picker). All of them may use the ClientConn. There is no
/// hook at close: implement `Drop` where something has to be undone.
///
/// # Hooks
/// Those that answer a `bool` say with `true` that a new picker is wanted; it is built in the same
/// `settle`.
pub trait PickerBuilder: Send {
    /// What the policy keeps for each endpoint from its first appearance until it is gone, across
    /// reconnects and pickers. `()` when there is nothing; otherwise usually an `Arc` of atomics
    /// that pickers and observers update. What changes must be shared between clones: pickers and hooks
    /// see clones, and which of them is the same one as before is not said.
    type Data: Clone + Send + Sync + 'static;

    /// The data of a new endpoint.
    fn data(&mut self, endpoint: &Endpoint, cx: &BaseContext<'_>) -> Self::Data;

    /// Makes a picker over `ready`, which is never empty and in the resolver's order. Clone it into
    /// the picker: it is shared, not copied.
    fn build_picker(
        &mut self,
        ready: &ReadySet<Self::Data>,
        cx: &BaseContext<'_>,
    ) -> Arc<dyn Picker>;

    /// A resolver result arrived with this configuration (`None`: none was given). Called before
    /// its endpoints are looked at, also when it is the same as before.
    ///
    /// # Errors
    /// [`Rejected`] refuses the whole result: the endpoints stay as they were.
    fn set_config(
        &mut self,
        config: Option<&LbConfig>,
        cx: &BaseContext<'_>,
    ) -> Result<(), Rejected> {
        let _ = (config, cx);
        Ok(())
    }

    /// `sub_conn` became READY: the place to start a call on it. Asks for a picker anyway.
    fn on_ready(&mut self, sub_conn: &ReadySubConn<Self::Data>, cx: &BaseContext<'_>) {
        let _ = (sub_conn, cx);
    }

    /// `sub_conn` is no longer READY, or was removed. Asks for a picker anyway.
    fn on_not_ready(&mut self, sub_conn: &ReadySubConn<Self::Data>, cx: &BaseContext<'_>) {
        let _ = (sub_conn, cx);
    }

    /// See [`Balancer::handle_timer`](crate::Balancer::handle_timer).
    fn handle_timer(&mut self, id: TimerId, cx: &BaseContext<'_>) -> bool {
        let _ = (id, cx);
        false
    }

    /// See [`Balancer::handle_call_event`](crate::Balancer::handle_call_event).
    fn handle_call_event(&mut self, id: CallId, event: CallEvent, cx: &BaseContext<'_>) -> bool {
        let _ = (id, event, cx);
        false
    }

    /// A run of callbacks is over, or somebody called [`ClientConn::wake`].
    fn settle(&mut self, cx: &BaseContext<'_>) -> bool {
        let _ = cx;
        false
    }
}

/// What the base tells a [`PickerBuilder`] beside the question itself.
pub struct BaseContext<'a> {
    cc: &'a Arc<dyn ClientConn>,
    config: Option<&'a LbConfig>,
    attributes: &'a Attributes,
}

// === impl BaseContext ===

impl<'a> BaseContext<'a> {
    fn of(
        cc: &'a Arc<dyn ClientConn>,
        config: &'a Option<LbConfig>,
        attributes: &'a Attributes,
    ) -> Self {
        Self {
            cc,
            config: config.as_ref(),
            attributes,
        }
    }

    /// The channel: for timers, calls, [`wake`](ClientConn::wake). SubConns and published states
    /// are the base's affair.
    pub fn client_conn(&self) -> &'a Arc<dyn ClientConn> {
        self.cc
    }

    /// The configuration of the last accepted resolver result.
    pub fn config(&self) -> Option<&'a LbConfig> {
        self.config
    }

    /// The attributes of the last accepted resolver result.
    pub fn attributes(&self) -> &'a Attributes {
        self.attributes
    }

    /// [`ClientConn::now`].
    pub fn now(&self) -> Timestamp {
        self.cc.now()
    }

    /// [`ClientConn::random`].
    pub fn random(&self) -> u64 {
        self.cc.random()
    }
}

impl std::fmt::Debug for BaseContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseContext")
            .field("config", &self.config)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}
