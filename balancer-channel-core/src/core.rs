//! The handle of a channel's core.

use std::{fmt, time::Duration};

use balancer_api::{ConnectivityState, Source};

use crate::{
    actor::Actor,
    env::{Connection, Env},
    picker_cell::NextPicker,
    queue::{CloseMode, Item},
    rpc::Current,
    settings::Settings,
    shared::Shared,
    snapshot::{ConnectionSnapshot, Snapshot, SubConnSnapshot},
    sync::{Arc, lock},
    watch::ConnectivityStates,
};

/// A channel without its transport: starts its balancer's task, picks, and tells of its state.
///
/// Clones share one channel. When the last is dropped the channel closes gracefully: RPCs in flight
/// run to their end.
pub struct Core<E: Env> {
    handle: Arc<Handle<E>>,
}

/// What clones share; its Drop ends the channel.
struct Handle<E: Env> {
    shared: Arc<Shared<E>>,
}

// === impl Core ===

impl<E: Env> Core<E> {
    /// A channel in `env`. IDLE until somebody wants a connection.
    pub fn new(env: Arc<E>, settings: Settings<E::RpcConfig>) -> Self {
        let shared = Arc::new(Shared::new(env, settings));
        let actor = Actor::new(shared.clone());
        shared.env.spawn(Box::pin(actor.run()));
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    /// The publication of this moment, to pick from.
    #[inline]
    pub fn current(&self) -> Current<'_, E> {
        Current::of(&self.handle.shared)
    }

    /// Waits for a picker newer than `generation`, as [`PickOutcome::Wait`](crate::PickOutcome::Wait) gave it.
    pub fn next_picker(&self, generation: u64) -> NextPicker<'_, E::RpcConfig> {
        self.handle.shared.cell.next(generation)
    }

    /// Time and chance for [`PickOptions::with_source`](balancer_api::PickOptions::with_source) and `DoneInfo::with_source`.
    #[inline]
    pub fn source(&self) -> &dyn Source {
        &*self.handle.shared
    }

    /// The environment that it was made in.
    pub fn env(&self) -> &Arc<E> {
        &self.handle.shared.env
    }

    /// The settings that it was made with.
    pub fn settings(&self) -> &Settings<E::RpcConfig> {
        &self.handle.shared.settings
    }

    /// The state; with `connect`, an idle channel is woken.
    pub fn state(&self, connect: bool) -> ConnectivityState {
        let state = self.handle.shared.watch.state();
        if connect && state == ConnectivityState::Idle {
            self.connect();
        }
        state
    }

    /// The states from now on, the current one first; none is skipped.
    pub fn states(&self) -> ConnectivityStates {
        self.handle.shared.watch.subscribe()
    }

    /// Leaves IDLE, if the channel or its policy is there.
    pub fn connect(&self) {
        self.handle.shared.queue.push(Item::ExitIdle);
    }

    /// Gives up connections, policy and resolver until the next RPC or [`connect`](Self::connect).
    pub fn enter_idle(&self) {
        self.handle.shared.queue.push(Item::EnterIdle);
    }

    /// Ends every running back-off and forgets past failures.
    pub fn reset_backoff(&self) {
        self.handle.shared.queue.push(Item::ResetBackoff);
    }

    /// Closes the channel; RPCs that wait and RPCs in flight end with CANCELLED. Hurries a graceful
    /// close that is under way; otherwise a second call does nothing.
    pub fn close(&self) {
        self.handle.shared.queue.push(Item::Close(CloseMode::Now));
    }

    /// Closes the channel; RPCs that wait end with CANCELLED, RPCs in flight have until `limit`.
    pub fn close_gracefully(&self, limit: Duration) {
        self.handle
            .shared
            .queue
            .push(Item::Close(CloseMode::Graceful(Some(limit))));
    }

    /// What the channel looks like now.
    pub fn snapshot(&self) -> Snapshot {
        let shared = &self.handle.shared;
        let sub_conns = lock(&shared.sub_conns)
            .values()
            .map(|cell| {
                let info = lock(&cell.info);
                let connections: Vec<_> = info
                    .connections
                    .iter()
                    .map(|connection| ConnectionSnapshot {
                        streams: connection.streams(),
                        max_streams: connection.max_streams(),
                    })
                    .collect();
                let first = info.connections.first();
                SubConnSnapshot {
                    id: cell.id,
                    state: info.state,
                    addresses: info.addresses.clone(),
                    connected: info.connected.clone(),
                    last_error: info.last_error.clone(),
                    streams: connections.iter().map(|it| it.streams).sum(),
                    calls: info.calls + info.connections.iter().map(|it| it.calls()).sum::<u64>(),
                    waiting: first.map_or(0, |first| first.queued()),
                    connections,
                }
            })
            .collect();
        // What RPCs see, which those who watch hear a moment later: an RPC that has just failed is to
        // find the state that failed it.
        let state = match &*shared.cell.load() {
            Some(published) => published.state,
            None => shared.watch.state(),
        };
        let policy = lock(&shared.policy);
        Snapshot {
            target: shared.settings.target.clone(),
            state,
            policy: policy.current.clone(),
            pending_policy: policy.pending.clone(),
            service_config: policy.service_config.clone(),
            waiting: shared.cell.waiting(),
            sub_conns,
        }
    }

    /// Whether the channel sleeps.
    pub fn is_idle(&self) -> bool {
        self.handle.shared.cell.is_idle()
    }
}

impl<E: Env> Clone for Core<E> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
        }
    }
}

impl<E: Env> fmt::Debug for Core<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("target", &self.handle.shared.settings.target)
            .field("state", &self.handle.shared.watch.state())
            .finish_non_exhaustive()
    }
}

impl<E: Env> Drop for Handle<E> {
    fn drop(&mut self) {
        self.shared
            .queue
            .push(Item::Close(CloseMode::Graceful(None)));
    }
}
