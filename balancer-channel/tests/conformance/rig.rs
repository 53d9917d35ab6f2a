//! A channel, its resolver and its servers, as the suite moves them.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{
    Builder, Code, ConnectivityState as State, Dialer, Endpoint, Io, ResolveError, Status,
};
use balancer_channel::{
    Channel, ManualResolver, Registry, Resolution, WaitForReady,
    ledger::{Held, Watch, watch},
};
use balancer_testkit::{
    ChannelUnderTest,
    witness::{Dial, Ending as PeerEnds, Peer, Resolved, RpcOptions, Serve},
};
use balancer_testpeer::{
    Answer, Backend, Ending, Response, Server,
    frame::{Frame, code, setting},
};
use futures_util::StreamExt;
use tokio::{runtime::Runtime, sync::Notify, task::JoinHandle, time::sleep};
use tokio_util::compat::TokioAsyncReadCompatExt;
use tonic::Request;

use crate::support::{echo, harness::given_back, text};

pub(crate) struct Rig {
    channel: Channel,
    resolver: ManualResolver,
    world: Arc<World>,
    rpcs: Vec<Rpc>,
    watch: Watch,
    /// Dropped last: everything else runs on it.
    runtime: Runtime,
}

struct Rpc {
    outcome: Arc<Mutex<Outcome>>,
    task: JoinHandle<()>,
}

type Outcome = Option<Result<(), Status>>;

/// Everybody at an address.
#[derive(Default)]
struct World {
    peers: Mutex<BTreeMap<String, At>>,
    /// A peer was set anew.
    news: Notify,
}

#[derive(Clone)]
struct At {
    peer: Arc<Mutex<Peer>>,
    server: Arc<Server>,
}

/// Long enough for everybody to come to rest, and too short for anything to be due.
const REST: Duration = Duration::from_millis(2);

// === impl World ===

impl World {
    /// Whoever is at `address`. Needs a runtime.
    fn at(&self, address: &str) -> At {
        let mut peers = self.peers.lock().expect("never poisoned");
        let at = peers.entry(address.to_owned()).or_insert_with(|| {
            let peer = Arc::new(Mutex::new(Peer::good()));
            At {
                server: Arc::new(Server::in_memory(backend(address, &peer))),
                peer,
            }
        });
        at.clone()
    }

    fn all(&self) -> Vec<At> {
        let peers = self.peers.lock().expect("never poisoned");
        peers.values().cloned().collect()
    }
}

#[async_trait::async_trait]
impl Dialer for World {
    async fn dial(&self, addr: &str) -> io::Result<Box<dyn Io>> {
        loop {
            let news = self.news.notified();
            let at = self.at(addr);
            let dial = at.peer.lock().expect("never poisoned").dial;
            match dial {
                Dial::Accept => return Ok(Box::new(at.server.connect().compat())),
                Dial::Refuse => return Err(io::ErrorKind::ConnectionRefused.into()),
                Dial::Hang => news.await,
            }
        }
    }
}

/// A server that treats each request as the peer says at that time.
fn backend(address: &str, peer: &Arc<Mutex<Peer>>) -> Backend {
    let now = peer.clone();
    let streams = match peer.lock().expect("never poisoned").serve {
        Serve::NoStream => 0,
        _ => 100,
    };
    Backend::new(address)
        .max_concurrent_streams(streams)
        .answers(move |_| match now.lock().expect("never poisoned").serve {
            Serve::Answer => Answer::Echo,
            Serve::AnswerAfter(wait) => Answer::Echo.after(wait),
            Serve::Refuse => Answer::Reset(code::REFUSED_STREAM),
            Serve::BreakAfterHeaders => {
                let broken = Response::grpc().reset(code::REFUSED_STREAM);
                Answer::Respond(broken).early()
            }
            // It was said that there is no room.
            Serve::NoStream => Answer::Never,
        })
}

// === impl Rig ===

