//! A policy that serves one group of endpoints while the other stands by (gRFC A56 in small), and the
//! ways to get the change-over wrong.

use std::{sync::Arc, time::Duration};

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, Child, ChildConfig, ChildEvent, ClientConn,
    ConnectivityState as State, Endpoint, FailingPicker, PickError, Picker, QueuePicker, Rejected,
    ResolveError, ResolvedAddrs, SubConn, SubConnState, TimerId,
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of mutants describes them")]
pub enum Bug {
    None,
    NeverWaitsWithATimer,
    TimerOnlyOnce,
    TimerIsNotCancelled,
    StaysWithSecond,
    SecondIsClosedTooEarly,
    SecondIsNeverTried,
}

/// Two round robins: that of the endpoints whose first address begins with `a` is preferred.
#[derive(Clone, Copy, Debug)]
pub struct Priority(pub Bug);

/// How long the preferred group may take to connect.
const FAIL_OVER_AFTER: Duration = Duration::from_secs(10);

struct Groups {
    bug: Bug,
    cc: Arc<dyn ClientConn>,
    options: BuildOptions,
    groups: [Group; 2],
    resolved: Option<ResolvedAddrs>,
    /// The preferred group may still make it.
    timer: Option<TimerId>,
    /// It did not, and has not been READY since.
    expired: bool,
    had_timer: bool,
    error: Option<String>,
    dirty: bool,
    closed: bool,
}

#[derive(Default)]
struct Group {
    endpoints: Vec<Endpoint>,
    child: Option<(Child, State, Arc<dyn Picker>)>,
}

impl Builder for Priority {
    fn name(&self) -> &str {
        "priority"
    }
    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        Box::new(Groups {
            bug: self.0,
            cc,
            options,
            groups: [Group::default(), Group::default()],
            resolved: None,
            timer: None,
            expired: false,
            had_timer: false,
            error: None,
            dirty: false,
            closed: false,
        })
    }
}

impl Groups {
    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn children(&mut self) -> impl Iterator<Item = &mut Child> {
        let groups = self.groups.iter_mut();
        groups.filter_map(|group| group.child.as_mut().map(|(child, ..)| child))
    }

    /// Makes the group's child, if it has endpoints and none yet; whether it has one.
    fn need(&mut self, at: usize) -> bool {
        let group = &mut self.groups[at];
        let Some(resolved) = self
            .resolved
            .as_ref()
            .filter(|_| !group.endpoints.is_empty())
        else {
            return false;
        };
        if group.child.is_none() {
            let config = ChildConfig::new(balancer_roundrobin::builder(), None);
            let mut child = Child::build(self.cc.clone(), &config, &self.options);
            let part = resolved.clone().with_endpoints(group.endpoints.clone());
            let _ = child.handle(ChildEvent::Resolved(Ok(part)));
            group.child = Some((child, State::Connecting, Arc::new(QueuePicker)));
            self.dirty = true;
        }
        true
    }

    fn close(&mut self, at: usize) {
        if let Some((mut child, ..)) = self.groups[at].child.take() {
            child.close();
            self.dirty = true;
        }
    }

    fn settle_children(&mut self) {
        for (child, state, picker) in self.groups.iter_mut().filter_map(|g| g.child.as_mut()) {
            let _ = child.handle(ChildEvent::Settle);
            if let Some((new, from)) = child.take_output() {
                (*state, *picker) = (new, from);
                self.dirty = true;
            }
        }
    }

    fn state(&self, at: usize) -> Option<State> {
        self.groups[at].child.as_ref().map(|(_, state, _)| *state)
    }

    fn disarm(&mut self) {
        if let Some(timer) = self.timer.take()
            && !self.is(Bug::TimerIsNotCancelled)
        {
            self.cc.cancel_timer(timer);
        }
    }

