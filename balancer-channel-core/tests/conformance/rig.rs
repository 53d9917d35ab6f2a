//! The channel in memory as the suite moves it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{
    Builder, CallEvent, Code, ConnectivityState as State, DoneInfo, Endpoint, PickError,
    PickOptions, ResolveError, Status,
};
use balancer_channel_core::{Core, ManualResolver, PickOutcome, Resolution, Settings};
use balancer_testkit::{
    ChannelUnderTest,
    witness::{Ability, Dial, Ending, Peer, Resolved, RpcOptions, Serve},
};
use futures_util::{
    StreamExt,
    future::{AbortHandle, Abortable},
};

use crate::support::{Answer, CallState, Log, Sim, SimEnv, leaves_nothing};

pub(crate) struct Rig {
    sim: Arc<Sim>,
    env: Arc<SimEnv>,
    resolver: ManualResolver,
    core: Core<SimEnv>,
    peers: BTreeMap<String, Peer>,
    rpcs: Vec<Rpc>,
    /// How many calls of policies each connection has had answers to.
    served: Vec<usize>,
}

struct Rpc {
    outcome: Arc<Mutex<Outcome>>,
    cancel: AbortHandle,
}

type Outcome = Option<Result<(), Status>>;

// === impl Rig ===

impl Rig {
    pub(crate) fn new(policies: Vec<Arc<dyn Builder>>) -> Self {
        let sim = Sim::new(1);
        let env = SimEnv::new(sim.clone(), &Log::default());
        let first = policies[0].name().to_owned();
        for policy in policies {
            env.register(policy);
        }
        let resolver = ManualResolver::silent();
        let default = env.config(&first).expect("it was registered");
        let given = Arc::new(resolver.clone());
        let settings = Settings::new("sim:///backends", "backends", given, default);
        // Leaks: looked for when the rig is dropped.
        let core = Core::new(env.clone(), settings);
        core.connect();
        sim.run();
        Self {
            sim,
            env,
            resolver,
            core,
            peers: BTreeMap::new(),
            rpcs: Vec::new(),
            served: Vec::new(),
        }
    }

    /// Answers the calls of policies that have come; says whether there were any.
    fn serve(&mut self) -> bool {
        let wires = self.env.net.wires();
        self.served.resize(wires.len(), 0);
        let mut any = false;
        for (wire, served) in wires.iter().zip(&mut self.served) {
            let peer = self.peers.get(&wire.address).copied().unwrap_or_default();
            for call in wire.calls().into_iter().skip(*served) {
                *served += 1;
                any = true;
                let wait = match peer.serve {
                    Serve::Answer => Duration::ZERO,
                    Serve::AnswerAfter(wait) => wait,
                    Serve::NoStream | Serve::Refuse | Serve::BreakAfterHeaders => continue,
                };
                let until = self.sim.sleep_until(self.sim.now() + wait);
                self.sim.spawn(Box::pin(async move {
                    until.await;
                    answer(&call);
                }));
            }
        }
        any
    }
}

/// Echoes a call's first message.
fn answer(call: &Arc<Mutex<CallState>>) {
    let first = call.lock().unwrap().request.clone();
    let first = first.and_then(|request| request.first_message);
    CallState::serve(call, CallEvent::Headers(Default::default()));
    CallState::serve(call, CallEvent::Message(first.unwrap_or_default()));
    let end = CallEvent::End {
        status: Status::new(Code::Ok, ""),
        trailers: Default::default(),
    };
    CallState::serve(call, end);
}

impl ChannelUnderTest for Rig {
    fn resolve(&mut self, answer: Result<Resolved, String>) {
        let answer = match answer {
            Err(message) => Err(ResolveError::new(message)),
            Ok(found) => {
                let endpoints = found.addresses.iter().map(|addr| Endpoint::from(&**addr));
                let resolution = Resolution::new(endpoints);
                let first = found.policies.as_ref().and_then(|list| list.first());
                Ok(match first {
                    None => resolution,
                    Some((name, json)) => resolution.with_service_config(format!("{name}/{json}")),
                })
            }
        };
        self.resolver.update(answer);
    }

