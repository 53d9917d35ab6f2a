//! A load of unary RPCs, and what came of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::JoinSet};
use tonic::Status;

use crate::contender::Client;

/// How many RPCs went where, and which failed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// RPCs by backend.
    pub(crate) served: BTreeMap<String, usize>,
    /// When each failed RPC ended, and how.
    pub(crate) failed: Vec<(Instant, Status)>,
}

/// RPCs that run until told to stop: `width` at a time.
pub(crate) struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
}

struct Shared {
    tally: Mutex<Tally>,
    ended: AtomicUsize,
    /// RPCs still to be begun.
    budget: AtomicUsize,
    one_ended: Notify,
}

// === impl Tally ===

impl Tally {
    /// The least and the most RPCs that one backend served.
    pub(crate) fn spread(&self) -> (usize, usize) {
        let counts = || self.served.values().copied();
        (counts().min().unwrap_or(0), counts().max().unwrap_or(0))
    }

    /// Whether each of `backends` backends served its part, but for so many percent.
    pub(crate) fn is_even(&self, backends: usize, percent: usize) -> bool {
        let part = self.served.values().sum::<usize>() as f64 / backends as f64;
        let slack = part * percent as f64 / 100.0;
        let (min, max) = self.spread();
        self.served.len() == backends && min as f64 >= part - slack && max as f64 <= part + slack
    }

    fn absorb(&mut self, other: &Tally) {
        for (backend, count) in &other.served {
            *self.served.entry(backend.clone()).or_default() += count;
        }
        self.failed.extend(other.failed.iter().cloned());
    }

    fn note(&mut self, result: Result<String, Status>) {
        match result {
            Ok(backend) => *self.served.entry(backend).or_default() += 1,
            Err(status) => self.failed.push((Instant::now(), status)),
        }
    }
}

/// `count` RPCs, `width` at a time.
pub(crate) async fn run(client: &Client, count: usize, width: usize) -> Tally {
    let mut load = Load::with_budget(client, width, count);
    load.joined().await;
    load.finish().await
}

/// `count` RPCs, all at once.
pub(crate) async fn burst(client: &Client, count: usize) -> Tally {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        calls.spawn(async move { client.call().await });
    }
    let mut tally = Tally::default();
    while let Some(result) = calls.join_next().await {
        tally.note(result.expect("an RPC must not panic"));
    }
    tally
}

// === impl Load ===

impl Load {
    /// RPCs without end.
    pub(crate) fn start(client: &Client, width: usize) -> Self {
        Self::with_budget(client, width, usize::MAX)
    }

    fn with_budget(client: &Client, width: usize, budget: usize) -> Self {
        let shared = Arc::new(Shared {
            tally: Mutex::default(),
            ended: AtomicUsize::new(0),
            budget: AtomicUsize::new(budget),
            one_ended: Notify::new(),
        });
        let mut workers = JoinSet::new();
        for _ in 0..width {
            let (shared, client) = (shared.clone(), client.clone());
            workers.spawn(async move {
                while shared.take_turn() {
                    let result = client.call().await;
                    shared.tally.lock().expect("no panic under it").note(result);
                    shared.ended.fetch_add(1, Ordering::Relaxed);
                    shared.one_ended.notify_waiters();
                    // A failure may come without ever waiting; the backends need their turn.
                    tokio::task::yield_now().await;
                }
            });
        }
        Self { shared, workers }
    }

    /// RPCs ended so far.
    pub(crate) fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// RPCs that this backend has served so far.
    pub(crate) fn so_far(&self, backend: &str) -> usize {
        let tally = self.shared.tally.lock().expect("no panic under it");
        tally.served.get(backend).copied().unwrap_or(0)
    }

    /// Waits until so many RPCs have ended, since the start.
    pub(crate) async fn until_ended(&self, count: usize) {
        self.until(|_| self.ended() >= count).await;
    }

    /// Waits until so many more RPCs have ended, and answers what those did.
    pub(crate) async fn next(&self, count: usize) -> Tally {
        let before = self.swap(Tally::default());
        self.until_ended(self.ended() + count).await;
        let next = self.swap(before);
        let mut tally = self.shared.tally.lock().expect("no panic under it");
        tally.absorb(&next);
        next
    }

    /// Waits until the tally says that something has happened; panics after 30 s.
    pub(crate) async fn until(&self, happened: impl Fn(&Tally) -> bool) {
        let patience = Duration::from_secs(30);
        let wait = async {
            loop {
                let ended = self.shared.one_ended.notified();
                tokio::pin!(ended);
                ended.as_mut().enable();
                if happened(&self.shared.tally.lock().expect("no panic under it")) {
                    return;
                }
                ended.await;
            }
        };
        let waited = tokio::time::timeout(patience, wait).await;
        waited.expect("what the load waits for must happen within 30 s");
    }

    /// Ends the load; every RPC that was begun has ended then.
    pub(crate) async fn finish(mut self) -> Tally {
        self.shared.budget.store(0, Ordering::Relaxed);
        self.joined().await;
        self.swap(Tally::default())
    }

    fn swap(&self, other: Tally) -> Tally {
        let mut tally = self.shared.tally.lock().expect("no panic under it");
        std::mem::replace(&mut *tally, other)
    }

    async fn joined(&mut self) {
        while let Some(worker) = self.workers.join_next().await {
            worker.expect("an RPC must not panic");
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Whether one more RPC is to be begun.
    fn take_turn(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }
}
