//! A policy that wraps another one and counts the RPCs that are in flight through it.
//!
//! It is chosen like any other, and its configuration names the policy inside:
//! `{"in_flight":{"childPolicy":[{"round_robin":{}}]}}`.

#![forbid(unsafe_code)]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, Child, ChildConfig, ChildEvent, ClientConn,
    ConfigError, ConfigFields, ConnectivityState, DoneInfo, FailingPicker, LbConfig, OnDone,
    ParseContext, Pick, PickError, PickOptions, Picker, Rejected, ResolveError, ResolvedAddrs,
    SubConn, SubConnState, TimerId,
};

/// Makes the policy; `totals` are shared by all its channels.
#[derive(Default)]
pub(crate) struct InFlight {
    totals: Arc<Totals>,
}

/// What the application reads.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    started: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug)]
struct InFlightConfig {
    child: ChildConfig,
}

struct InFlightBalancer {
    cc: Arc<dyn ClientConn>,
    options: BuildOptions,
    totals: Arc<Totals>,
    /// `None` until a configuration said which policy it is.
    child: Option<Child>,
    closed: bool,
}

struct InFlightPicker {
    child: Arc<dyn Picker>,
    totals: Arc<Totals>,
}

// === impl InFlight ===

impl InFlight {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn totals(&self) -> Arc<Totals> {
        self.totals.clone()
    }
}

impl Builder for InFlight {
    fn name(&self) -> &str {
        "in_flight"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        Box::new(InFlightBalancer {
            cc,
            options,
            totals: self.totals.clone(),
            child: None,
            closed: false,
        })
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        let mut fields = ConfigFields::parse(json)?;
        let child = fields.child_policy("childPolicy", cx)?;
        fields.finish(cx);
        let child = ConfigFields::required("childPolicy", child)?;
        Ok(LbConfig::new(json, InFlightConfig { child }))
    }
}

// === impl InFlightBalancer ===

impl InFlightBalancer {
    /// There is no child to answer: RPCs fail with what went wrong instead of hanging.
    fn fail(&self, why: &str) {
        let picker = FailingPicker::new(PickError::transient_failure(why));
        self.cc
            .update_balancer_state(ConnectivityState::TransientFailure, Arc::new(picker));
    }

    /// Nothing is this policy's own, so all that happens is the child's, or nobody's any more.
    fn pass_on(&mut self, event: ChildEvent<'_>) -> Result<(), Rejected> {
        match &mut self.child {
            Some(child) => child.handle(event).into_result(),
            None => Ok(()),
        }
    }
}

impl Balancer for InFlightBalancer {
    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let resolved = match resolved {
            // Nothing comes after close; if it did, no child may be made.
            _ if self.closed => return Ok(()),
            Ok(resolved) => resolved,
            Err(error) => {
                if self.child.is_none() {
                    self.fail(error.message());
                }
                return self.pass_on(ChildEvent::Resolved(Err(error)));
            }
        };
        let config = resolved.config.clone();
        let config: Option<&InFlightConfig> = config.as_ref().and_then(LbConfig::downcast_ref);
        let Some(config) = config else {
            let why = "in_flight needs its childPolicy";
            if self.child.is_none() {
                self.fail(why);
            }
            return Err(Rejected::new(why));
        };
        // The result's configuration is ours; without one, the child is given its own.
        let resolved = resolved.with_config(None);
        let event = ChildEvent::Resolved(Ok(resolved));
        Child::update(&mut self.child, &self.cc, &config.child, &self.options)
            .handle(event)
            .into_result()
    }

    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        let _ = self.pass_on(ChildEvent::SubConnState(sub_conn, state));
    }

    fn handle_timer(&mut self, id: TimerId) {
        let _ = self.pass_on(ChildEvent::Timer(id));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        let _ = self.pass_on(ChildEvent::Call(id, &event));
    }

    fn exit_idle(&mut self) {
        if let Some(child) = &mut self.child {
            child.exit_idle();
        }
    }

    fn settle(&mut self) {
        let _ = self.pass_on(ChildEvent::Settle);
        let output = self.child.as_mut().and_then(Child::take_output);
        if let Some((state, child)) = output {
            let totals = self.totals.clone();
            let picker = Arc::new(InFlightPicker { child, totals });
            self.cc.update_balancer_state(state, picker);
        }
    }

    fn close(&mut self) {
        self.closed = true;
        // Its drop closes it.
        self.child = None;
    }
}

// === impl InFlightPicker ===

impl Picker for InFlightPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let pick = self.child.pick(options)?;
        self.totals.started.fetch_add(1, Ordering::Relaxed);
        Ok(pick.on_done(self.totals.clone(), 0))
    }
}

// === impl Totals ===

impl Totals {
    pub(crate) fn in_flight(&self) -> u64 {
        // Ended first: what starts meanwhile must not make the difference negative.
        let ended = self.ended.load(Ordering::Relaxed);
        self.started.load(Ordering::Relaxed).saturating_sub(ended)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl OnDone for Totals {
    fn on_done(&self, _: u64, info: &DoneInfo<'_>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        if info.err().is_some() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[allow(dead_code, reason = "a test includes this file as a module")]
fn main() {
    let policy = InFlight::new();
    let totals = policy.totals();
    println!("policy {}, ready to be registered", policy.name());
    println!(
        "in flight {}, failed {}",
        totals.in_flight(),
        totals.failed()
    );
}
