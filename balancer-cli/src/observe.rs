//! Watches where a policy sends RPCs, without the policy or the channel knowing.
//!
//! Each shipped policy is registered under its own name inside a wrapper that passes everything on,
//! and notes what a channel does not tell: how many attempts went to which address.

mod tally;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallEvent, CallId, CallRequest, ClientConn,
    ConfigError, ConnectivityState, Dialer, LbConfig, NewSubConnError, NewSubConnOptions,
    ParseContext, Pick, PickError, PickOptions, Picker, Rejected, ResolveError, ResolvedAddrs,
    SubConn, SubConnState, TimerId, Timestamp, TransportCredentials,
};
use balancer_channel::Registry;
use bytes::Bytes;

pub(crate) use tally::{Attempt, RPC_NUMBER, Tally};

use crate::policies::shipped;
use tally::Site;

/// A policy that is watched.
struct Observed {
    policy: Arc<dyn Builder>,
    /// Where its child policies come from: they are not watched, or an attempt would count twice.
    plain: Registry,
    tally: Arc<Tally>,
}

struct ObservedBalancer {
    policy: Box<dyn Balancer>,
    sites: Arc<Sites>,
}

/// The channel as the policy sees it.
struct ObservedConn {
    parent: Arc<dyn ClientConn>,
    sites: Arc<Sites>,
}

struct ObservedPicker {
    picker: Arc<dyn Picker>,
    sites: HashMap<SubConn, Arc<Site>>,
    tally: Arc<Tally>,
}

/// Which address each SubConn was connected to last.
struct Sites {
    tally: Arc<Tally>,
    /// Nothing is called under this lock.
    connected: Mutex<HashMap<SubConn, Connected>>,
}

struct Connected {
    site: Arc<Site>,
    is_ready: bool,
}

/// The shipped policies, each watched by `tally`.
pub(crate) fn registry(tally: &Arc<Tally>) -> Registry {
    watched(&shipped(), tally)
}

/// The policies of `plain`, each watched by `tally`.
fn watched(plain: &Registry, tally: &Arc<Tally>) -> Registry {
    let watched = Registry::new();
    for (_, policy) in plain.policies() {
        let observed = Observed {
            policy,
            plain: plain.clone(),
            tally: tally.clone(),
        };
        let registered = watched.register(Arc::new(observed));
        debug_assert!(registered.is_ok(), "it has the name of a registered policy");
    }
    watched
}

// === impl Observed ===

impl Builder for Observed {
    fn name(&self) -> &str {
        self.policy.name()
    }

    fn description(&self) -> &str {
        self.policy.description()
    }

    fn build(&self, parent: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let sites = Arc::new(Sites {
            tally: self.tally.clone(),
            connected: Mutex::default(),
        });
        let conn = ObservedConn {
            parent,
            sites: sites.clone(),
        };
        Box::new(ObservedBalancer {
            policy: self.policy.build(Arc::new(conn), options),
            sites,
        })
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        let mut plain = ParseContext::new(&self.plain, cx.depth());
        let config = self.policy.parse_config(json, &mut plain);
        for warning in plain.take_warnings() {
            cx.warn(warning.path(), warning.message());
        }
        config
    }
}

// === impl ObservedBalancer ===

impl Balancer for ObservedBalancer {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        self.sites.note(sub_conn, state);
        self.policy.handle_sub_conn_state_change(sub_conn, state);
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.policy.handle_resolved_addrs(resolved)
    }

    fn close(&mut self) {
        self.policy.close();
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.policy.handle_timer(id);
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        self.policy.handle_call_event(id, event);
    }

    fn exit_idle(&mut self) {
        self.policy.exit_idle();
    }

    fn settle(&mut self) {
        self.policy.settle();
    }
}

// === impl ObservedConn ===

impl ClientConn for ObservedConn {
    fn update_balancer_state(&self, state: ConnectivityState, picker: Arc<dyn Picker>) {
        let picker = ObservedPicker {
            picker,
            sites: self.sites.snapshot(),
            tally: self.sites.tally.clone(),
        };
        self.parent.update_balancer_state(state, Arc::new(picker));
    }

    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        self.parent.new_sub_conn(addresses, options)
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        self.parent.remove_sub_conn(sub_conn);
    }

    fn target(&self) -> &str {
        self.parent.target()
    }

    fn resolve_now(&self) {
        self.parent.resolve_now();
    }

    fn now(&self) -> Timestamp {
        self.parent.now()
    }

    fn random(&self) -> u64 {
        self.parent.random()
    }

    fn set_timer(&self, after: Duration) -> TimerId {
        self.parent.set_timer(after)
    }

    fn cancel_timer(&self, id: TimerId) {
        self.parent.cancel_timer(id);
    }

    fn wake(&self) {
        self.parent.wake();
    }

    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
        self.parent.start_call(sub_conn, request)
    }

    fn send_call_message(&self, id: CallId, message: Bytes) {
        self.parent.send_call_message(id, message);
    }

    fn close_call_send(&self, id: CallId) {
        self.parent.close_call_send(id);
    }

    fn cancel_call(&self, id: CallId) {
        self.parent.cancel_call(id);
    }

    fn new_lookaside(
        &self,
        target: &str,
        credentials: Option<Arc<dyn TransportCredentials>>,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        self.parent.new_lookaside(target, credentials, dialer)
    }
}

// === impl ObservedPicker ===

impl Picker for ObservedPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let pick = self.picker.pick(options)?;
        let site = match self.sites.get(pick.sub_conn()) {
            Some(site) => site.clone(),
            // Not READY when this picker was made, so hardly to be sent anywhere.
            None => self.tally.unknown(),
        };
        Ok(pick.on_done(site, tally::rpc_number(options.headers())))
    }
}

// === impl Sites ===

impl Sites {
    fn note(&self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        let mut connected = self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = connected.get_mut(sub_conn)
            && known.is_ready
            && state.state != ConnectivityState::Ready
        {
            known.is_ready = false;
            known.site.left();
        }
        match (state.state, state.address) {
            (ConnectivityState::Ready, Some(address)) => {
                let site = self.tally.site(address.addr());
                let is_ready = true;
                connected.insert(sub_conn.clone(), Connected { site, is_ready });
            }
            (ConnectivityState::Shutdown, _) => drop(connected.remove(sub_conn)),
            _ => {}
        }
    }

    fn snapshot(&self) -> HashMap<SubConn, Arc<Site>> {
        let connected = self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let sites = connected.iter();
        sites
            .map(|(sub_conn, known)| (sub_conn.clone(), known.site.clone()))
            .collect()
    }
}
