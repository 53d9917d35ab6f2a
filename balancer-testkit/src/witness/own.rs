//! The witness's own policy: it connects to everything and picks in turn, and knows what it asked.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, ClientConn, ConnectivityState as State,
    FailingPicker, NewSubConnOptions, Pick, PickError, PickOptions, Picker, QueuePicker, Reconnect,
    Rejected, ResolveError, ResolvedAddrs, SubConn, SubConnState,
};

use super::Witness;

pub(super) struct Own {
    pub(super) witness: Witness,
}

struct OwnPolicy {
    witness: Witness,
    cc: Arc<dyn ClientConn>,
    entries: Vec<(Vec<Address>, SubConn, State)>,
    error: String,
    turns: Arc<AtomicU64>,
    dirty: bool,
    closed: bool,
}

struct Turns(Vec<SubConn>, Arc<AtomicU64>);

impl Builder for Own {
    fn name(&self) -> &str {
        "witness"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        Box::new(OwnPolicy {
            witness: self.witness.clone(),
            cc,
            entries: Vec::new(),
            error: String::new(),
            turns: Arc::default(),
            dirty: false,
            closed: false,
        })
    }
}

impl OwnPolicy {
    fn wants(addresses: &[Address]) -> bool {
        !addresses
            .first()
            .is_some_and(|address| address.addr().starts_with("never"))
    }
}

impl Balancer for OwnPolicy {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let known = self.entries.iter_mut().find(|(_, sc, _)| sc == sub_conn);
        let Some((addresses, _, state)) = known.filter(|_| !self.closed) else {
            return;
        };
        *state = new.state;
        self.dirty = true;
        if let Some(error) = new.error {
            self.error = error.message().to_owned();
        }
        if new.state == State::Idle && Self::wants(addresses) {
            self.witness.asks(sub_conn, true);
        }
        if matches!(new.state, State::Idle | State::TransientFailure) {
            self.cc.resolve_now();
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.dirty = true;
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.error = error.message().to_owned();
                return Ok(());
            }
        };
        let listed = |addresses: &[Address]| {
            resolved
                .endpoints
                .iter()
                .any(|endpoint| endpoint.addresses() == addresses)
        };
        for (addresses, sub_conn, _) in &self.entries {
            if !listed(addresses) {
                self.cc.remove_sub_conn(sub_conn);
            }
        }
        self.entries.retain(|(addresses, ..)| listed(addresses));
        for endpoint in resolved.endpoints.iter() {
            let addresses = endpoint.addresses().to_vec();
            if self.entries.iter().any(|(known, ..)| *known == addresses) {
                continue;
            }
            let options = NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked);
            match self.cc.new_sub_conn(addresses.clone(), options) {
                Ok(sub_conn) => {
                    self.witness.asks(&sub_conn, Self::wants(&addresses));
                    self.entries.push((addresses, sub_conn, State::Idle));
                }
                Err(error) => self.error = error.to_string(),
            }
        }
        match resolved.endpoints.is_empty() {
            true => Err(Rejected::new("zero addresses")),
            false => Ok(()),
        }
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn settle(&mut self) {
        if !std::mem::take(&mut self.dirty) || self.closed {
            return;
        }
        let with = |wanted: State| {
            let of = self.entries.iter().filter(move |(.., s)| *s == wanted);
            of.map(|(_, sub_conn, _)| sub_conn.clone())
        };
        let ready: Vec<SubConn> = with(State::Ready).collect();
        let trying = with(State::Idle).chain(with(State::Connecting)).count();
        let (state, picker): (State, Arc<dyn Picker>) = if !ready.is_empty() {
            let picker = Turns(ready, self.turns.clone());
            (State::Ready, Arc::new(picker))
        } else if trying > 0 {
            (State::Connecting, Arc::new(QueuePicker))
        } else {
            let failing = FailingPicker::new(PickError::transient_failure(self.error.clone()));
            (State::TransientFailure, Arc::new(failing))
        };
        self.cc.update_balancer_state(state, picker);
    }
}

impl Picker for Turns {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.1.fetch_add(1, Relaxed) % self.0.len() as u64;
        Ok(Pick::new(&self.0[turn as usize]))
    }
}
