//! A steady stream of RPCs, each of which is written down.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use balancer_channel::Channel;
use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::{sync::watch, task::JoinSet};
use tonic::{Request, Status, client::Grpc, metadata::MetadataValue};

use crate::{
    call::{Pace, RawCodec},
    observe::RPC_NUMBER,
};

/// RPCs on their way at a steady rate, whatever becomes of them.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

/// An RPC that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// From 1.
    pub(crate) rpc: u64,
    pub(crate) status: Status,
}

#[derive(Debug, Default)]
struct Shared {
    /// When each RPC started, in the order of their numbers.
    starts: Mutex<Vec<Instant>>,
    ok: AtomicU64,
    failures: Mutex<Vec<Failure>>,
}

/// Far more than an RPC takes: one that is not over by then is lost.
const TIMEOUT: Duration = Duration::from_secs(5);

// === impl Load ===

impl Load {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// Sends `rate` RPCs per second until [`stop`](Self::stop), and waits for the last one to end.
    pub(crate) async fn run(&self, channel: Channel, rate: f64) {
        let pace = Pace::new(rate);
        let mut stopped = self.stop.subscribe();
        let mut rpcs = JoinSet::new();
        while !*stopped.borrow() {
            let turn = pace.turn(tokio::time::Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(turn) => {}
                _ = stopped.changed() => break,
            }
            let number = self.shared.start();
            rpcs.spawn(self.shared.clone().rpc(channel.clone(), number));
            while rpcs.try_join_next().is_some() {}
        }
        while rpcs.join_next().await.is_some() {}
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn started(&self) -> u64 {
        lock(&self.shared.starts).len() as u64
    }

    /// When each RPC started: the first is number 1.
    pub(crate) fn starts(&self) -> Vec<Instant> {
        lock(&self.shared.starts).clone()
    }

    pub(crate) fn ok(&self) -> u64 {
        self.shared.ok.load(Ordering::Relaxed)
    }

    pub(crate) fn failures(&self) -> Vec<Failure> {
        lock(&self.shared.failures).clone()
    }
}

// === impl Shared ===

impl Shared {
    /// Notes that an RPC starts; answers its number.
    fn start(&self) -> u64 {
        let mut starts = lock(&self.starts);
        starts.push(Instant::now());
        starts.len() as u64
    }

    async fn rpc(self: Arc<Self>, channel: Channel, rpc: u64) {
        match health_check(channel, rpc).await {
            Ok(()) => drop(self.ok.fetch_add(1, Ordering::Relaxed)),
            Err(status) => lock(&self.failures).push(Failure { rpc, status }),
        }
    }
}

/// Each critical section is one step, so a panic in another one spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn health_check(channel: Channel, number: u64) -> Result<(), Status> {
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let mut request = Request::new(Bytes::new());
    request.set_timeout(TIMEOUT);
    let number = MetadataValue::from(number);
    request.metadata_mut().insert(RPC_NUMBER, number);
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    client.unary(request, path, RawCodec).await.map(drop)
}
