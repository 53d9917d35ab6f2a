//! Sends the RPCs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use balancer_channel::{Channel, WaitForReady};
use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tonic::{Request, Status, client::Grpc};

use super::{
    RawCodec,
    pace::Pace,
    progress::{Counts, Goal, Progress},
    stats::Stats,
};
use crate::{args::CallArgs, interrupt};

/// A load to be sent.
pub(crate) struct Load {
    channel: Channel,
    path: PathAndQuery,
    message: Bytes,
    timeout: Duration,
    wait_for_ready: bool,
    concurrency: u32,
    goal: Goal,
    pace: Option<Pace>,
    /// Taken for RPCs, where they are counted.
    tickets: AtomicU64,
    under_way: AtomicU64,
    counts: Arc<Counts>,
    /// Shared out among the workers, so that ten thousand need not ten thousand histograms.
    shards: Vec<Mutex<Stats>>,
}

/// How it went.
pub(crate) struct Ended {
    pub(crate) stats: Stats,
    pub(crate) elapsed: Duration,
    pub(crate) was_interrupted: bool,
    /// RPCs under way at the interruption.
    pub(crate) abandoned: u64,
}

const MOST_SHARDS: usize = 16;
/// Larger responses fail with the code that tonic gives them.
const LARGEST_MESSAGE: usize = 64 << 20;

// === impl Load ===

impl Load {
    pub(crate) fn new(args: &CallArgs, channel: Channel) -> Self {
        let shards = MOST_SHARDS.min(args.concurrency as usize);
        Self {
            channel,
            path: args.method.clone(),
            message: args.data_hex.clone(),
            timeout: args.timeout,
            wait_for_ready: args.wait_for_ready,
            concurrency: args.concurrency,
            goal: match args.duration {
                Some(duration) => Goal::Duration(duration),
                None => Goal::Count(args.count),
            },
            pace: args.rps.map(Pace::new),
            tickets: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            counts: Arc::default(),
            shards: (0..shards).map(|_| Mutex::new(Stats::new())).collect(),
        }
    }

    /// Sends all of it, or what Ctrl-C leaves time for.
    pub(crate) async fn run(self) -> Ended {
        let interrupted = interrupt::listen();
        let started = Instant::now();
        let progress = Progress::start(&self.counts, self.goal);
        let (stop, stopped) = watch::channel(false);
        let load = Arc::new(self);
        let workers = match load.goal {
            // Nobody is hired to find that all is done.
            Goal::Count(count) => u64::from(load.concurrency).min(count),
            Goal::Duration(_) => u64::from(load.concurrency),
        };
        let end = match load.goal {
            Goal::Count(_) => None,
            Goal::Duration(duration) => Some(started + duration),
        };
        let mut tasks = JoinSet::new();
        for number in 0..workers {
            let shard = number as usize % load.shards.len();
            tasks.spawn(load.clone().work(shard, end, stopped.clone()));
        }
        let was_interrupted = tokio::select! {
            () = all_ended(&mut tasks) => false,
            () = interrupted => true,
        };
        if was_interrupted {
            // Workers hold receivers; an error would mean that none is left.
            let _ = stop.send(true);
            all_ended(&mut tasks).await;
        }
        let elapsed = started.elapsed();
        progress.end(elapsed);
        load.ended(elapsed, was_interrupted)
    }

    /// One RPC after the other until all are sent.
    async fn work(
        self: Arc<Self>,
        shard: usize,
        end: Option<Instant>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let work = async {
            while self.may_start(end).await {
                let started = Instant::now();
                self.under_way.fetch_add(1, Ordering::Relaxed);
                let result = self.rpc(&mut client).await;
                self.record(shard, started.elapsed(), &result);
            }
        };
        tokio::select! {
            () = work => {}
            // An error: nobody will stop it any more.
            Ok(_) = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    /// Waits for the next RPC's turn; `false` when there is none.
    async fn may_start(&self, end: Option<Instant>) -> bool {
        if let Goal::Count(count) = self.goal
            && self.tickets.fetch_add(1, Ordering::Relaxed) >= count
        {
            return false;
        }
        let now = Instant::now();
        let turn = self.pace.as_ref().map_or(now, |pace| pace.turn(now));
        if end.is_some_and(|end| turn >= end) {
            return false;
        }
        if turn > now {
            tokio::time::sleep_until(turn).await;
        }
        true
    }

    /// One RPC. A response of one message and one of many are read alike, to the end.
    async fn rpc(&self, client: &mut Grpc<Channel>) -> Result<(), Status> {
        client.ready().await?;
        let mut request = Request::new(self.message.clone());
        request.set_timeout(self.timeout);
        if self.wait_for_ready {
            request.extensions_mut().insert(WaitForReady(true));
        }
        let response = client.server_streaming(request, self.path.clone(), RawCodec);
        let mut messages = response.await?.into_inner();
        while messages.message().await?.is_some() {}
        Ok(())
    }

    fn record(&self, shard: usize, took: Duration, result: &Result<(), Status>) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.counts.ended.fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        let mut stats = self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stats.record(took, result);
    }

    fn ended(&self, elapsed: Duration, was_interrupted: bool) -> Ended {
        let mut stats = Stats::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            stats.merge(std::mem::replace(&mut shard, Stats::new()));
        }
        Ended {
            abandoned: self.under_way.load(Ordering::Relaxed),
            stats,
            elapsed,
            was_interrupted,
        }
    }
}

async fn all_ended(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