impl Rig {
    pub(crate) fn new(policies: Vec<Arc<dyn Builder>>) -> Self {
        // Leaks: looked for when the rig is dropped.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let watch = watch(runtime.handle());
        let world = Arc::new(World::default());
        let resolver = ManualResolver::silent();
        let first = policies[0].name().to_owned();
        let mut builder = Channel::builder("dns:///backends")
            .plaintext()
            .registry(Registry::new())
            .resolver(resolver.clone())
            .dialer(world.clone())
            .default_service_config(format!(r#"{{"loadBalancingConfig":[{{"{first}":{{}}}}]}}"#));
        for policy in policies {
            builder = builder.policy(policy);
        }
        let entered = runtime.enter();
        let channel = builder.build().expect("a channel");
        channel.state(true);
        drop(entered);
        let mut rig = Self {
            channel,
            resolver,
            world,
            rpcs: Vec::new(),
            watch,
            runtime,
        };
        rig.run();
        rig
    }
}

impl ChannelUnderTest for Rig {
    fn resolve(&mut self, answer: Result<Resolved, String>) {
        let answer = match answer {
            Err(message) => Err(ResolveError::new(message)),
            Ok(found) => {
                let endpoints = found.addresses.iter().map(|addr| Endpoint::from(&**addr));
                let mut resolution = Resolution::new(endpoints);
                if let Some(json) = found.service_config() {
                    resolution = resolution.with_service_config(json);
                }
                Ok(resolution)
            }
        };
        self.resolver.update(answer);
    }

    fn set_peer(&mut self, address: &str, peer: Peer) {
        let _entered = self.runtime.enter();
        let at = self.world.at(address);
        *at.peer.lock().expect("never poisoned") = peer;
        at.server.set_script(backend(address, &at.peer));
        let streams = if peer.serve == Serve::NoStream {
            0
        } else {
            100
        };
        let limit = (setting::MAX_CONCURRENT_STREAMS, streams);
        at.server.send([Frame::settings(&[limit])]);
        self.world.news.notify_waiters();
    }

    fn end_connections(&mut self, address: &str, how: PeerEnds) {
        let _entered = self.runtime.enter();
        let at = self.world.at(address);
        match how {
            PeerEnds::Goaway => at.server.goaway_soon(),
            PeerEnds::Reset => self.runtime.block_on(at.server.kill(Ending::Reset)),
        }
    }

    fn open_connections(&mut self) -> usize {
        let all = self.world.all();
        all.iter().map(|at| at.server.journal().open()).sum()
    }

    fn start_rpc(&mut self, options: RpcOptions) -> usize {
        let outcome = Arc::new(Mutex::new(None));
        let (channel, told) = (self.channel.clone(), outcome.clone());
        let task = self.runtime.spawn(async move {
            let ended = rpc(channel, options).await;
            *told.lock().expect("never poisoned") = Some(ended);
        });
        self.rpcs.push(Rpc { outcome, task });
        self.rpcs.len() - 1
    }

    fn outcome(&mut self, rpc: usize) -> Outcome {
        let outcome = self.rpcs[rpc].outcome.lock();
        outcome.expect("never poisoned").clone()
    }

    fn cancel_rpc(&mut self, rpc: usize) {
        self.rpcs[rpc].task.abort();
    }

    fn state_reader(&mut self) -> Arc<dyn Fn() -> State + Send + Sync> {
        let channel = self.channel.clone();
        Arc::new(move || channel.state(false))
    }

    fn run(&mut self) {
        self.runtime.block_on(async { sleep(REST).await });
    }

    fn advance(&mut self, by: Duration) {
        self.runtime.block_on(async { sleep(by).await });
    }

    fn close(&mut self) {
        self.runtime.block_on(self.channel.close());
    }
}

/// After every test: the channel is closed, and nothing of it is left.
impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test has said already what is wrong.
            return;
        }
        self.rpcs.iter().for_each(|rpc| rpc.task.abort());
        self.close();
        let left = given_back(&self.watch, Duration::from_secs(10));
        let left = self.runtime.block_on(left);
        assert_eq!(left, Held::default(), "left behind by the channel");
    }
}

/// A unary RPC as an application makes it.
async fn rpc(channel: Channel, options: RpcOptions) -> Result<(), Status> {
    if let Some(wanted) = options.when {
        let mut states = channel.states();
        while states.next().await.is_some_and(|state| state != wanted) {}
    }
    let mut request = Request::new(text("hello"));
    if options.wait_for_ready {
        request.extensions_mut().insert(WaitForReady(true));
    }
    if let Some(timeout) = options.timeout {
        request.set_timeout(timeout);
    }
    match echo(&channel, request).await {
        Ok(response) => {
            assert_eq!(response.get_ref().text, "hello", "must be the echo");
            Ok(())
        }
        Err(status) => {
            let code = Code::from_i32(status.code().into());
            Err(Status::new(code, status.message().to_owned()))
        }
    }
}