    fn set_peer(&mut self, address: &str, peer: Peer) {
        self.peers.insert(address.to_owned(), peer);
        let answer = match peer.dial {
            Dial::Accept => Answer::Accept,
            Dial::Refuse => Answer::Refuse,
            Dial::Hang => Answer::Hang,
        };
        self.env.net.set(address, answer);
    }

    fn end_connections(&mut self, address: &str, how: Ending) {
        let wires = self.env.net.wires();
        for wire in wires.iter().filter(|wire| wire.address == address) {
            wire.lose("the peer ended it");
            if how == Ending::Reset {
                wire.calls().iter().for_each(CallState::hang_up);
            }
        }
    }

    fn open_connections(&mut self) -> usize {
        self.env.net.held()
    }

    fn start_rpc(&mut self, options: RpcOptions) -> usize {
        let outcome = Arc::new(Mutex::new(None));
        let (cancel, registration) = AbortHandle::new_pair();
        let (core, told) = (self.core.clone(), outcome.clone());
        let rpc = async move {
            let ended = run(core, options).await;
            *told.lock().unwrap() = Some(ended);
        };
        let rpc = Abortable::new(rpc, registration);
        self.sim.spawn(Box::pin(async move {
            let _ = rpc.await;
        }));
        self.rpcs.push(Rpc { outcome, cancel });
        self.rpcs.len() - 1
    }

    fn outcome(&mut self, rpc: usize) -> Outcome {
        self.rpcs[rpc].outcome.lock().unwrap().clone()
    }

    fn cancel_rpc(&mut self, rpc: usize) {
        self.rpcs[rpc].cancel.abort();
    }

    fn state_reader(&mut self) -> Arc<dyn Fn() -> State + Send + Sync> {
        let core = self.core.clone();
        Arc::new(move || core.state(false))
    }

    fn run(&mut self) {
        self.sim.run();
        while self.serve() {
            self.sim.run();
        }
    }

    fn advance(&mut self, by: Duration) {
        self.run();
        self.sim.advance(by);
        self.run();
    }

    fn close(&mut self) {
        self.core.close();
        self.run();
    }

    fn can(&self, ability: Ability) -> bool {
        !matches!(ability, Ability::Rpcs | Ability::ServiceConfigs)
    }
}

/// After every test: the channel is closed, and nothing of it is left.
impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test has said already what is wrong.
            return;
        }
        self.rpcs.iter().for_each(|rpc| rpc.cancel.abort());
        leaves_nothing(&self.core, &self.sim, &self.env);
    }
}

/// An RPC as a user of the core makes it; sending is the least of it.
async fn run(core: Core<SimEnv>, options: RpcOptions) -> Result<(), Status> {
    if let Some(wanted) = options.when {
        let mut states = core.states();
        while states.next().await.is_some_and(|state| state != wanted) {}
    }
    loop {
        let asked = PickOptions::new("/suite.Suite/Call")
            .with_wait_for_ready(options.wait_for_ready)
            .with_source(core.source());
        let outcome = core.current().pick(&asked);
        match outcome {
            PickOutcome::Complete(attempt) => {
                attempt.connection.wire().answer();
                let info = DoneInfo::new().with_bytes_sent(true);
                attempt.done.complete(&info);
                return Ok(());
            }
            PickOutcome::Wait { generation, .. } => {
                let next = core.next_picker(generation).await;
                next.map_err(|full| Status::unavailable(full.to_string()))?;
            }
            PickOutcome::Fail(PickError::Drop(status)) => return Err((*status).clone()),
            PickOutcome::Fail(error) => return Err(Status::unavailable(error.to_string())),
            PickOutcome::Closed(status) => return Err(status),
        }
    }
}
