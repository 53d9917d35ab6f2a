//! The world of a channel under `shuttle`: tasks of its scheduler, timers that are due when the
//! schedule says so, dials that succeed or not, connections that somebody can lose.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex as Plain, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use balancer_api::{Builder, CallRequest, ChildConfig, Endpoint, Status, Timestamp};
use shuttle::rand::{Rng, thread_rng};

use crate::{
    env::{BoxFuture, ConnectRequest, Connected, Connection, Env, Lost, ParsedConfig, PolicyCall},
    resolver::ManualResolver,
    settings::Settings,
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering::SeqCst, lock},
};

/// Clock, chance, tasks and connections of one schedule.
pub(crate) struct World {
    now: AtomicU64,
    /// How many tasks run, and who waits for the end of all.
    tasks: Mutex<(usize, Option<Waker>)>,
    /// Dials of these addresses are refused.
    refused: Plain<Vec<String>>,
    wires: Mutex<Vec<Arc<Wire>>>,
    policies: Vec<Arc<dyn Builder>>,
}

/// One connection, as the network has it.
pub(crate) struct Wire {
    pub(crate) address: String,
    lost: Mutex<(bool, Vec<Waker>)>,
    pub(crate) streams: AtomicUsize,
}

/// One connection, as the channel has it.
pub(crate) struct Line(pub(crate) Arc<Wire>);

/// Ready after some turns.
struct Turns(usize);

/// Ready when the wire is lost.
struct Losing(Arc<Wire>);

/// Lowers the count of tasks, also by a panic.
struct Running(Arc<World>);

/// More turns than a schedule that does nothing wrong ever needs between two steps.
const TURNS: usize = 4;

/// In so long a time everybody has had so many turns: whoever dials is not overtaken by the end of the
/// twenty seconds that dialling may take.
const LONG: Duration = Duration::from_secs(10);
const LONG_TURNS: usize = 64;

/// Gives way to others a few times.
pub(crate) fn some_turns() -> impl Future<Output = ()> {
    Turns(thread_rng().gen_range(0..TURNS))
}

impl World {
    pub(crate) fn make(policies: Vec<Arc<dyn Builder>>) -> Arc<Handle> {
        Arc::new(Handle(Arc::new(Self {
            now: AtomicU64::new(0),
            tasks: Mutex::new((0, None)),
            refused: Plain::default(),
            wires: Mutex::new(Vec::new()),
            policies,
        })))
    }
}

/// The world as an [`Env`].
pub(crate) struct Handle(pub(crate) Arc<World>);

impl Handle {
    pub(crate) fn refuse(&self, address: &str) {
        let mut refused = self
            .0
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        refused.push(address.to_owned());
    }

    /// Ready when no task of the channel runs any more.
    pub(crate) fn tasks_ended(&self) -> impl Future<Output = ()> {
        let world = self.0.clone();
        poll_fn(move |cx| {
            let mut tasks = lock(&world.tasks);
            tasks.1 = Some(cx.waker().clone());
            if tasks.0 == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }

    /// Loses every connection that is open, once one is.
    pub(crate) async fn lose_all(&self) {
        loop {
            let wires = std::mem::take(&mut *lock(&self.0.wires));
            wires.iter().for_each(|wire| wire.lose());
            if !wires.is_empty() {
                return;
            }
            shuttle::future::yield_now().await;
        }
    }

    pub(crate) fn settings(&self, resolver: &ManualResolver) -> Settings<()> {
        let default = self
            .config(self.0.policies[0].name())
            .expect("the first policy");
        let resolver = Arc::new(resolver.clone());
        let mut settings = Settings::new("shuttle:///backends", "backends", resolver, default);
        settings.idle_timeout = None;
        settings
    }

    fn config(&self, name: &str) -> Option<ParsedConfig<()>> {
        let builder = self
            .0
            .policies
            .iter()
            .find(|policy| policy.name() == name)?;
        Some(ParsedConfig {
            policy: ChildConfig::new(builder.clone(), None),
            rpc: Arc::new(()),
            json: name.into(),
        })
    }
}

pub(crate) fn endpoints(names: &str) -> Vec<Endpoint> {
    names.split_whitespace().map(Endpoint::from).collect()
}

impl Env for Handle {
    type Connection = Line;
    type RpcConfig = ();

    fn parse_config(&self, json: &str) -> Result<ParsedConfig<()>, String> {
        self.config(json).ok_or_else(|| format!("no policy {json}"))
    }

    fn streams(&self) -> usize {
        lock(&self.0.wires)
            .iter()
            .map(|wire| wire.streams.load(SeqCst))
            .sum()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.now.load(SeqCst))
    }

    fn random(&self) -> u64 {
        thread_rng().r#gen()
    }

    fn spawn(&self, task: BoxFuture<()>) {
        lock(&self.0.tasks).0 += 1;
        let running = Running(self.0.clone());
        shuttle::future::spawn(async move {
            task.await;
            drop(running);
        });
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<()> {
        let world = self.0.clone();
        Box::pin(async move {
            some_turns().await;
            let now = Timestamp::from_nanos(world.now.load(SeqCst));
            if at - now > LONG {
                Turns(LONG_TURNS).await;
            }
            world.now.fetch_max(at.as_nanos(), SeqCst);
        })
    }

    fn connect(&self, request: ConnectRequest) -> BoxFuture<Result<Connected<Line>, Status>> {
        let world = self.0.clone();
        Box::pin(async move {
            some_turns().await;
            let address = request.address.addr().to_owned();
            let refused = world.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.contains(&address) {
                return Err(Status::unavailable(format!(
                    "{address}: connection refused"
                )));
            }
            drop(refused);
            let wire = Arc::new(Wire {
                address,
                lost: Mutex::new((false, Vec::new())),
                streams: AtomicUsize::new(0),
            });
            lock(&world.wires).push(wire.clone());
            Ok(Connected {
                connection: Line(wire.clone()),
                lost: Box::pin(Losing(wire)),
            })
        })
    }
}

impl Wire {
    fn lose(&self) {
        let wakers = {
            let mut lost = lock(&self.lost);
            lost.0 = true;
            std::mem::take(&mut lost.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Connection for Line {
    fn close(&self) {
        self.0.lose();
    }

    fn abort(&self, _: Status) {
        self.0.lose();
    }

    fn start_call(&self, _: CallRequest) -> PolicyCall {
        unreachable!("no policy of these models makes calls")
    }

    fn streams(&self) -> usize {
        self.0.streams.load(SeqCst)
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

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let waker = {
            let mut tasks = lock(&self.0.tasks);
            tasks.0 -= 1;
            if tasks.0 == 0 { tasks.1.take() } else { None }
        };
        waker.into_iter().for_each(Waker::wake);
    }
}
