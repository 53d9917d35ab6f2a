//! A tiny ClientConn, and what the suite for channels says of it.
//!
//! It runs one policy, connects to whatever it is asked to, and answers every RPC itself: enough for
//! the pick loop, and not much more. `cargo run -p balancer-testkit --example channel_suite` prints
//! which laws it keeps, and an account of one that it breaks: what to write next.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallId, CallRequest, ClientConn, Code,
    ConnectivityState as State, Dialer, DoneInfo, Endpoint, NewSubConnError, NewSubConnOptions,
    Pick, PickError, PickOptions, Picker, ResolveError, ResolvedAddrs, Status, SubConn,
    SubConnHandle, SubConnState, TimerId, Timestamp, TransportCredentials,
};
use balancer_testkit::{
    ChannelLaw, ChannelSuite, ChannelUnderTest,
    witness::{Ability, Ending, Peer, Resolved, RpcOptions, Verdict},
};

/// The channel: one queue of things to do, and what they change.
struct Tiny {
    shared: Arc<Shared>,
    builder: Arc<dyn Builder>,
    policy: Option<Box<dyn Balancer>>,
    /// Whether a settle is due.
    moved: bool,
    subs: BTreeMap<u64, SubConn>,
    ready: Vec<SubConn>,
    /// The picker, and how many there were.
    picker: Option<(u64, Arc<dyn Picker>)>,
    rpcs: Vec<Rpc>,
}

type Task = Box<dyn FnOnce(&mut Tiny) + Send>;

struct Shared {
    queue: Mutex<VecDeque<Task>>,
    state: Mutex<State>,
    made: AtomicU64,
}

/// What the policy sees.
struct Conn(Arc<Shared>);

/// The n-th SubConn.
struct Handle(Arc<Shared>, u64);

struct Rpc {
    options: RpcOptions,
    /// The picker that told it to wait.
    seen: u64,
    outcome: Option<Result<(), Status>>,
}

fn main() {
    let suite = ChannelSuite::new(Tiny::new);
    let (mut kept, mut account) = (Vec::new(), None);
    for law in ChannelLaw::ALL {
        let verdict = suite.judge(*law);
        let word = match &verdict {
            Verdict::Kept => "kept",
            Verdict::Skipped(_) => "skipped",
            _ => "BROKEN",
        };
        println!("{word:<8} {law}");
        match verdict {
            Verdict::Kept => kept.push(*law),
            Verdict::Broken(broken) if *law == ChannelLaw::ConnectWhenIdle => {
                account = Some(broken);
            }
            _ => {}
        }
    }
    if let Some(account) = account {
        println!("\n{account}");
    }
    let pick_loop = [
        ChannelLaw::OncePerPicker,
        ChannelLaw::PickerWakes,
        ChannelLaw::FailFast,
        ChannelLaw::WaitForReady,
        ChannelLaw::DropIsFinal,
    ];
    let missing = pick_loop.iter().find(|law| !kept.contains(law));
    assert_eq!(missing, None, "the pick loop is what it can do");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Tiny ===

impl Tiny {
    fn new(policies: Vec<Arc<dyn Builder>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::default(),
                state: Mutex::new(State::Idle),
                made: AtomicU64::new(0),
            }),
            builder: policies[0].clone(),
            policy: None,
            moved: false,
            subs: BTreeMap::new(),
            ready: Vec::new(),
            picker: None,
            rpcs: Vec::new(),
        }
    }

    /// Tells the policy a SubConn's state.
    fn tell(&mut self, sub_conn: &SubConn, state: State) {
        self.ready.retain(|ready| ready != sub_conn);
        if state == State::Ready {
            self.ready.push(sub_conn.clone());
        }
        if let Some(policy) = &mut self.policy {
            policy.handle_sub_conn_state_change(sub_conn, &SubConnState::new(state));
            self.moved = true;
        }
    }

    /// Asks the picker for every RPC that has not met it yet.
    fn pick(&mut self) {
        let Some((generation, picker)) = self.picker.clone() else {
            return;
        };
        let state = *lock(&self.shared.state);
        for rpc in &mut self.rpcs {
            let early = rpc.options.when.is_some_and(|when| when != state);
            if early || rpc.outcome.is_some() || rpc.seen == generation {
                continue;
            }
            rpc.options.when = None;
            rpc.seen = generation;
            let waits = rpc.options.wait_for_ready;
            let asked = PickOptions::new("/tiny.Tiny/Call").with_wait_for_ready(waits);
            rpc.outcome = match picker.pick(&asked).map(Pick::into_owned) {
                Ok(pick) => {
                    let ready = self.ready.contains(pick.sub_conn());
                    let ours = pick.sub_conn().downcast_ref::<Handle>().is_some();
                    let (done, _) = pick.into_parts();
                    done.complete(&DoneInfo::new().with_bytes_sent(ready));
                    let strange = Status::new(Code::Internal, "policy first picked a stranger");
                    match (ready, ours) {
                        (true, _) => Some(Ok(())),
                        (false, true) => None,
                        (false, false) => Some(Err(strange)),
                    }
                }
                Err(PickError::NoSubConnAvailable) => None,
                Err(PickError::TransientFailure(_)) if waits => None,
                Err(PickError::Drop(status)) => Some(Err((*status).clone())),
                Err(error) => Some(Err(Status::unavailable(error.to_string()))),
            };
        }
    }
}

