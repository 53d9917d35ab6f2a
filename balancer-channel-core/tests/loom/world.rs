//! The world of a channel under `loom`: one thread that runs all its tasks, dials that succeed at
//! once, connections that another thread may lose. Time stands still.

use std::{
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex as Plain,
        atomic::{AtomicBool as PlainBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use balancer_api::{
    CallRequest, ChildConfig, ConnectivityState as State, Endpoint, Status, Timestamp,
};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::{
    core::Core,
    env::{BoxFuture, ConnectRequest, Connected, Connection, Env, Lost, ParsedConfig, PolicyCall},
    policy::{Witness, first},
    resolver::ManualResolver,
    settings::Settings,
    sync::{Mutex, lock},
};

/// A channel, and the thread that runs its tasks: the one that calls [`run`](Self::run).
pub(crate) struct Stage {
    pub(crate) core: Core<World>,
    pub(crate) resolver: ManualResolver,
    pub(crate) witness: Arc<Witness>,
    world: Arc<World>,
    tasks: FuturesUnordered<BoxFuture<()>>,
}

/// Clock, chance, tasks and connections of one interleaving.
pub(crate) struct World {
    /// Tasks that were spawned and have not run.
    spawned: Plain<Vec<BoxFuture<()>>>,
    wires: Plain<Vec<Arc<Wire>>>,
}

/// One connection, as the network has it.
pub(crate) struct Wire {
    pub(crate) address: String,
    lost: Mutex<(bool, Vec<Waker>)>,
    /// Whether the channel has given it up.
    closed: PlainBool,
}

/// One connection, as the channel has it.
pub(crate) struct Line(pub(crate) Arc<Wire>);

/// Ready when the wire is lost.
pub(crate) struct Losing(pub(crate) Arc<Wire>);

pub(crate) fn endpoints(names: &str) -> Vec<Endpoint> {
    names.split_whitespace().map(Endpoint::from).collect()
}

// === impl Stage ===

impl Stage {
    /// A channel that sleeps.
    pub(crate) fn asleep(names: &str) -> Self {
        let world = Arc::new(World {
            spawned: Plain::default(),
            wires: Plain::default(),
        });
        let witness = Arc::new(Witness::default());
        let resolver = ManualResolver::new(endpoints(names));
        let policy = ParsedConfig {
            policy: ChildConfig::new(first(&witness), None),
            rpc: Arc::new(()),
            json: "first".into(),
        };
        let source = Arc::new(resolver.clone());
        let mut settings = Settings::new("loom:///backends", "backends", source, policy);
        settings.idle_timeout = None;
        // Leaks: `run` ends when all tasks have, and wants none to be left.
        let core = Core::new(world.clone(), settings);
        Self {
            core,
            resolver,
            witness,
            world,
            tasks: FuturesUnordered::new(),
        }
    }

    /// A channel whose backends are connected. Nothing else happens meanwhile.
    pub(crate) fn ready(names: &str) -> Self {
        let mut stage = Self::asleep(names);
        stage.core.connect();
        let all = endpoints(names).len();
        let core = stage.core.clone();
        stage.work(|world| {
            world.wires().len() == all && core.state(false) == State::Ready && {
                let snapshot = core.snapshot();
                snapshot
                    .sub_conns
                    .iter()
                    .all(|sub_conn| sub_conn.state == State::Ready)
            }
        });
        stage
    }

    /// The connection that was made to this backend first.
    pub(crate) fn wire(&self, address: &str) -> Arc<Wire> {
        let wires = self.world.wires();
        let wire = wires.iter().find(|wire| wire.address == address);
        wire.expect("connected").clone()
    }

    /// Lets go of the channel, and runs its tasks to their end: until the last of those who hold it has
    /// let go of it, too.
    pub(crate) fn run(self) -> Arc<Witness> {
        let Self {
            core,
            resolver,
            witness,
            world,
            tasks,
        } = self;
        drop((core, resolver));
        let tasks = work(&world, tasks, |_| false);
        assert!(tasks.is_empty(), "every task has ended");
        witness
    }

    /// Runs the channel's tasks until `until` says so.
    pub(crate) fn work(&mut self, until: impl Fn(&World) -> bool) {
        self.tasks = work(&self.world, std::mem::take(&mut self.tasks), until);
    }
}

/// Runs tasks until all have ended, or `until` says so.
fn work(
    world: &World,
    mut tasks: FuturesUnordered<BoxFuture<()>>,
    until: impl Fn(&World) -> bool,
) -> FuturesUnordered<BoxFuture<()>> {
    loom::future::block_on(poll_fn(|cx| {
        loop {
            tasks.extend(std::mem::take(
                &mut *world.spawned.lock().expect("no panic"),
            ));
            match tasks.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if until(world) => return Poll::Ready(()),
                Poll::Pending if world.spawned.lock().expect("no panic").is_empty() => {
                    return Poll::Pending;
                }
                Poll::Pending => {}
            }
        }
    }));
    tasks
}

// === impl World ===

impl World {
    pub(crate) fn wires(&self) -> Vec<Arc<Wire>> {
        self.wires.lock().expect("no panic").clone()
    }
}

impl Env for World {
    type Connection = Line;
    type RpcConfig = ();

    fn parse_config(&self, json: &str) -> Result<ParsedConfig<()>, String> {
        Err(format!("no service config is known here: {json}"))
    }

    fn streams(&self) -> usize {
        0
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn random(&self) -> u64 {
        0
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.spawned.lock().expect("no panic").push(task);
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<()> {
        Box::pin(pending())
    }

    fn connect(&self, request: ConnectRequest) -> BoxFuture<Result<Connected<Line>, Status>> {
        let wire = Arc::new(Wire {
            address: request.address.addr().to_owned(),
            lost: Mutex::new((false, Vec::new())),
            closed: PlainBool::new(false),
        });
        self.wires.lock().expect("no panic").push(wire.clone());
        Box::pin(async {
            Ok(Connected {
                connection: Line(wire.clone()),
                lost: Box::pin(Losing(wire)),
            })
        })
    }
}

// === impl Wire ===

impl Wire {
    /// The peer says goodbye, or is gone.
    pub(crate) fn lose(&self) {
        let wakers = {
            let mut lost = lock(&self.lost);
            lost.0 = true;
            std::mem::take(&mut lost.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the channel has given it up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.closed.load(Relaxed)
    }
}

impl Connection for Line {
    fn close(&self) {
        self.0.closed.store(true, Relaxed);
        self.0.lose();
    }

    fn abort(&self, _: Status) {
        self.close();
    }

    fn start_call(&self, _: CallRequest) -> PolicyCall {
        unreachable!("no policy of these models makes calls")
    }

    fn streams(&self) -> usize {
        0
    }

    fn answered(&self) -> bool {
        true
    }

    fn drained(&self) -> BoxFuture<()> {
        let wire = self.0.clone();
        Box::pin(async move {
            Losing(wire).await;
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.lose();
    }
}

impl Future for Losing {
    type Output = Lost;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Lost> {
        let mut lost = lock(&self.0.lost);
        if lost.0 {
            return Poll::Ready(Lost::new(Status::unavailable("connection lost")));
        }
        lost.1.push(cx.waker().clone());
        Poll::Pending
    }
}
