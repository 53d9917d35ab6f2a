//! A pick_first written by hand, and the ways to get it wrong.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, ClientConn, ConnectivityState as State, Endpoint,
    NewSubConnOptions, Pick, PickError, PickOptions, Picker, Reconnect, Rejected, ResolveError,
    ResolvedAddrs, Status, SubConn, SubConnState,
};

/// A pick_first with one bug, or none.
#[derive(Clone, Copy, Debug)]
pub struct PickFirst(pub Bug);

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of mutants describes them")]
pub enum Bug {
    None,
    KeepsOldAddress,
    ReconnectsByItself,
    ConnectsOnEveryPick,
    StaysFailedAfterEmptyList,
    SilentOnEmptyList,
    PanicsOnEmptyList,
    UnknownForgetsCurrent,
    IdlePickerFiresOnce,
    ErrorShutsDown,
    IdleAfterFailureStays,
    StuckWhenLostWhileConnecting,
    ShowsFirstErrorOnly,
    UpdateInIdleForgetsPicker,
    ExitIdlePanicsWithoutList,
    ReadyWithoutTelling,
    MovesOnUpdate,
    RefusalIsSilent,
    DialsTwice,
}

struct Policy {
    bug: Bug,
    cc: Arc<dyn ClientConn>,
    sub_conn: Option<SubConn>,
    addresses: Vec<Address>,
    connected: Option<Address>,
    state: Option<State>,
    error: Option<Status>,
    resolver_error: Option<String>,
    idle: Option<Arc<AtomicBool>>,
    first_idle: Option<Arc<AtomicBool>>,
    dirty: bool,
    emptied: bool,
}

struct Ready(SubConn);
struct Waiting;
struct Failing(PickError);
struct Idle {
    sub_conn: SubConn,
    fired: Arc<AtomicBool>,
    every_time: bool,
}

// === impl PickFirst ===

impl Builder for PickFirst {
    fn name(&self) -> &str {
        "mutant_pick_first"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        Box::new(Policy {
            bug: self.0,
            cc,
            sub_conn: None,
            addresses: Vec::new(),
            connected: None,
            state: None,
            error: None,
            resolver_error: None,
            idle: None,
            first_idle: None,
            dirty: false,
            emptied: false,
        })
    }
}

// === impl Policy ===

impl Policy {
    fn report(&mut self, state: State) {
        self.state = Some(state);
        self.dirty = true;
    }

    fn failure(&self) -> PickError {
        let mut text = self
            .error
            .as_ref()
            .map_or_else(String::new, |error| error.message().to_owned());
        if let Some(error) = &self.resolver_error {
            text.push_str("; ");
            text.push_str(error);
        }
        PickError::transient_failure(text)
    }

    fn empty(&mut self) -> Rejected {
        if self.bug == Bug::PanicsOnEmptyList {
            let _ = 3 % self.addresses.drain(..).take(0).count();
        }
        if let Some(sub_conn) = self.sub_conn.take() {
            self.cc.remove_sub_conn(&sub_conn);
        }
        self.addresses.clear();
        self.connected = None;
        self.error = None;
        self.emptied = true;
        self.resolver_error = Some("zero addresses".to_owned());
        if self.bug != Bug::SilentOnEmptyList {
            self.report(State::TransientFailure);
        }
        Rejected::new("zero addresses")
    }
}

