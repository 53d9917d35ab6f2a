//! A round robin written by hand on the bare contract, and the ways to get it wrong.

mod bug;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, ClientConn, ConnectivityState as State, Endpoint,
    HealthReporting, NewSubConnOptions, Pick, PickError, PickOptions, Picker, Reconnect, Rejected,
    ResolveError, ResolvedAddrs, StateCause, Status, SubConn, SubConnHandle, SubConnState, TimerId,
};

pub use bug::Bug;

/// A round robin with one bug, or none.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin(pub Bug);

struct Policy {
    bug: Bug,
    cc: Arc<dyn ClientConn>,
    entries: Vec<Entry>,
    list: Vec<Endpoint>,
    had_list: bool,
    lists: usize,
    empties: usize,
    deaf: bool,
    turns: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
    connection_error: Option<Status>,
    resolver_error: Option<String>,
    published: Option<State>,
    ready_count: usize,
    /// What a bug does not forget.
    seen: Vec<Endpoint>,
    hoard: Vec<SubConn>,
    /// Removed ones that a bug keeps until SHUTDOWN.
    leaving: Vec<Entry>,
    phantom_connecting: bool,
    phantom_ready: Vec<SubConn>,
    shared_ready: Arc<Mutex<Vec<SubConn>>>,
    dirty: bool,
    myself: Option<Circle>,
}

#[derive(Clone)]
struct Entry {
    endpoint: Endpoint,
    sub_conn: SubConn,
    state: State,
    failed: bool,
    was_ready: bool,
}

struct Turns {
    bug: Bug,
    ready: Vec<SubConn>,
    shared: Option<Arc<Mutex<Vec<SubConn>>>>,
    turns: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
    foreign: Option<SubConn>,
    /// Keeps the policy's own pickers alive, in a circle.
    circle: Option<Circle>,
}

/// Pickers that hold the list that holds them.
type Circle = Arc<Mutex<Vec<Arc<dyn Picker>>>>;

struct Waiting;
struct Failing(PickError);
struct Foreign;

// === impl RoundRobin ===

impl Builder for RoundRobin {
    fn name(&self) -> &str {
        "mutant_round_robin"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        let start = match self.0 {
            // As a map of the standard library does that is walked in its own order.
            Bug::ChanceOfItsOwn => RandomState::new().build_hasher().finish(),
            _ => cc.random(),
        };
        Box::new(Policy {
            bug: self.0,
            cc,
            entries: Vec::new(),
            list: Vec::new(),
            had_list: false,
            lists: 0,
            empties: 0,
            deaf: false,
            turns: Arc::new(AtomicU64::new(start)),
            closed: Arc::default(),
            connection_error: None,
            resolver_error: None,
            published: None,
            ready_count: 0,
            seen: Vec::new(),
            hoard: Vec::new(),
            leaving: Vec::new(),
            phantom_connecting: false,
            phantom_ready: Vec::new(),
            shared_ready: Arc::default(),
            dirty: false,
            myself: None,
        })
    }
}

// === impl Policy ===

impl Policy {
    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn same(&self, a: &Endpoint, b: &Endpoint) -> bool {
        match self.bug {
            Bug::OrderIsIdentity => a == b && a.addresses() == b.addresses(),
            Bug::NewsIsIdentity => a.is_identical(b),
            Bug::KindIsNoIdentity => {
                let set = |e: &Endpoint| Endpoint::new(e.addresses().iter().cloned());
                set(a) == set(b)
            }
            Bug::AttributesAreNoIdentity => {
                let text = |e: &Endpoint| -> Vec<String> {
                    e.addresses().iter().map(|a| a.addr().to_owned()).collect()
                };
                text(a) == text(b)
            }
            _ => a == b,
        }
    }

