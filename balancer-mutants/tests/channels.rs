//! Wrong channels: the witness names what each does wrong, and is silent on the right one.

use std::{sync::Arc, time::Duration};

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, CallRequest, ClientConn,
    ConnectivityState as State, NewSubConnOptions, QueuePicker, Rejected, ResolveError,
    ResolvedAddrs, SubConn, SubConnState, TimerId,
};
use balancer_mutants::channel::{Fault, Faulty};
use balancer_testkit::{ChannelLaw, Setup, Witness, World};

/// A day in the life of a channel with the witness's own policy.
fn live(fault: Fault) -> Witness {
    let witness = Witness::new();
    let channel = Faulty::channel(fault, witness.policy());
    let mut world = World::new(Arc::new(channel), Setup::new());
    for line in [
        "update a b never",
        "connecting a",
        "ready a",
        "connecting b",
        "failed b",
        "idle b",
        "connecting b",
        "ready b",
        "pick",
        "pick dropped",
        "lost a",
        "pick not_sent",
        "update b",
        "connecting a",
        "resolver_error none",
        "close",
    ] {
        // A fault may make the policy do without some of it.
        let _ = world.run(line);
    }
    drop(world);
    witness
}

/// The same with a policy that has timers and calls.
fn live_busily(fault: Fault) -> Witness {
    let witness = Witness::new();
    let channel = Faulty::channel(fault, witness.around(Busy));
    let mut world = World::new(Arc::new(channel), Setup::new());
    for line in [
        "update a",
        "connecting a",
        "ready a",
        "headers a",
        "message a 00",
        "advance 3s",
        "end a OK",
        "advance 20s",
        "again",
        "wake",
        "close",
    ] {
        let _ = world.run(line);
    }
    drop(world);
    witness
}

#[test]
fn the_right_channel_is_right() {
    for witness in [live(Fault::None), live_busily(Fault::None)] {
        witness.assert_silent();
        assert!(witness.callbacks() > 10, "it must have seen something");
    }
    assert_eq!(live(Fault::None).picks_and_ends(), (3, 3));
}

#[test]
fn wrong_channels_are_named() {
    use ChannelLaw as L;
    for (fault, law) in [
        (Fault::LeavesOutConnecting, L::LegalTransitions),
        (Fault::LossIsAFailure, L::LegalTransitions),
        (Fault::ShutdownTwice, L::ShutdownOnce),
        (Fault::NewsAfterShutdown, L::ShutdownOnce),
        (Fault::ShutdownUnasked, L::ShutdownOnce),
        (Fault::NewsAfterClose, L::SilentAfterClose),
        (Fault::StateBeforeConnect, L::NothingBeforeConnect),
        (Fault::SubConnAfterClose, L::ClosedRefuses),
    ] {
        let complaints = live(fault).complaints();
        assert!(
            complaints.iter().any(|complaint| complaint.law == law),
            "{fault:?} must be called {law:?}: {complaints:?}"
        );
    }
}

#[test]
fn wrong_timers_calls_and_clocks_are_named() {
    use ChannelLaw as L;
    for (fault, law) in [
        (Fault::TimerTwice, L::TimersOnTime),
        (Fault::TimerEarly, L::TimersOnTime),
        (Fault::CancelledTimerFires, L::TimersOnTime),
        (Fault::HeadersAfterMessage, L::CallsInOrder),
        (Fault::TwoEnds, L::CallsInOrder),
        (Fault::CallAfterCancel, L::CallsInOrder),
        (Fault::ClockGoesBack, L::ClockForward),
    ] {
        let complaints = live_busily(fault).complaints();
        assert!(
            complaints.iter().any(|complaint| complaint.law == law),
            "{fault:?} must be called {law:?}: {complaints:?}"
        );
    }
}

#[test]
fn a_run_without_end_is_named() {
    let witness = Witness::new();
    let channel = Faulty::channel(Fault::NeverSettles, witness.policy());
    let mut world = World::new(Arc::new(channel), Setup::new());
    world.run("update a").unwrap();
    for _ in 0..100 {
        world.run("connecting a; ready a; lost a").unwrap();
    }
    let complaints = witness.complaints();
    assert_eq!(complaints[0].law, ChannelLaw::SettleFollows);
}

#[test]
fn a_forgotten_end_is_counted() {
    let (picks, ends) = live(Fault::DoneForgotten).picks_and_ends();
    assert!(picks > 0 && ends == 0, "{picks} picks, {ends} ends");
}

/// A policy that always has a timer and a call.
struct Busy;

struct BusyPolicy {
    cc: Arc<dyn ClientConn>,
    spare: Option<TimerId>,
    probe: Option<CallId>,
}

impl Builder for Busy {
    fn name(&self) -> &str {
        "busy"
    }
    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        Box::new(BusyPolicy {
            cc,
            spare: None,
            probe: None,
        })
    }
}

impl Balancer for BusyPolicy {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        if new.state == State::Ready {
            self.cc
                .start_call(sub_conn, CallRequest::new("/busy.Busy/Watch"));
            let probe = self
                .cc
                .start_call(sub_conn, CallRequest::new("/busy.Busy/Probe"));
            self.probe = Some(probe);
        }
    }
    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        if let Some(timer) = self.spare.take() {
            self.cc.cancel_timer(timer);
        }
        self.spare = Some(self.cc.set_timer(Duration::from_secs(60)));
        self.cc.set_timer(Duration::from_secs(2));
        let endpoint = resolved.ok().and_then(|r| r.endpoints.first().cloned());
        if let Some(endpoint) = endpoint {
            let addresses = endpoint.addresses().to_vec();
            if let Ok(made) = self.cc.new_sub_conn(addresses, NewSubConnOptions::new()) {
                made.connect();
            }
        }
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) {
        self.cc.now();
        if let Some(probe) = self.probe.take() {
            self.cc.cancel_call(probe);
        }
    }
    fn handle_call_event(&mut self, _: CallId, _: CallEvent) {
        self.cc.now();
    }
    fn close(&mut self) {}
    fn settle(&mut self) {
        self.cc.now();
        self.cc
            .update_balancer_state(State::Connecting, Arc::new(QueuePicker));
    }
}
