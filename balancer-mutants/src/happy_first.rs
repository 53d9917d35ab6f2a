//! A pick_first with one SubConn per address, as gRPC does today, and the ways to get it wrong.
//! Right, and unusual here: the shipped one holds the whole list in one SubConn.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, ClientConn, ConnectivityState as State, Endpoint,
    FailingPicker, NewSubConnOptions, Pick, PickError, PickOptions, Picker, QueuePicker, Reconnect,
    Rejected, ResolveError, ResolvedAddrs, Status, SubConn, SubConnState,
};

/// The policy with one bug, or none.
#[derive(Clone, Copy, Debug)]
pub struct HappyFirst(pub Bug);

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of mutants describes them")]
pub enum Bug {
    None,
    FailsAfterFirstAddress,
    KeepsLosers,
    StopsAfterFirstPass,
    ForgetsLastAddress,
}

struct Policy {
    bug: Bug,
    cc: Arc<dyn ClientConn>,
    addresses: Vec<Address>,
    subs: Vec<Entry>,
    chosen: Option<SubConn>,
    state: Option<State>,
    error: Option<Status>,
    resolver_error: Option<String>,
    /// Idle, with the addresses to start from when a pick wants a connection.
    wanted: Arc<AtomicBool>,
    dirty: bool,
    closed: bool,
}

struct Entry {
    address: Address,
    sub_conn: SubConn,
    state: State,
    failed: bool,
}

struct Chosen(SubConn);
struct Idle {
    cc: Arc<dyn ClientConn>,
    wanted: Arc<AtomicBool>,
}

impl Builder for HappyFirst {
    fn name(&self) -> &str {
        "mutant_happy_first"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        Box::new(Policy {
            bug: self.0,
            cc,
            addresses: Vec::new(),
            subs: Vec::new(),
            chosen: None,
            state: None,
            error: None,
            resolver_error: None,
            wanted: Arc::default(),
            dirty: false,
            closed: false,
        })
    }
}

impl Policy {
    fn report(&mut self, state: State) {
        self.state = Some(state);
        self.dirty = true;
    }

    /// Starts the next address that was not tried; whether there was one.
    fn next(&mut self) -> bool {
        let known = |address: &&Address| !self.subs.iter().any(|e| e.address == **address);
        let limit = match self.bug {
            Bug::ForgetsLastAddress if self.addresses.len() > 1 => self.addresses.len() - 1,
            _ => self.addresses.len(),
        };
        let Some(address) = self.addresses.iter().take(limit).find(known).cloned() else {
            return false;
        };
        let options = NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked);
        match self.cc.new_sub_conn(vec![address.clone()], options) {
            Ok(sub_conn) => {
                sub_conn.connect();
                self.subs.push(Entry {
                    address,
                    sub_conn,
                    state: State::Idle,
                    failed: false,
                });
                true
            }
            Err(error) => {
                self.error = Some(Status::unavailable(error.to_string()));
                false
            }
        }
    }

    fn start(&mut self) {
        if !self.next() && self.subs.iter().all(|e| e.failed) {
            self.report(State::TransientFailure);
        } else if self.state != Some(State::TransientFailure) {
            self.report(State::Connecting);
        }
    }

    fn remove_all(&mut self) {
        for entry in self.subs.drain(..) {
            self.cc.remove_sub_conn(&entry.sub_conn);
        }
        self.chosen = None;
    }
}