    fn add(&mut self, endpoint: &Endpoint) {
        let health = match self.bug {
            Bug::PicksUnhealthy | Bug::HealthResolves | Bug::ConnectsUnhealthy => {
                HealthReporting::On
            }
            _ => HealthReporting::Off,
        };
        let options = NewSubConnOptions::new()
            .with_reconnect(Reconnect::WhenAsked)
            .with_health(health);
        let addresses: Vec<Address> = endpoint.addresses().to_vec();
        let sub_conn = match self.cc.new_sub_conn(addresses, options) {
            Ok(sub_conn) => sub_conn,
            Err(error) => {
                self.connection_error = Some(Status::unavailable(error.to_string()));
                if !self.is(Bug::RefusedIsRemembered) {
                    self.list.clear();
                }
                return;
            }
        };
        let connects = match self.bug {
            Bug::ConnectsOnlyFirstList => self.lists <= 1,
            Bug::ConnectsOnlyTwo => self.entries.len() < 2,
            Bug::ReaddedNeverConnected => !self.seen.contains(endpoint),
            _ => true,
        };
        if connects {
            sub_conn.connect();
        }
        if self.is(Bug::ReaddedNeverConnected) {
            self.seen.push(endpoint.clone());
        }
        if self.is(Bug::ConnectsTwice) {
            sub_conn.connect();
        }
        self.entries.push(Entry {
            endpoint: endpoint.clone(),
            sub_conn,
            state: State::Idle,
            failed: false,
            was_ready: false,
        });
    }

    fn take_list(&mut self, endpoints: &[Endpoint]) {
        let limit = match self.bug {
            Bug::ServesEightOnly => 8,
            _ => usize::MAX,
        };
        let mut distinct: Vec<Endpoint> = Vec::new();
        for endpoint in endpoints.iter().take(limit) {
            let known = distinct.iter().any(|other| self.same(other, endpoint));
            if !known || self.is(Bug::OnePerDuplicate) {
                distinct.push(endpoint.clone());
            }
        }
        if self.is(Bug::RecreatesOnUpdate) && self.list != distinct && !self.list.is_empty() {
            for entry in std::mem::take(&mut self.entries) {
                self.cc.remove_sub_conn(&entry.sub_conn);
            }
        }
        let identical = self.list.len() == distinct.len()
            && self
                .list
                .iter()
                .zip(&distinct)
                .all(|(a, b)| a.is_identical(b));
        if self.is(Bug::ReconnectsOnSameList) && identical {
            for entry in std::mem::take(&mut self.entries) {
                self.cc.remove_sub_conn(&entry.sub_conn);
            }
        }
        if self.is(Bug::RefusedIsRemembered) && identical {
            return;
        }
        self.list.clone_from(&distinct);
        let mut kept = Vec::new();
        let old = std::mem::take(&mut self.entries);
        let mut gone = Vec::new();
        for entry in old {
            match distinct.iter().position(|e| self.same(e, &entry.endpoint)) {
                Some(at) if !kept.iter().any(|(seen, _)| *seen == at) => kept.push((at, entry)),
                _ => gone.push(entry),
            }
        }
        if self.is(Bug::RemovesWrongOne)
            && gone.len() == 1
            && let Some((_, kept)) = kept.first_mut()
        {
            std::mem::swap(&mut kept.sub_conn, &mut gone[0].sub_conn);
            std::mem::swap(&mut kept.state, &mut gone[0].state);
        }
        for entry in gone {
            if self.is(Bug::ConnectingNeverForgotten) && entry.state == State::Connecting {
                self.phantom_connecting = true;
            }
            if !self.is(Bug::NeverRemoves) {
                self.cc.remove_sub_conn(&entry.sub_conn);
            }
            if self.is(Bug::RemembersRemoved) {
                self.hoard.push(entry.sub_conn.clone());
            }
            let keeps = matches!(
                self.bug,
                Bug::KeepsRemovedInPicker | Bug::RemovesTwice | Bug::ShutdownIsALoss
            );
            if keeps {
                self.leaving.push(entry);
            }
        }
        let moved = kept.windows(2).any(|two| two[0].0 > two[1].0);
        kept.sort_by_key(|(at, _)| *at);
        if self.is(Bug::ForgetsReadyOnReorder) && moved {
            for (_, entry) in &mut kept {
                entry.state = State::Idle;
            }
        }
        let mut old: Vec<Option<Entry>> = vec![None; distinct.len()];
        for (at, mut entry) in kept {
            if entry.endpoint.addresses() != distinct[at].addresses() {
                entry
                    .sub_conn
                    .update_addresses(distinct[at].addresses().to_vec());
            }
            entry.endpoint = distinct[at].clone();
            old[at] = Some(entry);
        }
        let mut order: Vec<_> = distinct.iter().zip(old).collect();
        if self.is(Bug::ChanceOfItsOwn) && !order.is_empty() {
            let at = self.turns.load(Relaxed) as usize % order.len();
            order.rotate_left(at);
        }
        let mut refused = false;
        for (endpoint, known) in order {
            match known {
                Some(entry) => self.entries.push(entry),
                None if self.is(Bug::RefusalEndsList) && refused => {}
                None => {
                    let before = self.entries.len();
                    self.add(endpoint);
                    refused |= self.entries.len() == before;
                }
            }
        }
    }