    /// Which group serves.
    fn choose(&mut self) -> usize {
        if !self.need(0) {
            self.disarm();
            self.expired = false;
            return 1;
        }
        self.settle_children();
        match self.state(0) {
            Some(State::Ready | State::Idle) => {
                self.disarm();
                self.expired = false;
                if self.is(Bug::StaysWithSecond) && self.state(1) == Some(State::Ready) {
                    return 1;
                }
                self.close(1);
                0
            }
            Some(State::TransientFailure) => {
                self.disarm();
                self.expired = true;
                1
            }
            _ if self.expired => 1,
            _ => {
                let once = self.is(Bug::TimerOnlyOnce) && self.had_timer;
                if self.timer.is_none() && !once && !self.is(Bug::NeverWaitsWithATimer) {
                    self.timer = Some(self.cc.set_timer(FAIL_OVER_AFTER));
                    self.had_timer = true;
                }
                if self.is(Bug::SecondIsClosedTooEarly) {
                    self.close(1);
                }
                // What serves goes on until the better one does, or the timer says that it does not.
                match self.state(1) {
                    Some(State::Ready) => 1,
                    _ => 0,
                }
            }
        }
    }

    fn serve(&mut self) {
        let mut at = self.choose();
        if at == 1 && (self.is(Bug::SecondIsNeverTried) || !self.need(1)) {
            at = 0;
        }
        self.settle_children();
        let second_fails = self.state(1) == Some(State::TransientFailure);
        if at == 1 && second_fails && self.state(0) == Some(State::Connecting) {
            at = 0;
        }
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        match (&self.groups[at].child, &self.error) {
            (Some((_, state, picker)), _) => self.cc.update_balancer_state(*state, picker.clone()),
            (None, Some(text)) => {
                let failing = FailingPicker::new(PickError::transient_failure(text.clone()));
                let state = State::TransientFailure;
                self.cc.update_balancer_state(state, Arc::new(failing));
            }
            (None, None) => {}
        }
    }
}

impl Balancer for Groups {
    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        if self.closed {
            return Ok(());
        }
        self.dirty = true;
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.error = Some(error.message().to_owned());
                for child in self.children() {
                    let _ = child.handle(ChildEvent::Resolved(Err(error.clone())));
                }
                return Ok(());
            }
        };
        let (preferred, others): (Vec<Endpoint>, Vec<Endpoint>) =
            resolved.endpoints.iter().cloned().partition(|endpoint| {
                let first = endpoint.addresses().iter().map(|a| a.addr()).min();
                first.is_some_and(|first| first.starts_with('a'))
            });
        for (at, endpoints) in [preferred, others].into_iter().enumerate() {
            let part = resolved.clone().with_endpoints(endpoints);
            self.groups[at].endpoints = part.endpoints.to_vec();
            if part.endpoints.is_empty() {
                self.close(at);
            } else if let Some((child, ..)) = &mut self.groups[at].child {
                let _ = child.handle(ChildEvent::Resolved(Ok(part)));
            }
        }
        let is_empty = resolved.endpoints.is_empty();
        self.resolved = Some(resolved);
        self.error = is_empty.then(|| "no addresses".to_owned());
        match is_empty {
            true => Err(Rejected::new("no addresses")),
            false => Ok(()),
        }
    }

    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        for child in self.children() {
            if child
                .handle(ChildEvent::SubConnState(sub_conn, new))
                .is_mine()
            {
                return;
            }
        }
    }

    fn handle_timer(&mut self, id: TimerId) {
        if self.timer == Some(id) {
            self.timer = None;
            self.expired = true;
            self.dirty = true;
            return;
        }
        for child in self.children() {
            if child.handle(ChildEvent::Timer(id)).is_mine() {
                return;
            }
        }
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        for child in self.children() {
            if child.handle(ChildEvent::Call(id, &event)).is_mine() {
                return;
            }
        }
    }

    fn exit_idle(&mut self) {
        self.children().for_each(Child::exit_idle);
    }

    fn settle(&mut self) {
        if !self.closed {
            self.serve();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.children().for_each(Child::close);
    }
}
