//! More than one connection for a SubConn whose peer allows few streams (gRFC A105).
//!
//! The machine decides; here it hears what it decides by. While it would take another connection the
//! ones that there are have been asked to say when RPCs wait for a stream: once, and again when that
//! could lead to something. So a SubConn that has all that it may have costs its RPCs nothing.

use balancer_api::Status;

use super::Actor;
use crate::{
    env::{Connection, Env},
    queue::Item,
    sync::lock,
};

impl<E: Env> Actor<E> {
    /// How many connections each SubConn may have.
    pub(super) fn max_connections(&self) -> usize {
        let default = &self.shared.settings.default_config;
        let config = self.config.as_ref().unwrap_or(default);
        self.shared.env.max_connections(&config.rpc)
    }

    /// The service config may say something else now.
    pub(super) fn refresh_growth(&mut self) {
        let max = self.max_connections();
        for id in self.ids() {
            self.drive(id, |machine, _, _, out| {
                machine.set_max_connections(max, out);
            });
        }
    }

    /// Listens for RPCs that wait for a stream, where they would get another connection.
    pub(super) fn watch_crowd(&mut self, id: u64) {
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        if entry.watched || !entry.machine.may_grow() {
            return;
        }
        let Some(live) = entry.connected.first() else {
            return;
        };
        entry.watched = true;
        let queue = self.shared.queue.clone();
        live.connection.when_crowded(Box::new(move || {
            queue.push(Item::Crowded(id));
        }));
    }

    /// RPCs waited for a stream a moment ago.
    pub(super) fn crowded(&mut self, id: u64) {
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        entry.watched = false;
        let still = entry
            .connected
            .first()
            .is_some_and(|live| live.connection.queued() > 0);
        if still {
            self.drive(id, |machine, now, random, out| {
                machine.crowded(now, random, out);
            });
        } else {
            self.watch_crowd(id);
        }
    }

    /// There is another connection.
    pub(super) fn grown(&mut self, id: u64) {
        let now = self.shared.env.now();
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        let connections = entry.connected.len();
        if connections > 1
            && let Some(untold) = entry.chatter.may_speak(now)
        {
            tracing::debug!(
                sub_conn = id,
                connections,
                untold,
                "another connection for RPCs that wait for streams"
            );
        }
    }

    /// Another connection could not be made. The policy is not told: nothing has changed for it.
    pub(super) fn not_more(&mut self, id: u64, error: Status) {
        let now = self.shared.env.now();
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        let connections = entry.connected.len();
        match entry.chatter.may_speak(now) {
            Some(untold) => tracing::info!(
                sub_conn = id, connections, %error, untold,
                "RPCs wait for streams, and another connection cannot be made"
            ),
            None => tracing::trace!(
                sub_conn = id, connections, %error,
                "RPCs wait for streams, and another connection cannot be made"
            ),
        }
        lock(&entry.cell.info).last_error = Some(error);
    }
}