    fn aggregate(&self) -> State {
        let any = |test: &dyn Fn(&Entry) -> bool| self.entries.iter().any(test);
        let counts = |e: &Entry| !e.failed;
        if self.is(Bug::FailureForEver) && any(&|e| e.failed) && !any(&|e| !e.failed) {
            return State::TransientFailure;
        }
        if any(&|e| e.state == State::Ready) {
            return State::Ready;
        }
        if self.is(Bug::FailureOutranksConnecting) && any(&|e| e.failed) {
            return State::TransientFailure;
        }
        if self.phantom_connecting {
            return State::Connecting;
        }
        if any(&|e| counts(e) && e.state == State::Connecting) {
            return State::Connecting;
        }
        if any(&|e| counts(e) && e.state == State::Idle) {
            return State::Connecting;
        }
        State::TransientFailure
    }

    fn failure(&self) -> PickError {
        let mut text = String::new();
        if let Some(error) = &self.connection_error {
            text.push_str(error.message());
        }
        if let Some(error) = self
            .resolver_error
            .as_ref()
            .filter(|_| !self.is(Bug::ErrorNotShown))
        {
            text.push_str("; ");
            text.push_str(error);
        }
        if self.is(Bug::FailsWithoutText) || text.is_empty() {
            return PickError::TransientFailure(None);
        }
        PickError::transient_failure(text)
    }

