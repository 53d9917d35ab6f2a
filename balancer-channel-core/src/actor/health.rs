//! Client-side health checking (gRFC A17): READY is told only while the backend says SERVING.
//!
//! For a SubConn whose policy asked for health, where the service config names a service, a
//! connection is followed by a `Health/Watch` call on it. Until its first answer the SubConn is
//! CONNECTING; from then on it is READY or TRANSIENT_FAILURE as the answers say, by moves of health
//! that neither back off nor ask the resolver. A server without the method counts as healthy.

use std::time::Duration;

use balancer_api::{
    CallEvent, CallRequest, Code, ConnectivityState as State, HealthReporting, StateCause, Status,
    Timestamp,
};
use futures_util::future::{AbortHandle, Abortable};

use super::{Actor, TimerKey, calls::forward, sub_conns::SubEntry};
use crate::{
    env::{Connection, Env},
    health::{self, Answer},
    queue::Item,
    sync::{Arc, lock},
};

/// The watch over the backend behind one connection.
pub(super) struct Health {
    service: Arc<str>,
    /// Names the call, so that news of one that was given up is recognised.
    watch: u64,
    running: Option<AbortHandle>,
    started: Timestamp,
    /// Calls that ended without an answer, since the last answer.
    failures: u32,
    /// Whether the running call has been answered.
    answered: bool,
}

/// A watch that was answered and has lasted so long is made again at once when it ends; others
/// wait, so that a server which ends each at once is not asked without a pause.
const STEADY: Duration = Duration::from_secs(1);

impl<E: Env> Actor<E> {
    /// The service whose health is asked of this SubConn's backend, if any.
    pub(super) fn health_service(&self, entry: &SubEntry<E::Connection>) -> Option<Arc<str>> {
        let settings = &self.shared.settings;
        let wanted = settings.health_checks
            && entry.cell.options.health == HealthReporting::On
            && entry.cell.lookaside.is_none();
        if !wanted {
            return None;
        }
        let config = self.config.as_ref().unwrap_or(&settings.default_config);
        self.shared.env.health_service(&config.rpc)
    }

    /// The connection is up: READY is told now, or when the backend says that it serves.
    pub(super) fn begin_health(&mut self, id: u64, service: Arc<str>) {
        if let Some(live) = self.live(id) {
            live.health = Some(Health {
                service,
                watch: 0,
                running: None,
                started: Timestamp::from_nanos(0),
                failures: 0,
                answered: false,
            });
            self.watch_health(id);
        }
    }

    /// Starts the call.
    pub(super) fn watch_health(&mut self, id: u64) {
        let number = self.next_watch;
        self.next_watch += 1;
        let now = self.shared.env.now();
        let shared = self.shared.clone();
        let Some(live) = self.live(id) else { return };
        let connection = live.connection.clone();
        let Some(watched) = &mut live.health else {
            return;
        };
        let request = CallRequest::new(health::WATCH)
            .with_first_message(health::request(&watched.service))
            .with_half_close(true);
        let call = connection.start_call(request);
        let (abort, registration) = AbortHandle::new_pair();
        watched.watch = number;
        watched.started = now;
        watched.answered = false;
        if let Some(before) = watched.running.replace(abort) {
            before.abort();
        }
        let queue = shared.queue.clone();
        let reading = forward(call.events, move |event, permit| {
            queue.push(Item::Health(id, number, Box::new(event), permit));
        });
        shared.env.spawn(Box::pin(async move {
            // Half-closed already; held so that the call is not taken for abandoned.
            let _sender = call.sender;
            let _ = Abortable::new(reading, registration).await;
        }));
    }

    /// The backend, or the call's end, says something.
    pub(super) fn health_event(&mut self, id: u64, watch: u64, event: &CallEvent) {
        let (now, random) = (self.shared.env.now(), self.shared.env.random());
        let backoff = self.shared.settings.backoff.clone();
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        let others = entry.connected.len() > 1;
        let Some(live) = entry.connected.first_mut() else {
            return;
        };
        if event.is_end() && others && live.connection.is_lost() {
            // With its connection: the next one's watch takes its place when that is heard of.
            return;
        }
        let Some(health) = live.health.as_mut().filter(|health| health.watch == watch) else {
            return;
        };
        let verdict = match event {
            CallEvent::Headers(_) => return,
            CallEvent::Message(message) => {
                health.answered = true;
                health.failures = 0;
                match health::read(message) {
                    Answer::Serving => Ok(()),
                    answer => Err(format!("{} says {answer}", health.service)),
                }
            }
            CallEvent::End { status, .. } if status.code() == Code::Unimplemented => {
                health.running = None;
                tracing::error!(
                    sub_conn = id,
                    service = &*health.service,
                    "the backend has no health service and counts as healthy"
                );
                Ok(())
            }
            CallEvent::End { status, .. } => {
                health.running = None;
                let steady = health.answered && now - health.started >= STEADY;
                let wait = match steady {
                    true => Duration::ZERO,
                    false => backoff.jittered(health.failures, random),
                };
                health.failures = health.failures.saturating_add(1);
                let error = format!("the watch over {} ended: {status}", health.service);
                self.timers.arm(TimerKey::Health(id), now + wait);
                Err(error)
            }
        };
        match verdict {
            Ok(()) => self.healthy(id),
            Err(why) => self.unhealthy(id, &why),
        }
    }

    /// Tells READY, if that is news.
    fn healthy(&mut self, id: u64) {
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        let Some(live) = entry
            .connected
            .first()
            .filter(|_| entry.told != State::Ready)
        else {
            return;
        };
        entry.cell.adopt(live.connection.clone());
        let address = live.address.clone();
        // The first READY of a connection is the connection's.
        let cause = match entry.told {
            State::TransientFailure => StateCause::Health,
            _ => StateCause::Connectivity,
        };
        self.tell(id, State::Ready, None, Some(address), cause);
    }

    /// Tells TRANSIENT_FAILURE, if that is news. Another reason is for snapshots only: no move.
    fn unhealthy(&mut self, id: u64, why: &str) {
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        let Some(live) = entry.connected.first() else {
            return;
        };
        let error = Status::unavailable(format!("{}: not healthy: {why}", live.address));
        if entry.told == State::TransientFailure {
            lock(&entry.cell.info).last_error = Some(error);
            return;
        }
        entry.cell.release();
        self.tell(
            id,
            State::TransientFailure,
            Some(error),
            None,
            StateCause::Health,
        );
    }

    /// The service config may name another service now, or none.
    pub(super) fn refresh_health(&mut self) {
        for id in self.ids() {
            let Some(entry) = self.sub_conns.get(&id) else {
                continue;
            };
            let Some(live) = entry.connected.first() else {
                continue;
            };
            let service = self.health_service(entry);
            let watched = live.health.as_ref().map(|health| &health.service);
            if watched == service.as_ref() {
                continue;
            }
            self.timers.disarm(TimerKey::Health(id));
            // Until the new watch is answered the old word counts.
            match (service, self.live(id)) {
                (Some(service), _) => self.begin_health(id, service),
                (None, Some(live)) => {
                    live.health = None;
                    self.healthy(id);
                }
                (None, None) => {}
            }
        }
    }
}

// === impl Health ===

impl Health {
    pub(super) fn service(&self) -> &Arc<str> {
        &self.service
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}