impl Balancer for Policy {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let Some(at) = self
            .subs
            .iter()
            .position(|e| e.sub_conn == *sub_conn)
            .filter(|_| !self.closed)
        else {
            return;
        };
        let was_chosen = self.chosen.as_ref() == Some(sub_conn);
        let entry = &mut self.subs[at];
        let before = std::mem::replace(&mut entry.state, new.state);
        match new.state {
            State::Ready => {
                entry.failed = false;
                self.chosen = Some(sub_conn.clone());
                self.error = None;
                if self.bug != Bug::KeepsLosers {
                    let losers: Vec<SubConn> = self
                        .subs
                        .iter()
                        .map(|e| e.sub_conn.clone())
                        .filter(|other| other != sub_conn)
                        .collect();
                    for loser in &losers {
                        self.cc.remove_sub_conn(loser);
                    }
                    self.subs.retain(|e| e.sub_conn == *sub_conn);
                }
                self.report(State::Ready);
            }
            State::Idle if was_chosen || before == State::Ready => {
                self.cc.resolve_now();
                self.remove_all();
                self.wanted = Arc::default();
                self.report(State::Idle);
            }
            // Lost before it was told READY, or its back-off is over.
            State::Idle => {
                if self.bug != Bug::StopsAfterFirstPass || !entry.failed {
                    entry.sub_conn.connect();
                }
            }
            State::Connecting if before == State::Ready => {
                self.cc.resolve_now();
                self.chosen = None;
                self.report(State::Connecting);
            }
            State::Connecting => {}
            State::TransientFailure => {
                entry.failed = true;
                self.error = new.error.cloned();
                self.cc.resolve_now();
                let more = self.next();
                let all = !more && self.subs.iter().all(|e| e.failed);
                if all || self.bug == Bug::FailsAfterFirstAddress {
                    self.report(State::TransientFailure);
                }
                self.dirty |= self.state == Some(State::TransientFailure);
            }
            State::Shutdown => {
                self.subs.remove(at);
            }
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
                if matches!(self.state, None | Some(State::TransientFailure)) {
                    self.report(State::TransientFailure);
                }
                return Ok(());
            }
        };
        let mut addresses: Vec<Address> = Vec::new();
        for address in resolved.endpoints.iter().flat_map(Endpoint::addresses) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        if addresses.is_empty() {
            self.remove_all();
            self.addresses.clear();
            self.error = None;
            self.resolver_error = Some("zero addresses".to_owned());
            self.report(State::TransientFailure);
            return Err(Rejected::new("zero addresses"));
        }
        let had_error = self.resolver_error.take().is_some();
        self.dirty |= had_error && self.state == Some(State::TransientFailure);
        let from_nothing = self.addresses.is_empty();
        self.addresses = addresses;
        let mut gone = Vec::new();
        self.subs.retain(|entry| {
            let keeps = self.addresses.contains(&entry.address);
            if !keeps {
                gone.push(entry.sub_conn.clone());
            }
            keeps
        });
        for sub_conn in &gone {
            self.cc.remove_sub_conn(sub_conn);
        }
        if self
            .chosen
            .as_ref()
            .is_some_and(|chosen| gone.contains(chosen))
        {
            self.chosen = None;
            self.state = Some(State::Connecting);
            self.dirty = true;
        }
        match self.state {
            Some(State::Idle) => {}
            Some(State::Ready) => {}
            _ if from_nothing => {
                self.state = Some(State::Connecting);
                self.start();
            }
            _ => {
                let trying = self
                    .subs
                    .iter()
                    .any(|e| !e.failed && e.state != State::Ready);
                if !trying {
                    self.start();
                }
            }
        }
        Ok(())
    }

    fn exit_idle(&mut self) {
        if self.state == Some(State::Idle) {
            self.start();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.dirty = false;
    }

    fn settle(&mut self) {
        if self.closed {
            return;
        }
        if self.state == Some(State::Idle) && self.wanted.load(Relaxed) {
            self.start();
        }
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let (state, picker): (State, Arc<dyn Picker>) = match (self.state, &self.chosen) {
            (Some(State::Ready), Some(chosen)) => (State::Ready, Arc::new(Chosen(chosen.clone()))),
            (Some(State::Idle), _) => {
                let idle = Idle {
                    cc: self.cc.clone(),
                    wanted: self.wanted.clone(),
                };
                (State::Idle, Arc::new(idle))
            }
            (Some(State::Connecting), _) => (State::Connecting, Arc::new(QueuePicker)),
            _ => {
                let mut text = self
                    .error
                    .as_ref()
                    .map_or_else(String::new, |error| error.message().to_owned());
                if let Some(error) = &self.resolver_error {
                    text.push_str("; ");
                    text.push_str(error);
                }
                let failing = FailingPicker::new(PickError::transient_failure(text));
                (State::TransientFailure, Arc::new(failing))
            }
        };
        self.cc.update_balancer_state(state, picker);
    }
}

impl Picker for Chosen {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Ok(Pick::new(&self.0))
    }
}

impl Picker for Idle {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        if !self.wanted.swap(true, Relaxed) {
            self.cc.wake();
        }
        Err(PickError::NoSubConnAvailable)
    }
}