    fn publish(&mut self) {
        let state = self.aggregate();
        let mut ready: Vec<SubConn> = self
            .entries
            .iter()
            .filter(|e| {
                e.state == State::Ready
                    || (self.is(Bug::PicksConnecting) && e.was_ready && e.state != State::Idle)
            })
            .map(|e| e.sub_conn.clone())
            .collect();
        if self.is(Bug::KeepsRemovedInPicker) {
            let leaving = self.leaving.iter().filter(|e| e.state == State::Ready);
            ready.extend(leaving.map(|e| e.sub_conn.clone()));
        }
        ready.extend(self.phantom_ready.iter().cloned());
        if self.is(Bug::ReadyNotInOrder) && ready.len() == 3 {
            ready.swap(0, 2);
            ready[1] = ready[0].clone();
        }
        if self.is(Bug::ReversedOrder) {
            ready.reverse();
        }
        self.shared_ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&ready);
        if self.is(Bug::PublishesOnStateChangeOnly) && self.published == Some(state) {
            return;
        }
        if self.is(Bug::StaleAfterReturn)
            && state == State::Ready
            && ready.len() >= self.ready_count
            && self.published == Some(state)
            && self.ready_count + 1 == self.entries.len()
        {
            return;
        }
        self.ready_count = ready.len();
        let state_told = match self.bug {
            Bug::StateWithoutPicker if state == State::TransientFailure => State::Connecting,
            Bug::PublishesShutdown if self.entries.is_empty() => State::Shutdown,
            _ => state,
        };
        self.published = Some(state);
        let picker: Arc<dyn Picker> = match state {
            State::Ready => {
                let turns = if self.is(Bug::StartsAtZero) {
                    Arc::new(AtomicU64::new(0))
                } else {
                    self.turns.clone()
                };
                let foreign = self
                    .is(Bug::PicksForeign)
                    .then(|| SubConn::new(Arc::new(Foreign)));
                let picker = Arc::new(Turns {
                    bug: self.bug,
                    ready,
                    shared: self
                        .is(Bug::PickerChangesLater)
                        .then(|| self.shared_ready.clone()),
                    turns,
                    closed: self.closed.clone(),
                    foreign,
                    circle: self.myself.clone(),
                });
                if let Some(myself) = &self.myself {
                    let mut pickers = myself.lock().unwrap_or_else(PoisonError::into_inner);
                    pickers.clear();
                    pickers.push(picker.clone());
                }
                picker
            }
            State::TransientFailure
                if self.is(Bug::QueuesWhenDead)
                    || (self.is(Bug::QueuesWhenRefused) && self.entries.is_empty()) =>
            {
                Arc::new(Waiting)
            }
            State::TransientFailure => Arc::new(Failing(self.failure())),
            _ if self.is(Bug::FailsWhileConnecting) => Arc::new(Failing(self.failure())),
            _ => Arc::new(Waiting),
        };
        let times = if self.is(Bug::PublishesThrice) { 3 } else { 1 };
        for _ in 0..times {
            self.cc.update_balancer_state(state_told, picker.clone());
        }
    }

    fn stranger(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        match self.bug {
            Bug::PanicsOnStranger => {
                // The index of a map that has no such key.
                let at = self.entries.iter().position(|e| e.sub_conn == *sub_conn);
                let _ = &self.entries[at.unwrap_or(usize::MAX)];
            }
            Bug::CountsStrangers if new.state == State::Idle => sub_conn.connect(),
            Bug::CountsStrangers if new.state == State::Ready => {
                self.phantom_ready.push(sub_conn.clone());
                self.dirty = true;
            }
            _ => {}
        }
        let Some(at) = self.leaving.iter().position(|e| e.sub_conn == *sub_conn) else {
            return;
        };
        if new.state == State::Shutdown {
            self.leaving.remove(at);
            self.dirty = true;
            if self.is(Bug::RemovesTwice) {
                self.cc.remove_sub_conn(sub_conn);
            }
            if self.is(Bug::ShutdownIsALoss) {
                sub_conn.connect();
                let endpoint = self.list.first().cloned();
                if let Some(endpoint) = endpoint {
                    self.add(&endpoint);
                }
            }
        }
    }
}

