//! RPCs at a steady rate, whether or not the ones before have ended, and what came of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use balancer_channel::Channel;
use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet},
    time::MissedTickBehavior,
};
use tonic::{Request, Status};

use crate::support::{backend, echo, text};

/// What the RPCs came to so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) begun: usize,
    /// RPCs that were answered, by backend.
    pub(crate) served: BTreeMap<String, usize>,
    pub(crate) failed: Vec<Failed>,
    /// How long those that were answered took, in the order of their ends.
    pub(crate) took: Vec<Duration>,
}

/// An RPC that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) begun: Instant,
    pub(crate) status: Status,
}

/// How the RPCs are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) per_second: u32,
    /// The RPCs' deadline.
    pub(crate) timeout: Option<Duration>,
}

/// A load that runs until it is finished.
pub(crate) struct Load {
    shared: Arc<Shared>,
    pacer: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    tally: Mutex<Tally>,
    stop: AtomicBool,
    news: Notify,
}

/// How often a batch of RPCs starts.
const TICK: Duration = Duration::from_millis(5);

/// What a row waits for must happen within this time.
const PATIENCE: Duration = Duration::from_secs(60);

// === impl Tally ===

impl Tally {
    /// RPCs that were answered.
    pub(crate) fn answered(&self) -> usize {
        self.served.values().sum()
    }

    /// RPCs that a backend answered.
    pub(crate) fn by(&self, backend: &str) -> usize {
        self.served.get(backend).copied().unwrap_or(0)
    }

    /// RPCs that have ended.
    pub(crate) fn ended(&self) -> usize {
        self.answered() + self.failed.len()
    }

    /// Up to three of the failures, in words.
    pub(crate) fn shown(&self) -> String {
        let three = self.failed.iter().take(3);
        let said: Vec<String> = three.map(|f| format!("{:?}", f.status)).collect();
        said.join("; ")
    }
}

// === impl Pace ===

impl Pace {
    pub(crate) fn per_second(per_second: u32) -> Self {
        Self {
            per_second,
            timeout: None,
        }
    }
}

// === impl Load ===

impl Load {
    /// RPCs without end.
    pub(crate) fn start(channel: &Channel, pace: Pace) -> Self {
        Self::with_budget(channel, pace, usize::MAX)
    }

    /// So many RPCs, and what they came to.
    pub(crate) async fn run(channel: &Channel, pace: Pace, count: usize) -> Tally {
        let load = Self::with_budget(channel, pace, count);
        load.joined().await
    }

    fn with_budget(channel: &Channel, pace: Pace, budget: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let pacer = tokio::spawn(until_stopped(shared.clone(), channel.clone(), pace, budget));
        Self { shared, pacer }
    }

    /// What the RPCs came to so far.
    pub(crate) fn tally(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// Waits until the tally says that something has happened.
    pub(crate) async fn until(&self, what: &str, happened: impl Fn(&Tally) -> bool) {
        let wait = async {
            loop {
                let news = self.shared.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if happened(&self.shared.tally()) {
                    return;
                }
                news.await;
            }
        };
        within(what, wait).await;
    }

    /// Waits until so many more RPCs have ended.
    pub(crate) async fn until_more(&self, count: usize) {
        let goal = self.shared.tally().ended() + count;
        self.until("RPCs must end", |tally| tally.ended() >= goal)
            .await;
    }

    /// Ends the load; every RPC that was begun has ended then.
    pub(crate) async fn finish(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.joined().await
    }

    async fn joined(self) -> Tally {
        self.pacer.await.expect("the load must not panic");
        std::mem::take(&mut *self.shared.tally())
    }
}

/// Waits for what must happen.
pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("within {PATIENCE:?}: {what}"),
    }
}

/// Begins RPCs at a steady rate for as long as it is wanted, and waits for their ends. Ticks that were
/// missed are made up for, so that the rate holds on a busy machine.
pub(crate) async fn paced(
    per_second: u32,
    go_on: impl Fn() -> bool,
    mut begin: impl FnMut(&mut JoinSet<()>),
) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let ticks_per_second = 1_000 / TICK.as_millis() as u64;
    let (mut made, mut tick) = (0, 0);
    let mut rpcs = JoinSet::new();
    while go_on() {
        ticks.tick().await;
        tick += 1;
        let due = tick * u64::from(per_second) / ticks_per_second;
        while made < due && go_on() {
            begin(&mut rpcs);
            made += 1;
        }
        while let Some(ended) = rpcs.try_join_next() {
            ended.expect("an RPC must not panic");
        }
    }
    while let Some(ended) = rpcs.join_next().await {
        ended.expect("an RPC must not panic");
    }
}

async fn until_stopped(shared: Arc<Shared>, channel: Channel, pace: Pace, budget: usize) {
    let wanted = || !shared.stop.load(Ordering::Relaxed) && shared.tally().begun < budget;
    paced(pace.per_second, wanted, |rpcs| {
        shared.tally().begun += 1;
        rpcs.spawn(one(shared.clone(), channel.clone(), pace.timeout));
    })
    .await;
}

async fn one(shared: Arc<Shared>, channel: Channel, timeout: Option<Duration>) {
    let mut request = Request::new(text("hello"));
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let begun = Instant::now();
    let result = echo(&channel, request).await;
    let mut tally = shared.tally();
    match result {
        Ok(response) => {
            *tally.served.entry(backend(&response)).or_default() += 1;
            tally.took.push(begun.elapsed());
        }
        Err(status) => tally.failed.push(Failed { begun, status }),
    }
    drop(tally);
    shared.news.notify_waiters();
}

// === impl Shared ===

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("no panic under it")
    }
}
