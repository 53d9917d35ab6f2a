//! A hundred thousand RPCs that wait for a picker, over connections that exist in name only.

use std::{
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use balancer_api::{
    Address, CallRequest, ChildConfig, DoneInfo, Endpoint, PickOptions, Status, Timestamp,
};
use balancer_channel_core::{
    BoxFuture, ConnectRequest, Connected, Connection, Core, Env, ManualResolver, ParsedConfig,
    PickOutcome, PolicyCall, Settings,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::oneshot;

use crate::{caller::Error, clock};

/// What becomes of the RPCs once somebody has an answer for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The backend is there: each gets a connection.
    Sent,
    /// The backend refuses: each fails.
    Failed,
}

/// What the RPCs cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU time from the resolver's answer to the end of the last RPC: every one of them is woken to
    /// wait for the connection, and again for the connection's end.
    pub cpu: Duration,
    /// Heap of the channel's per RPC that waits.
    pub bytes: f64,
    /// What a wait takes in the RPC's own future.
    pub future: usize,
}

/// A world of one backend, whose connection takes as long as it is told.
struct World {
    started: Instant,
    random: AtomicU64,
    /// How the dial ends, once.
    dial: std::sync::Mutex<Option<oneshot::Receiver<End>>>,
}

/// A connection that takes everything and does nothing.
#[derive(Debug)]
struct Nowhere;

/// So many RPCs, queued, released once to wait again, and ended.
///
/// `held` does what it is given and says how many more bytes are held after it: this library has no
/// allocator of its own, which every program that uses it would pay for.
///
/// # Errors
/// An RPC ends in another way than it should, or the system does not tell CPU time.
///
/// # Panics
/// Outside of a runtime.
pub async fn wait(
    rpcs: usize,
    end: End,
    held: impl FnOnce(&mut dyn FnMut()) -> i64,
) -> Result<Cost, Error> {
    let (finish, dial) = oneshot::channel();
    let world = Arc::new(World {
        started: Instant::now(),
        random: AtomicU64::new(1),
        dial: std::sync::Mutex::new(Some(dial)),
    });
    let resolver = ManualResolver::silent();
    let config = world.parse_config("{}")?;
    let given = Arc::new(resolver.clone());
    let mut settings = Settings::new("bench:///one", "one", given, config);
    settings.max_waiting = rpcs;
    let core = Core::new(world, settings);

    // Made before anything is counted: what they cost by waiting is the difference.
    let mut waiting: FuturesUnordered<_> = (0..rpcs).map(|_| rpc(&core)).collect();
    let mut first = None;
    let held = held(&mut || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        first = Some(waiting.poll_next_unpin(&mut cx));
    });
    if let Some(std::task::Poll::Ready(_)) = first {
        return Err("an RPC did not wait".into());
    }
    let bytes = held as f64 / rpcs as f64;
    // Lets the balancer's task come to its resolver.
    settle().await;
    if core.snapshot().waiting != rpcs {
        return Err("not all RPCs wait".into());
    }

    let before = clock::cpu().ok_or("no CPU time")?;
    resolver.set_endpoints([Endpoint::new([Address::new("10.0.0.1:1")])]);
    settle().await;
    let mut finish = Some(finish);
    let mut ended = 0;
    // Each has been woken once, has asked the new picker, and waits again.
    while let std::task::Poll::Ready(Some(_)) = futures_util::poll!(waiting.next()) {
        ended += 1;
    }
    if ended > 0 || core.snapshot().waiting != rpcs {
        return Err("RPCs must wait for the connection".into());
    }
    if let Some(finish) = finish.take() {
        finish.send(end).map_err(|_| "nobody dialled")?;
    }
    let mut sent = 0;
    while let Some(was_sent) = waiting.next().await {
        sent += usize::from(was_sent?);
    }
    let after = clock::cpu().ok_or("no CPU time")?;
    let wanted = if end == End::Sent { rpcs } else { 0 };
    if sent != wanted {
        return Err(format!("{sent} of {rpcs} were sent").into());
    }
    Ok(Cost {
        cpu: after.saturating_sub(before),
        bytes,
        future: size_of_val(&core.next_picker(0)),
    })
}

/// Whether it was sent.
async fn rpc(core: &Core<World>) -> Result<bool, Error> {
    loop {
        let generation = {
            let options = PickOptions::new("/s/m").with_source(core.source());
            match core.current().pick(&options) {
                PickOutcome::Complete(attempt) => {
                    let info = DoneInfo::new().with_source(core.source());
                    attempt.done.complete(&info);
                    return Ok(true);
                }
                PickOutcome::Fail(_) => return Ok(false),
                PickOutcome::Closed(status) => return Err(status.message().into()),
                PickOutcome::Wait { generation, .. } => generation,
            }
        };
        let next = core.next_picker(generation).await;
        next.map_err(|full| format!("{full:?}"))?;
    }
}

/// Lets every task that can go on do so.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

// === impl World ===

impl Env for World {
    type Connection = Nowhere;
    type RpcConfig = ();

    fn parse_config(&self, json: &str) -> Result<ParsedConfig<()>, String> {
        Ok(ParsedConfig {
            policy: ChildConfig::new(balancer_roundrobin::builder(), None),
            rpc: Arc::new(()),
            json: json.into(),
        })
    }

    fn streams(&self) -> usize {
        0
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.started.elapsed().as_nanos() as u64)
    }

    fn random(&self) -> u64 {
        self.random.fetch_add(1, Ordering::Relaxed)
    }

    fn spawn(&self, task: BoxFuture<()>) {
        tokio::spawn(task);
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<()> {
        let at = self.started + Duration::from_nanos(at.as_nanos());
        Box::pin(tokio::time::sleep_until(at.into()))
    }

    fn connect(&self, _: ConnectRequest) -> BoxFuture<Result<Connected<Nowhere>, Status>> {
        let dial = self.dial.lock().ok().and_then(|mut dial| dial.take());
        Box::pin(async move {
            let end = match dial {
                Some(dial) => dial.await,
                // Nobody is told twice.
                None => Ok(End::Failed),
            };
            match end {
                Ok(End::Sent) => Ok(Connected {
                    connection: Nowhere,
                    lost: Box::pin(pending()),
                }),
                _ => Err(Status::unavailable("refused")),
            }
        })
    }
}

// === impl Nowhere ===

impl Connection for Nowhere {
    fn close(&self) {}

    fn abort(&self, _: Status) {}

    fn start_call(&self, _: CallRequest) -> PolicyCall {
        unreachable!("round_robin makes no calls")
    }

    fn streams(&self) -> usize {
        0
    }

    fn drained(&self) -> BoxFuture<()> {
        Box::pin(ready(()))
    }
}