impl Balancer for Policy {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let closed = self.closed.load(Relaxed);
        if closed && !self.is(Bug::ActsAfterClose) {
            return;
        }
        let Some(at) = self.entries.iter().position(|e| e.sub_conn == *sub_conn) else {
            self.stranger(sub_conn, new);
            return;
        };
        if self.is(Bug::TimersPileUp) {
            self.cc.set_timer(Duration::from_secs(3600));
        }
        let bug = self.bug;
        let entry = &mut self.entries[at];
        let old = std::mem::replace(&mut entry.state, new.state);
        self.dirty = true;
        match new.state {
            State::Ready => {
                entry.failed &= bug == Bug::FailureForEver;
                entry.was_ready = true;
            }
            State::TransientFailure
                if bug == Bug::PicksUnhealthy && new.cause == StateCause::Health =>
            {
                entry.state = State::Ready;
            }
            State::TransientFailure if bug == Bug::ReplacesFailed => {
                self.connection_error = new.error.cloned();
                let mut gone = self.entries.remove(at);
                self.cc.remove_sub_conn(&gone.sub_conn);
                let options = NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked);
                let addresses = gone.endpoint.addresses().to_vec();
                if let Ok(fresh) = self.cc.new_sub_conn(addresses, options) {
                    fresh.connect();
                    gone.sub_conn = fresh;
                    gone.failed = true;
                    gone.state = State::Idle;
                    self.entries.insert(at, gone);
                }
                self.cc.resolve_now();
                return;
            }
            State::TransientFailure => {
                entry.failed = true;
                if bug != Bug::OldErrorForEver || self.connection_error.is_none() {
                    self.connection_error = new.error.cloned();
                }
                if bug == Bug::ConnectsUnhealthy && new.cause == StateCause::Health {
                    entry.sub_conn.connect();
                }
            }
            State::Connecting | State::Idle if bug == Bug::NotSticky => entry.failed = false,
            State::Connecting if bug == Bug::LossByConnectingMissed && old == State::Ready => {
                entry.state = State::Ready;
            }
            State::Shutdown => {
                self.entries.remove(at);
                return;
            }
            _ => {}
        }
        if new.state == State::Idle {
            let forgets = match bug {
                Bug::ForgetsIdle => true,
                Bug::IdleAfterFailureForgotten => old == State::TransientFailure,
                Bug::NoAnswerToIdleBatch => old == State::Connecting,
                _ => false,
            };
            if !forgets {
                entry.sub_conn.connect();
            }
            if bug == Bug::ForgetsErrorWhenIdle {
                self.connection_error = None;
            }
        }
        let lost = old == State::Ready && matches!(new.state, State::Idle | State::Connecting);
        let failed = new.state == State::TransientFailure;
        let silent = match bug {
            Bug::NoResolveOnLoss => lost,
            Bug::NoResolveOnFailure => failed,
            _ => false,
        };
        let resolves = new.cause == StateCause::Connectivity || bug == Bug::HealthResolves;
        if (lost || failed) && !silent && resolves {
            self.cc.resolve_now();
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        if self.closed.load(Relaxed) {
            return Ok(());
        }
        match resolved {
            Ok(resolved) if resolved.endpoints.is_empty() => {
                self.empties += 1;
                if self.is(Bug::PanicsOnEmptyList)
                    || (self.is(Bug::PanicsOnSecondEmptyList) && self.empties > 1)
                {
                    let first = 7 % resolved.endpoints.len();
                    let _ = &resolved.endpoints[first];
                }
                self.lists += 1;
                self.take_list(&[]);
                self.connection_error = None;
                self.resolver_error = Some("zero addresses".to_owned());
                self.dirty = !self.is(Bug::EmptyListHangs);
                self.deaf = self.is(Bug::DeafAfterEmptyList);
                if self.is(Bug::AcceptsEmptyList) {
                    return Ok(());
                }
                Err(Rejected::new("zero addresses"))
            }
            Ok(_) if self.is(Bug::RejectsGoodList) && self.lists > 0 => {
                Err(Rejected::new("no, thank you"))
            }
            Ok(_) if self.deaf => Ok(()),
            Ok(_)
                if self.is(Bug::IgnoresListsWhileFailing)
                    && !self.entries.is_empty()
                    && self.entries.iter().all(|e| e.failed) =>
            {
                Ok(())
            }
            Ok(resolved) => {
                self.lists += 1;
                self.had_list = true;
                self.resolver_error = None;
                self.take_list(&resolved.endpoints);
                self.dirty = true;
                Ok(())
            }
            Err(error) => {
                if self.is(Bug::FirstErrorIgnored) && !self.had_list {
                    return Ok(());
                }
                self.resolver_error = Some(error.message().to_owned());
                if self.is(Bug::ErrorRemovesAll) || self.is(Bug::ErrorAfterGoodListFails) {
                    for entry in std::mem::take(&mut self.entries) {
                        self.cc.remove_sub_conn(&entry.sub_conn);
                    }
                    self.list.clear();
                }
                self.dirty |=
                    self.aggregate() == State::TransientFailure || self.is(Bug::ErrorRemovesAll);
                Ok(())
            }
        }
    }

    fn close(&mut self) {
        self.closed.store(true, Relaxed);
        if self.is(Bug::PublishesFromThreadAfterClose) {
            let cc = self.cc.clone();
            let late = std::thread::spawn(move || {
                cc.update_balancer_state(State::TransientFailure, Arc::new(Waiting));
            });
            // So that it is late in every run.
            let _ = late.join();
        }
        if self.is(Bug::PublishesInClose) {
            self.cc
                .update_balancer_state(State::TransientFailure, Arc::new(Waiting));
        }
    }

    fn exit_idle(&mut self) {
        if self.is(Bug::ExitIdleStartsAnew) && !self.closed.load(Relaxed) {
            for entry in std::mem::take(&mut self.entries) {
                self.cc.remove_sub_conn(&entry.sub_conn);
                self.add(&entry.endpoint);
            }
            self.dirty = true;
        }
    }

    fn handle_timer(&mut self, _: TimerId) {
        if self.is(Bug::TimerLoop) {
            self.cc.set_timer(Duration::ZERO);
        }
    }

    fn settle(&mut self) {
        if self.closed.load(Relaxed) && !self.is(Bug::ActsAfterClose) {
            return;
        }
        if self.is(Bug::WakesForEver) && !self.entries.is_empty() {
            self.cc.wake();
        }
        if self.is(Bug::AsksToResolveAlways) && !self.entries.is_empty() {
            self.cc.resolve_now();
        }
        if self.is(Bug::TimerLoop) && self.lists > 0 && self.empties == 0 {
            // Once only.
            self.empties = 1;
            self.cc.set_timer(Duration::from_secs(30));
        }
        if self.is(Bug::LeaksItself) && self.myself.is_none() {
            self.myself = Some(Arc::default());
        }
        let always = self.is(Bug::RepublishesAlways) && !self.entries.is_empty();
        if std::mem::take(&mut self.dirty) || always {
            self.publish();
        }
    }
}

