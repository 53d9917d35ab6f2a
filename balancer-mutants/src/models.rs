//! Reference models of the shipped policies: what they should do, in a few lines each.

use balancer_api::{Address, ConnectivityState as State, Endpoint};
use balancer_testkit::{Expected, Happened, Model, Picks};

/// What `round_robin` should do.
#[derive(Debug, Default)]
pub struct RoundRobinModel {
    answered: bool,
    entries: Vec<Entry>,
    /// Two endpoints have the same addresses, so that names do not tell their SubConns apart.
    ambiguous: bool,
    refused: Vec<Vec<Address>>,
}

/// What `pick_first` should do.
#[derive(Debug, Default)]
pub struct PickFirstModel {
    answered: bool,
    sub_conn: Option<State>,
    name: String,
    failed: bool,
    /// An RPC waits, or the application asked to connect, so IDLE is about to end.
    wanted: bool,
}

#[derive(Debug)]
struct Entry {
    endpoint: Endpoint,
    /// What was told; `None` for a new one.
    state: Option<State>,
    /// It failed, and was not READY since.
    failed: bool,
}

fn set(addresses: &[Address]) -> Endpoint {
    Endpoint::new(addresses.iter().cloned())
}

// === impl RoundRobinModel ===

impl RoundRobinModel {
    fn take(&mut self, list: &[Endpoint]) {
        let mut old = std::mem::take(&mut self.entries);
        for endpoint in list.iter().filter(|e| !e.addresses().is_empty()) {
            if self.entries.iter().any(|known| known.endpoint == *endpoint) {
                continue;
            }
            let known = old.iter().position(|known| known.endpoint == *endpoint);
            let (state, failed) = known.map_or((None, false), |at| {
                let known = old.swap_remove(at);
                (known.state, known.failed)
            });
            let same = |known: &Entry| set(known.endpoint.addresses()) == set(endpoint.addresses());
            self.ambiguous |= self.entries.iter().chain(&old).any(same);
            self.entries.push(Entry {
                endpoint: endpoint.clone(),
                state,
                failed,
            });
        }
        self.ambiguous &= !self.entries.is_empty();
        // Told before the list was taken: the policy asks while it takes it.
        for refused in std::mem::take(&mut self.refused) {
            self.entries
                .retain(|known| set(known.endpoint.addresses()) != set(&refused));
        }
    }
}

impl Model for RoundRobinModel {
    fn hear(&mut self, happened: &Happened<'_>) {
        match happened {
            Happened::List(list) => {
                self.answered = true;
                self.take(list);
            }
            Happened::ResolverError(_) => self.answered = true,
            Happened::Refused(addresses, _) => {
                let refused = set(addresses);
                self.entries
                    .retain(|known| set(known.endpoint.addresses()) != refused);
            }
            Happened::SubConn {
                addresses, state, ..
            } => {
                let told = set(addresses);
                let known = |known: &&mut Entry| set(known.endpoint.addresses()) == told;
                let Some(entry) = self.entries.iter_mut().find(known) else {
                    return;
                };
                if *state == State::Shutdown {
                    // Of one that was removed; another of that name may live.
                    return;
                }
                entry.state = Some(*state);
                match state {
                    State::Ready => entry.failed = false,
                    State::TransientFailure => entry.failed = true,
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn expect(&self) -> Expected {
        let entries = &self.entries;
        if !self.answered || self.ambiguous {
            return Expected::anything();
        }
        let ready = entries.iter().filter(|e| e.state == Some(State::Ready));
        let ready: Vec<String> = ready.map(|e| Happened::name_of(&e.endpoint)).collect();
        if !ready.is_empty() {
            return Expected::state(State::Ready).picks(Picks::in_turn(ready));
        }
        let hopeful = entries.iter().filter(|e| !e.failed);
        let known = hopeful.clone().any(|e| e.state.is_some());
        if entries.is_empty() || hopeful.clone().next().is_none() {
            return Expected::state(State::TransientFailure).picks(Picks::Fail(String::new()));
        }
        if known || entries.iter().all(|e| !e.failed) {
            return Expected::state(State::Connecting).picks(Picks::Queue);
        }
        // What is new may count, or not yet.
        Expected::any_state([State::Connecting, State::TransientFailure])
    }
}

// === impl PickFirstModel ===

impl Model for PickFirstModel {
    fn hear(&mut self, happened: &Happened<'_>) {
        match happened {
            Happened::List(list) => {
                self.answered = true;
                let addresses = list.iter().flat_map(Endpoint::addresses).cloned();
                let all: Endpoint = addresses.collect();
                self.name = Happened::name_of(&all);
                match (all.addresses().len(), self.sub_conn) {
                    (0, _) => (self.sub_conn, self.failed) = (None, false),
                    (_, None) => self.sub_conn = Some(State::Connecting),
                    _ => {}
                }
            }
            Happened::ResolverError(_) => self.answered = true,
            Happened::Refused(..) => self.sub_conn = None,
            Happened::SubConn { state, .. } => {
                if *state == State::Shutdown || self.sub_conn.is_none() {
                    return;
                }
                if self.sub_conn != Some(*state) {
                    self.wanted = false;
                }
                self.sub_conn = Some(*state);
                match state {
                    State::Ready => self.failed = false,
                    State::TransientFailure => self.failed = true,
                    _ => {}
                }
            }
            Happened::ExitIdle | Happened::Picked => self.wanted = true,
            _ => {}
        }
    }

    fn expect(&self) -> Expected {
        if !self.answered {
            return Expected::anything();
        }
        let failure = Expected::state(State::TransientFailure).picks(Picks::Fail(String::new()));
        match self.sub_conn {
            None => failure,
            Some(State::Ready) => {
                Expected::state(State::Ready).picks(Picks::one_of([self.name.as_str()]))
            }
            Some(_) if self.failed => failure,
            Some(State::Idle) if self.wanted => {
                Expected::any_state([State::Idle, State::Connecting])
            }
            Some(State::Idle) => Expected::state(State::Idle),
            Some(_) => Expected::state(State::Connecting).picks(Picks::Queue),
        }
    }
}
