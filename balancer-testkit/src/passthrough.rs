//! A composite that changes nothing: for proving that a policy is right as a child, too.

use std::sync::Arc;

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, Child, ChildConfig, ChildEvent, ClientConn,
    ConfigError, LbConfig, ParseContext, Rejected, ResolveError, ResolvedAddrs, SubConn,
    SubConnState, TimerId,
};

/// Builds `inner` inside of a composite that hands everything on.
///
/// ```
/// use balancer_testkit::PassThrough;
/// # use balancer_api::{base::*, *};
/// # struct P;
/// # impl PickerBuilder for P {
/// #     type Data = ();
/// #     fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
/// #     fn build_picker(&mut self, _: &ReadySet, _: &BaseContext<'_>) -> std::sync::Arc<dyn Picker> {
/// #         std::sync::Arc::new(QueuePicker)
/// #     }
/// # }
/// # let builder = std::sync::Arc::new(BaseBuilder::new("inner", || P));
/// let two_levels = PassThrough::around(std::sync::Arc::new(PassThrough::around(builder)));
/// assert_eq!(balancer_api::Builder::name(&two_levels), "pass_through");
/// ```
pub struct PassThrough {
    inner: Arc<dyn Builder>,
}

struct Passing {
    cc: Arc<dyn ClientConn>,
    child: Child,
}

// === impl PassThrough ===

impl PassThrough {
    /// A composite around `inner`, whose configuration it takes as its own.
    pub fn around(inner: Arc<dyn Builder>) -> Self {
        Self { inner }
    }
}

impl Builder for PassThrough {
    fn name(&self) -> &str {
        "pass_through"
    }

    fn description(&self) -> &str {
        "hands everything on to its child"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let child = ChildConfig::new(self.inner.clone(), options.config.clone());
        let child = Child::build(cc.clone(), &child, &options);
        Box::new(Passing { cc, child })
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        self.inner.parse_config(json, cx)
    }
}

impl std::fmt::Debug for PassThrough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PassThrough({})", self.inner.name())
    }
}

// === impl Passing ===

impl Balancer for Passing {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        let _ = self.child.handle(ChildEvent::SubConnState(sub_conn, state));
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.child
            .handle(ChildEvent::Resolved(resolved))
            .into_result()
    }

    fn close(&mut self) {
        self.child.close();
    }

    fn handle_timer(&mut self, id: TimerId) {
        let _ = self.child.handle(ChildEvent::Timer(id));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        let _ = self.child.handle(ChildEvent::Call(id, &event));
    }

    fn exit_idle(&mut self) {
        self.child.exit_idle();
    }

    fn settle(&mut self) {
        let _ = self.child.handle(ChildEvent::Settle);
        if let Some((state, picker)) = self.child.take_output() {
            self.cc.update_balancer_state(state, picker);
        }
    }
}