impl ChannelUnderTest for Tiny {
    fn resolve(&mut self, answer: Result<Resolved, String>) {
        if self.policy.is_none() {
            let conn = Arc::new(Conn(self.shared.clone()));
            let options = BuildOptions::new("tiny:///backends");
            self.policy = Some(self.builder.build(conn, options));
        }
        let resolved = match answer {
            Ok(found) => {
                let endpoints = found.addresses.iter().map(|addr| Endpoint::from(&**addr));
                Ok(ResolvedAddrs::new(endpoints))
            }
            Err(message) => Err(ResolveError::new(message)),
        };
        if let Some(policy) = &mut self.policy {
            // A test's resolver is not asked again, whatever the policy thinks of the answer.
            let _ = policy.handle_resolved_addrs(resolved);
            self.moved = true;
        }
    }

    /// Everybody is there, and nobody ever leaves.
    fn set_peer(&mut self, _: &str, _: Peer) {}

    fn end_connections(&mut self, _: &str, _: Ending) {}

    fn open_connections(&mut self) -> usize {
        self.ready.len()
    }

    fn start_rpc(&mut self, options: RpcOptions) -> usize {
        self.rpcs.push(Rpc {
            options,
            seen: 0,
            outcome: None,
        });
        self.rpcs.len() - 1
    }

    fn outcome(&mut self, rpc: usize) -> Option<Result<(), Status>> {
        self.rpcs[rpc].outcome.clone()
    }

    fn cancel_rpc(&mut self, rpc: usize) {
        let cancelled = Status::new(Code::Cancelled, "cancelled");
        self.rpcs[rpc].outcome.get_or_insert(Err(cancelled));
    }

    fn state_reader(&mut self) -> Arc<dyn Fn() -> State + Send + Sync> {
        let shared = self.shared.clone();
        Arc::new(move || *lock(&shared.state))
    }

    fn run(&mut self) {
        loop {
            let task = lock(&self.shared.queue).pop_front();
            if let Some(task) = task {
                task(self);
            } else if std::mem::take(&mut self.moved) {
                self.policy.iter_mut().for_each(|policy| policy.settle());
            } else {
                self.pick();
                return;
            }
        }
    }

    /// It has no timers.
    fn advance(&mut self, _: Duration) {
        self.run();
    }

    fn close(&mut self) {
        if let Some(mut policy) = self.policy.take() {
            policy.close();
        }
        *lock(&self.shared.state) = State::Shutdown;
    }

    fn can(&self, ability: Ability) -> bool {
        let _ = ability;
        false
    }
}

// === impl Conn ===

impl Conn {
    fn push(&self, task: impl FnOnce(&mut Tiny) + Send + 'static) {
        lock(&self.0.queue).push_back(Box::new(task));
    }
}

impl ClientConn for Conn {
    fn new_sub_conn(
        &self,
        _: Vec<Address>,
        _: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        let n = self.0.made.fetch_add(1, Relaxed);
        let sub_conn = SubConn::new(Arc::new(Handle(self.0.clone(), n)));
        let keep = sub_conn.clone();
        self.push(move |tiny| drop(tiny.subs.insert(n, keep)));
        Ok(sub_conn)
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        let gone = sub_conn.clone();
        self.push(move |tiny| tiny.tell(&gone, State::Shutdown));
    }

    fn update_balancer_state(&self, state: State, picker: Arc<dyn Picker>) {
        self.push(move |tiny| {
            let before = tiny.picker.take().map_or(0, |(generation, _)| generation);
            tiny.picker = Some((before + 1, picker));
            *lock(&tiny.shared.state) = state;
            tiny.pick();
        });
    }

    fn target(&self) -> &str {
        "tiny:///backends"
    }

    fn resolve_now(&self) {}

    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn random(&self) -> u64 {
        4
    }

    fn set_timer(&self, _: Duration) -> TimerId {
        TimerId::from_raw(0)
    }

    fn cancel_timer(&self, _: TimerId) {}

    fn wake(&self) {
        self.push(|tiny| tiny.moved = true);
    }

    fn start_call(&self, _: &SubConn, _: CallRequest) -> CallId {
        CallId::from_raw(0)
    }

    fn send_call_message(&self, _: CallId, _: bytes::Bytes) {}

    fn close_call_send(&self, _: CallId) {}

    fn cancel_call(&self, _: CallId) {}

    fn new_lookaside(
        &self,
        _: &str,
        _: Option<Arc<dyn TransportCredentials>>,
        _: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        Err(NewSubConnError::Refused("backends only".into()))
    }
}

// === impl Handle ===

impl SubConnHandle for Handle {
    fn connect(&self) {
        let n = self.1;
        lock(&self.0.queue).push_back(Box::new(move |tiny| {
            if let Some(sub_conn) = tiny.subs.get(&n).cloned() {
                tiny.tell(&sub_conn, State::Connecting);
                tiny.tell(&sub_conn, State::Ready);
            }
        }));
    }

    fn update_addresses(&self, _: Vec<Address>) {}
}