// === pickers ===

impl Picker for Turns {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let _ = &self.circle;
        if self.bug == Bug::PickerDiesWithPolicy {
            assert!(!self.closed.load(Relaxed), "the policy is closed");
        }
        let turn = match self.bug {
            Bug::RacyCounter => {
                let turn = self.turns.load(Relaxed);
                // Long enough for another thread to read the same number.
                std::thread::yield_now();
                self.turns.store(turn.wrapping_add(1), Relaxed);
                turn
            }
            Bug::PickOverflows => {
                let turn = self.turns.load(Relaxed);
                // As `turn + 1` does in a build with overflow checks.
                let next = turn.checked_add(1);
                self.turns
                    .store(next.expect("attempt to add with overflow"), Relaxed);
                turn
            }
            _ => self.turns.fetch_add(1, Relaxed),
        };
        if self.bug == Bug::DropsSome && turn % 512 == 3 {
            return Err(PickError::Drop(Arc::new(Status::unavailable("shed"))));
        }
        if let Some(foreign) = &self.foreign
            && turn % 512 == 3
        {
            return Ok(Pick::new(foreign));
        }
        if let Some(shared) = &self.shared {
            let ready = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let count = ready.len();
            if count == 0 {
                return Err(PickError::NoSubConnAvailable);
            }
            return Ok(Pick::owned(ready[turn as usize % count].clone()));
        }
        let count = self.ready.len() as u64;
        let index = match self.bug {
            Bug::SkipsAtWrap => {
                // A 32-bit counter: at its wrap the cycle breaks unless its length divides 2^32.
                u64::from(turn as u32) % count
            }
            _ => exact(turn, count),
        };
        Ok(Pick::new(&self.ready[index as usize]))
    }
}

/// The index of a turn, without a break where the counter wraps: the remainder of 2^64 is carried.
fn exact(turn: u64, count: u64) -> u64 {
    // Turns near the wrap are moved away from it: the counter starts at random, and this is a
    // constant shift for all of them.
    turn.wrapping_add(1 << 40) % count
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

impl SubConnHandle for Foreign {
    fn connect(&self) {}
    fn update_addresses(&self, _: Vec<Address>) {}
}
