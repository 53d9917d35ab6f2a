//! Falling asleep after a time without RPCs, and waking up.
//!
//! RPCs keep no time and arm no timer: a pick sets a flag where it is not set, and the balancer's
//! task looks at it [`TICKS`] times in the idle timeout. So a channel falls asleep between one
//! timeout and one tick more after its last RPC has ended.

use std::time::Duration;

use balancer_api::ConnectivityState;

use super::{Actor, TimerKey, WarmUp};
use crate::{env::Env, sync::Ordering};

/// How often it is looked whether there was an RPC, in one idle timeout.
const TICKS: u32 = 16;

impl<E: Env> Actor<E> {
    /// An RPC or the application wants connections.
    pub(super) fn exit_idle(&mut self) {
        self.shared.rouse_queued.store(false, Ordering::Release);
        if self.shared.cell.leave_idle() {
            tracing::debug!("leaving idle");
            self.shared.watch.set(ConnectivityState::Connecting);
            let warm_up = self.shared.settings.warm_up;
            self.warm_up = warm_up.map_or(WarmUp::Off, WarmUp::Armed);
            self.quiet = 1;
            self.arm_idle();
            self.start_resolver();
        } else {
            self.exit_idle_policy();
        }
    }

    /// Gives up connections, policy and resolver until somebody wants them again.
    pub(super) fn enter_idle(&mut self) {
        let Some(before) = self.shared.cell.go_idle() else {
            return;
        };
        self.retired.extend(before);
        tracing::debug!("going idle");
        self.timers.disarm(TimerKey::Idle);
        self.stop_resolver();
        self.resolved = None;
        self.close_policies();
        self.shared.watch.set(ConnectivityState::Idle);
    }

    /// Looks whether there was an RPC since the last look, runs, or waits.
    pub(super) fn look_for_rpcs(&mut self) {
        let shared = &self.shared;
        let used = shared.used.swap(false, Ordering::Relaxed);
        let busy = shared.cell.waiting() > 0 || shared.env.streams() > self.running_calls();
        self.quiet = match (busy, used) {
            // It may end right behind this look: the next one does not count.
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => self.quiet + 1,
        };
        if self.quiet > TICKS {
            self.enter_idle();
        } else {
            self.arm_idle();
        }
    }

    /// How many streams are policies' calls and watches over health, which keep nobody awake.
    fn running_calls(&self) -> usize {
        let live = self.sub_conns.values().flat_map(|it| &it.connected);
        let watches = live.filter_map(|live| live.health.as_ref());
        let calls = self.calls.values().filter(|call| call.is_running()).count();
        calls + watches.filter(|watch| watch.is_running()).count()
    }

    fn arm_idle(&mut self) {
        let timeout = self.shared.settings.idle_timeout;
        if let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) {
            let tick = (timeout / TICKS).max(Duration::from_millis(1));
            let at = self.shared.env.now() + tick;
            self.timers.arm(TimerKey::Idle, at);
        }
    }
}