impl Balancer for Policy {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        if self.sub_conn.as_ref() != Some(sub_conn) {
            if self.bug == Bug::UnknownForgetsCurrent {
                self.sub_conn = None;
            }
            return;
        }
        let before = self.state;
        self.connected = new.address.cloned();
        let sticky = before == Some(State::TransientFailure);
        match new.state {
            State::Ready => {
                let listed = self
                    .connected
                    .as_ref()
                    .is_none_or(|at| self.addresses.contains(at));
                if listed || self.bug == Bug::KeepsOldAddress {
                    self.error = None;
                    self.emptied = false;
                    if self.bug == Bug::ReadyWithoutTelling && sticky {
                        self.state = Some(State::Ready);
                    } else {
                        self.report(State::Ready);
                    }
                }
            }
            State::Connecting if sticky => {}
            State::Connecting => self.report(State::Connecting),
            State::Idle if sticky => {
                if self.bug != Bug::IdleAfterFailureStays {
                    sub_conn.connect();
                }
            }
            State::Idle => {
                self.cc.resolve_now();
                if self.bug == Bug::StuckWhenLostWhileConnecting
                    && before == Some(State::Connecting)
                {
                    return;
                }
                if self.bug == Bug::ReconnectsByItself {
                    sub_conn.connect();
                }
                let fired = match (self.bug, &self.first_idle) {
                    // One for the life of the policy.
                    (Bug::IdlePickerFiresOnce, Some(first)) => first.clone(),
                    _ => Arc::default(),
                };
                self.first_idle.get_or_insert_with(|| fired.clone());
                self.idle = Some(fired);
                self.report(State::Idle);
            }
            State::TransientFailure => {
                if self.bug != Bug::ShowsFirstErrorOnly || self.error.is_none() {
                    self.error = new.error.cloned();
                }
                self.cc.resolve_now();
                self.report(State::TransientFailure);
            }
            State::Shutdown => self.sub_conn = None,
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.resolver_error = Some(error.message().to_owned());
                if self.bug == Bug::ErrorShutsDown {
                    if let Some(sub_conn) = self.sub_conn.take() {
                        self.cc.remove_sub_conn(&sub_conn);
                    }
                    self.report(State::TransientFailure);
                }
                if matches!(self.state, None | Some(State::TransientFailure)) {
                    self.report(State::TransientFailure);
                }
                return Ok(());
            }
        };
        let mut addresses: Vec<Address> = Vec::new();
        for address in resolved.endpoints.iter().flat_map(Endpoint::addresses) {
            if !addresses.contains(address) || self.bug == Bug::DialsTwice {
                addresses.push(address.clone());
            }
        }
        if addresses.is_empty() {
            return Err(self.empty());
        }
        let had_error = self.resolver_error.take().is_some();
        self.dirty |= had_error && self.state == Some(State::TransientFailure);
        let Some(sub_conn) = &self.sub_conn else {
            let options = NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked);
            return match self.cc.new_sub_conn(addresses.clone(), options) {
                Ok(sub_conn) => {
                    sub_conn.connect();
                    self.sub_conn = Some(sub_conn);
                    self.addresses = addresses;
                    self.error = None;
                    if self.bug != Bug::StaysFailedAfterEmptyList || !self.emptied {
                        self.report(State::Connecting);
                    }
                    Ok(())
                }
                Err(_) if self.bug == Bug::RefusalIsSilent => Ok(()),
                Err(error) => {
                    self.error = Some(Status::unavailable(error.to_string()));
                    self.report(State::TransientFailure);
                    Err(Rejected::new(error.to_string()))
                }
            };
        };
        if self.bug == Bug::UpdateInIdleForgetsPicker && self.state == Some(State::Idle) {
            self.addresses = addresses;
            return Ok(());
        }
        if self.addresses != addresses {
            if self.bug == Bug::MovesOnUpdate {
                self.cc.remove_sub_conn(sub_conn);
                let options = NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked);
                self.sub_conn = self.cc.new_sub_conn(addresses.clone(), options).ok();
                if let Some(sub_conn) = &self.sub_conn {
                    sub_conn.connect();
                }
                self.connected = None;
                self.addresses = addresses;
                self.report(State::Connecting);
                return Ok(());
            }
            let listed = self
                .connected
                .as_ref()
                .is_none_or(|at| addresses.contains(at));
            if self.bug == Bug::KeepsOldAddress && !listed {
                self.addresses = addresses;
                return Ok(());
            }
            sub_conn.update_addresses(addresses.clone());
            self.addresses = addresses;
            if self.state == Some(State::Ready) && !listed {
                self.report(State::Connecting);
            }
        }
        Ok(())
    }

    fn exit_idle(&mut self) {
        if self.bug == Bug::ExitIdlePanicsWithoutList {
            assert!(self.sub_conn.is_some(), "nil dereference");
        }
        if self.state == Some(State::Idle)
            && let (Some(sub_conn), Some(idle)) = (&self.sub_conn, &self.idle)
            && !idle.swap(true, Relaxed)
        {
            sub_conn.connect();
        }
    }

    fn close(&mut self) {
        self.sub_conn = None;
        self.dirty = false;
    }

    fn settle(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let (state, picker): (State, Arc<dyn Picker>) = match (self.state, &self.sub_conn) {
            (Some(State::Ready), Some(sub_conn)) => {
                (State::Ready, Arc::new(Ready(sub_conn.clone())))
            }
            (Some(State::Connecting), Some(_)) => (State::Connecting, Arc::new(Waiting)),
            (Some(State::Idle), Some(sub_conn)) => {
                let idle = Idle {
                    sub_conn: sub_conn.clone(),
                    fired: self.idle.clone().unwrap_or_default(),
                    every_time: self.bug == Bug::ConnectsOnEveryPick,
                };
                (State::Idle, Arc::new(idle))
            }
            _ => (State::TransientFailure, Arc::new(Failing(self.failure()))),
        };
        self.cc.update_balancer_state(state, picker);
    }
}

// === pickers ===

impl Picker for Ready {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Ok(Pick::new(&self.0))
    }
}

impl Picker for Waiting {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Err(PickError::NoSubConnAvailable)
    }
}

impl Picker for Failing {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Err(self.0.clone())
    }
}

impl Picker for Idle {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        if !self.fired.swap(true, Relaxed) || self.every_time {
            self.sub_conn.connect();
        }
        Err(PickError::NoSubConnAvailable)
    }
}
