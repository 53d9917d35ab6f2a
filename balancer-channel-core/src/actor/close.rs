//! The end of a channel: SHUTDOWN, resolver, pickers, policy, SubConns, in this order.

use std::pin::pin;

use balancer_api::{Code, ConnectivityState, Status};
use futures_util::future::{Either, poll_fn, select};

use super::Actor;
use crate::{
    contain::discard,
    env::{Connection, Env},
    queue::CloseMode,
    sync::Arc,
};

impl<E: Env> Actor<E> {
    pub(super) fn is_closed(&self) -> bool {
        self.closing.is_some()
    }

    /// Ends everything. What was queued is dropped; nothing is accepted any more.
    pub(super) async fn finish(mut self) {
        let status = Status::new(Code::Cancelled, "the channel is closing");
        tracing::debug!("closing");
        self.shared.watch.set(ConnectivityState::Shutdown);
        self.stop_resolver();
        let before = self.shared.cell.close(status.clone());
        self.retired.extend(before);
        let mut connections = self.connections();
        self.close_policies();
        self.timers.clear();
        self.deliveries.clear();
        // Cells hold the queue and the queue holds what happened to them: cut the ring.
        self.shared.queue.close();
        self.retired.drain(..).for_each(discard);
        // Those that no SubConn has any more live on for the RPCs on them.
        connections.extend(self.shared.env.connections().into_iter().map(Arc::new));
        match self.closing {
            Some(CloseMode::Now) => {
                connections
                    .iter()
                    .for_each(|connection| connection.abort(status.clone()));
            }
            Some(CloseMode::Graceful(Some(limit))) => {
                let at = self.shared.env.now() + limit;
                let drained = pin!(drained(&connections));
                let hurry = poll_fn(|cx| self.shared.queue.poll_hurry(cx));
                let late = select(self.shared.env.sleep_until(at), hurry);
                if let Either::Right(_) = select(drained, late).await {
                    connections
                        .iter()
                        .for_each(|connection| connection.abort(status.clone()));
                }
            }
            Some(CloseMode::Graceful(None)) | None => {}
        }
    }
}

async fn drained<C: Connection>(connections: &[Arc<C>]) {
    for connection in connections {
        connection.drained().await;
    }
}
