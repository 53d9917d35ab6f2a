//! Unary RPCs without a pause, until told to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use balancer_channel::Channel;
use tokio::{sync::Notify, task::JoinSet};
use tonic::Status;

use crate::calls::Client;

/// RPCs that run until told to stop.
pub(crate) struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<Vec<Status>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    ended: AtomicUsize,
    one_ended: Notify,
}

// === impl Load ===

impl Load {
    /// RPCs at a time.
    pub(crate) const WIDTH: usize = 8;

    pub(crate) fn start(channel: &Channel) -> Self {
        let shared = Arc::new(Shared::default());
        let mut workers = JoinSet::new();
        for _ in 0..Self::WIDTH {
            let (shared, client) = (shared.clone(), Client::new(channel));
            workers.spawn(async move {
                let mut failed = Vec::new();
                while !shared.stop.load(Ordering::Relaxed) {
                    failed.extend(client.unary("Unary", b"load".to_vec()).await.err());
                    shared.ended.fetch_add(1, Ordering::Relaxed);
                    shared.one_ended.notify_waiters();
                    tokio::task::yield_now().await;
                }
                failed
            });
        }
        Self { shared, workers }
    }

    /// Waits until so many more RPCs have ended.
    pub(crate) async fn until_more(&self, count: usize) {
        let goal = self.shared.ended.load(Ordering::Relaxed) + count;
        loop {
            let ended = self.shared.one_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.shared.ended.load(Ordering::Relaxed) >= goal {
                return;
            }
            ended.await;
        }
    }

    /// Ends the load; answers what failed.
    pub(crate) async fn finish(mut self) -> Vec<Status> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        while let Some(worker) = self.workers.join_next().await {
            failed.extend(worker.expect("an RPC must not panic"));
        }
        failed
    }
}
