//! A pick_first in the manner of the reference page: it hands out an IDLE SubConn, and the channel
//! connects it; and a way to get that wrong.

use std::sync::Arc;

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, ClientConn, ConnectivityState as State, Endpoint,
    FailingPicker, NewSubConnOptions, Pick, PickError, PickOptions, Picker, QueuePicker, Reconnect,
    Rejected, ResolveError, ResolvedAddrs, SubConn, SubConnState,
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of mutants describes them")]
pub enum Bug {
    None,
    PicksWhileConnecting,
}

/// The policy with one bug, or none.
#[derive(Clone, Copy, Debug)]
pub struct PageFirst(pub Bug);

struct Policy {
    bug: Bug,
    cc: Arc<dyn ClientConn>,
    sub_conn: Option<SubConn>,
    addresses: Vec<Address>,
    state: State,
    error: String,
    resolver_error: Option<String>,
    dirty: bool,
    closed: bool,
}

struct One(SubConn);

impl Builder for PageFirst {
    fn name(&self) -> &str {
        "page_first"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        Box::new(Policy {
            bug: self.0,
            cc,
            sub_conn: None,
            addresses: Vec::new(),
            state: State::Idle,
            error: String::new(),
            resolver_error: None,
            dirty: false,
            closed: false,
        })
    }
}

impl Policy {
    fn publish(&self) {
        let failing = |text: String| -> Arc<dyn Picker> {
            Arc::new(FailingPicker::new(PickError::transient_failure(text)))
        };
        let resolver = self.resolver_error.clone().unwrap_or_default();
        let Some(sub_conn) = &self.sub_conn else {
            let text = format!("{}; {resolver}", self.error);
            self.cc
                .update_balancer_state(State::TransientFailure, failing(text));
            return;
        };
        let picker: Arc<dyn Picker> = match self.state {
            State::Idle | State::Ready => Arc::new(One(sub_conn.clone())),
            State::Connecting if self.bug == Bug::PicksWhileConnecting => {
                Arc::new(One(sub_conn.clone()))
            }
            State::Connecting => Arc::new(QueuePicker),
            _ => failing(format!("{}; {resolver}", self.error)),
        };
        self.cc.update_balancer_state(self.state, picker);
    }
}

impl Balancer for Policy {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        if self.closed || self.sub_conn.as_ref() != Some(sub_conn) {
            return;
        }
        let lost = self.state == State::Ready && new.state != State::Ready;
        if lost || new.state == State::TransientFailure {
            self.cc.resolve_now();
        }
        if let Some(error) = new.error {
            self.error = error.message().to_owned();
        }
        self.state = new.state;
        self.dirty = true;
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.dirty = true;
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.resolver_error = Some(error.message().to_owned());
                return Ok(());
            }
        };
        self.resolver_error = None;
        let all = resolved.endpoints.iter().flat_map(Endpoint::addresses);
        let all: Endpoint = all.cloned().collect();
        let all = all.addresses().to_vec();
        if all.is_empty() {
            if let Some(sub_conn) = self.sub_conn.take() {
                self.cc.remove_sub_conn(&sub_conn);
            }
            self.resolver_error = Some("zero addresses".to_owned());
            return Err(Rejected::new("zero addresses"));
        }
        match &self.sub_conn {
            Some(sub_conn) if all != self.addresses => sub_conn.update_addresses(all.clone()),
            Some(_) => {}
            None => {
                let options = NewSubConnOptions::new().with_reconnect(Reconnect::Immediately);
                match self.cc.new_sub_conn(all.clone(), options) {
                    Ok(sub_conn) => self.sub_conn = Some(sub_conn),
                    Err(error) => self.error = error.to_string(),
                }
                self.state = State::Idle;
            }
        }
        self.addresses = all;
        Ok(())
    }

    fn exit_idle(&mut self) {
        if let Some(sub_conn) = &self.sub_conn {
            sub_conn.connect();
        }
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.dirty) && !self.closed {
            self.publish();
        }
    }
}

impl Picker for One {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Ok(Pick::new(&self.0))
    }
}
