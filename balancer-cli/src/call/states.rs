//! Which states the channel goes through, and when.

use std::time::{Duration, Instant};

use balancer_api::ConnectivityState;
use balancer_channel::Channel;
use futures_util::{FutureExt, StreamExt};
use tokio::{sync::oneshot, task::JoinHandle};

/// Writes down every state of a channel.
#[derive(Debug)]
pub(crate) struct States {
    stop: oneshot::Sender<()>,
    watcher: JoinHandle<Seen>,
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
        let mut seen = Seen::from_iter(first.map(|state| (Duration::ZERO, state)));
        let (stop, mut stopped) = oneshot::channel();
        let watcher = tokio::spawn(async move {
            loop {
                // What there is comes before the end.
                tokio::select! {
                    biased;
                    state = states.next() => match state {
                        Some(state) => seen.push((started.elapsed(), state)),
                        None => return seen,
                    },
                    _ = &mut stopped => return seen,
                }
            }
        });
        Self { stop, watcher }
    }

    /// All that there was before the channel was closed, its end not included.
    ///
    /// Call it afterwards: an RPC may hear of a state before its watchers do, so only the end tells
    /// that nothing is missing.
    pub(crate) async fn end(self) -> Seen {
        // An error: the channel has ended, and the watcher with it.
        let _ = self.stop.send(());
        let mut seen = self.watcher.await.unwrap_or_default();
        seen.retain(|(_, state)| *state != ConnectivityState::Shutdown);
        seen
    }
}
