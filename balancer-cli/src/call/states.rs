//! Which states the channel goes through, and when.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use balancer_api::ConnectivityState;
use balancer_channel::Channel;
use futures_util::{FutureExt, StreamExt};
use tokio::task::JoinHandle;

/// Writes down every state of a channel.
#[derive(Debug)]
pub(crate) struct States {
    seen: Arc<Mutex<Seen>>,
    watcher: JoinHandle<()>,
}

/// States, each with the time since the watch began.
pub(crate) type Seen = Vec<(Duration, ConnectivityState)>;

// === impl States ===

impl States {
    /// Watches from now on. The current state is the first.
    pub(crate) fn watch(channel: &Channel) -> Self {
        let started = Instant::now();
        let mut states = channel.states();
        // There now: a task of its own would look a little later.
        let first = states.next().now_or_never().flatten();
        let first = first.map(|state| (Duration::ZERO, state));
        let seen = Arc::new(Mutex::new(Seen::from_iter(first)));
        let pen = seen.clone();
        let watcher = tokio::spawn(async move {
            while let Some(state) = states.next().await {
                let mut seen = pen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push((started.elapsed(), state));
            }
        });
        Self { seen, watcher }
    }

    /// What was seen. Call it before the channel is closed: its end is no news.
    pub(crate) fn end(self) -> Seen {
        self.watcher.abort();
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
