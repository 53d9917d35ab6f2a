//! Falling asleep and waking up.

use balancer_api::{CallEvent, ConnectivityState as State, PickError};

use crate::support::{CallState, Event, Fixture, Flow, unread};

#[test]
fn a_channel_is_idle_until_somebody_wants_it() {
    let fixture = Fixture::new("x");
    fixture.pass(1_000.0);
    assert_eq!(fixture.state(), State::Idle);
    assert_eq!(
        (fixture.log.take(), fixture.resolver.resolutions()),
        (vec![], 0)
    );
    let mut states = fixture.core.states();
    assert_eq!(fixture.rpc().outcome(), "x", "an RPC is reason enough");
    assert_eq!(
        unread(&mut states),
        [State::Idle, State::Connecting, State::Ready]
    );
}

/// Whoever keeps up sees each of them; whoever does not gets the last ones, and hears of the loss.
#[test]
fn a_thousand_quick_changes_come_in_order() {
    let fixture = Fixture::new("x");
    let (mut quick, mut late) = (fixture.core.states(), fixture.core.states());
    assert_eq!(unread(&mut quick), [State::Idle]);
    let turn = [State::Connecting, State::Ready, State::Idle];
    for n in 0..334 {
        fixture.core.connect();
        fixture.run();
        fixture.core.enter_idle();
        fixture.run();
        assert_eq!(unread(&mut quick), turn, "turn {n}");
    }
    // Ends elsewhere than it began, or the oldest would look like the newest.
    fixture.core.connect();
    fixture.run();
    assert_eq!(unread(&mut quick), turn[..2]);
    assert!(!quick.lagged());
    assert!(late.lagged());
    let last: Vec<State> = turn.into_iter().cycle().skip(1).take(64).collect();
    assert_eq!(
        unread(&mut late),
        last,
        "the newest 64, up to the state of now"
    );
    assert!(!late.lagged(), "said once");
}

#[test]
fn asking_for_the_state_may_wake_it() {
    let fixture = Fixture::new("x");
    assert_eq!(fixture.core.state(false), State::Idle);
    fixture.run();
    assert_eq!(fixture.core.state(true), State::Idle);
    fixture.run();
    assert_eq!(fixture.state(), State::Ready);
}

#[test]
fn asleep_everything_is_given_up_and_waking_builds_it_anew() {
    let fixture = Fixture::new("x");
    fixture.connect();
    fixture.log.take();
    let mut states = fixture.core.states();
    for n in 2..=4 {
        fixture.core.enter_idle();
        fixture.run();
        assert!(fixture.core.is_idle());
        let before = format!("a{}", n - 1);
        assert_eq!(
            fixture.log.take(),
            [
                format!("{before}: close"),
                format!("{before}: drop"),
                "close x".into()
            ]
        );
        assert_eq!(fixture.env.net.held(), 0);
        assert_eq!(fixture.sim.tasks(), 1, "the balancer's own");
        fixture.core.enter_idle();
        fixture.pass(100.0);
        assert_eq!(fixture.log.take(), [""; 0]);
        assert_eq!(fixture.rpc().outcome(), "x");
        assert!(!fixture.core.is_idle());
        assert_eq!(fixture.a.built(), n);
        fixture.log.take();
    }
    use State::{Connecting, Idle, Ready};
    let lap = [Idle, Connecting, Ready];
    assert_eq!(unread(&mut states)[1..], [lap, lap, lap].concat());
}

#[test]
fn an_rpc_that_waits_wakes_the_channel_again() {
    // Queued behind a policy that connects, when the channel is told to sleep.
    let fixture = Fixture::new("x");
    fixture.answer("x", crate::support::Answer::Hang).connect();
    let rpc = fixture.rpc();
    assert_eq!(rpc.outcome(), "waits");
    fixture.answer_later("x", crate::support::Answer::Accept);
    fixture.core.enter_idle();
    fixture.run();
    assert_eq!(rpc.outcome(), "x", "the RPC must win");
    assert!(!fixture.core.is_idle());
}

#[test]
fn whatever_the_order_an_rpc_beats_idleness() {
    for seed in 0..300 {
        let fixture = Fixture::shuffled(seed, "x");
        fixture.core.connect();
        let mut rpcs = Vec::new();
        for _ in 0..4 {
            rpcs.push(fixture.start_rpc());
            for _ in 0..seed % 7 {
                fixture.sim.step();
            }
            fixture.core.enter_idle();
            fixture.sim.step();
        }
        fixture.run();
        for rpc in &rpcs {
            assert_eq!(rpc.outcome(), "x", "seed {seed}");
        }
    }
}

#[test]
fn a_result_that_arrives_asleep_wakes_nobody() {
    // The answer is in the queue behind the request to sleep.
    let fixture = Fixture::unresolved();
    fixture.connect();
    fixture.core.enter_idle();
    fixture
        .resolver
        .set_endpoints(crate::support::endpoints("x"));
    fixture.sim.step();
    fixture.run();
    fixture.pass(10.0);
    assert_eq!((fixture.state(), fixture.a.built()), (State::Idle, 0));
    assert_eq!(fixture.rpc().outcome(), "x");

    for seed in 0..200 {
        let fixture = Fixture::shuffled(seed, "x");
        fixture.core.connect();
        for _ in 0..seed % 5 {
            fixture.sim.step();
        }
        fixture.core.enter_idle();
        fixture.run();
        assert_eq!(fixture.state(), State::Idle, "seed {seed}");
        assert!(
            fixture.core.current().config().is_none(),
            "seed {seed}: a picker asleep"
        );
    }
}

#[test]
fn an_idle_policy_is_woken_once_per_picker() {
    let fixture = Fixture::new("x");
    fixture.a.hook(|_, _| Flow::Done);
    fixture.connect();
    let idle = || {
        let stage = fixture.a.stage();
        stage.publish(State::Idle, |_| Err(PickError::NoSubConnAvailable));
        fixture.run();
        fixture.log.take();
    };
    idle();
    let _rpcs: Vec<_> = (0..10).map(|_| fixture.rpc()).collect();
    assert_eq!(fixture.log.take(), ["a1: exit idle"]);
    idle();
    assert_eq!(fixture.log.take(), [""; 0]);
    fixture.rpc();
    assert_eq!(
        fixture.log.take(),
        [""; 0],
        "ten RPCs wait and have asked already"
    );
}

#[test]
fn connecting_an_awake_channel_reaches_an_idle_policy_only() {
    let fixture = Fixture::new("x");
    fixture.connect();
    fixture.log.take();
    fixture.connect();
    assert_eq!(fixture.log.take(), [""; 0], "READY: nothing to do");
    fixture.a.hook(|_, event| match event {
        Event::ExitIdle => Flow::Default,
        _ => Flow::Done,
    });
    let stage = fixture.a.stage();
    stage.publish(State::Idle, |_| Err(PickError::NoSubConnAvailable));
    fixture.run().connect();
    assert_eq!(fixture.log.take(), ["a1: exit idle"]);
}

/// A channel that falls asleep after 160 s; it looks for RPCs every 10 s.
fn sleepy() -> Fixture {
    let fixture = Fixture::with("x", |settings| {
        settings.idle_timeout = Some(std::time::Duration::from_secs(160));
    });
    fixture.connect();
    fixture
}

#[test]
fn without_rpcs_it_falls_asleep_after_the_idle_timeout() {
    let fixture = sleepy();
    fixture.pass(159.0);
    assert!(!fixture.core.is_idle());
    fixture.pass(1.0);
    assert!(fixture.core.is_idle());
    assert_eq!(fixture.state(), State::Idle);
    assert_eq!(fixture.env.net.held(), 0);
    assert_eq!(fixture.sim.sleepers(), 0, "asleep it looks for nothing");
    assert_eq!(fixture.rpc().outcome(), "x", "and wakes for an RPC");
    fixture.pass(100.0);
    fixture.rpc();
    // The timeout counts from the last one.
    fixture.pass(159.0);
    assert!(!fixture.core.is_idle());
    fixture.pass(12.0);
    assert!(fixture.core.is_idle());
}

#[test]
fn it_never_falls_asleep_before_its_time() {
    // RPCs end at any moment between two looks of the balancer's task.
    for ended in [1_000.0, 1_001.0, 1_005.0, 1_009.9] {
        let fixture = sleepy();
        fixture.connect();
        let open = fixture.open_rpc();
        fixture.pass(ended);
        open.finish();
        fixture.pass(159.9);
        assert!(!fixture.core.is_idle(), "ended after {ended} s");
        fixture.pass(10.2);
        assert!(fixture.core.is_idle(), "ended after {ended} s");
    }
}

#[test]
fn an_idle_timeout_of_zero_is_none() {
    let fixture = Fixture::with("x", |settings| {
        settings.idle_timeout = Some(std::time::Duration::ZERO);
    });
    fixture.connect();
    fixture.pass(10_000.0);
    assert!(!fixture.core.is_idle());
}

#[test]
fn an_rpc_in_flight_holds_it_awake_and_the_time_counts_from_its_end() {
    let fixture = sleepy();
    let open = fixture.open_rpc();
    fixture.pass(1_000.0);
    assert!(!fixture.core.is_idle());
    open.finish();
    fixture.pass(159.0);
    assert!(!fixture.core.is_idle());
    fixture.pass(11.0);
    assert!(fixture.core.is_idle());
}

#[test]
fn a_stream_on_a_connection_that_was_given_up_holds_it_awake_too() {
    let fixture = sleepy();
    fixture.pass(2.0);
    let open = fixture.open_rpc();
    fixture.lose("x");
    fixture.pass(1_000.0);
    assert!(!fixture.core.is_idle());
    open.finish();
    fixture.pass(170.0);
    assert!(fixture.core.is_idle());
}

#[test]
fn a_waiting_rpc_holds_it_awake_and_a_policys_call_does_not() {
    let fixture = sleepy();
    let call = balancer_api::CallRequest::new("/s/m");
    let stage = fixture.a.stage();
    stage.cc.start_call(&stage.sub("x"), call);
    fixture.run().pass(170.0);
    assert!(fixture.core.is_idle(), "nobody uses the channel");

    // Nor does a picker come that would make it pick again.
    fixture.a.hook(|_, _| Flow::Done);
    let waiting = fixture.wait_for_ready();
    fixture.pass(1_000.0);
    assert!(!fixture.core.is_idle());
    assert_eq!(fixture.a.built(), 2, "it would have been woken again");
    waiting.cancel();
    fixture.pass(170.0);
    assert!(fixture.core.is_idle());
}

#[test]
fn a_watch_over_a_backends_health_does_not_hold_it_awake() {
    let fixture = Fixture::unresolved_with(|settings| {
        settings.idle_timeout = Some(std::time::Duration::from_secs(160));
    });
    fixture.connect();
    fixture.resolve_with("x", "a/health=svc");
    let serving = CallEvent::Message(bytes::Bytes::from_static(&[8, 1]));
    CallState::serve(&fixture.wire("x").calls()[0], serving);
    fixture.run();
    assert_eq!(fixture.state(), State::Ready);
    assert_eq!(fixture.wire("x").streams(), 1, "the watch's");
    fixture.pass(170.0);
    assert!(fixture.core.is_idle(), "nobody uses the channel");
    assert_eq!(fixture.wire("x").streams(), 0, "and the watch ends with it");
}

#[test]
fn it_stays_awake_where_no_timeout_is_wanted() {
    let fixture = Fixture::with("x", |settings| settings.idle_timeout = None);
    fixture.connect();
    fixture.pass(100_000.0);
    assert!(!fixture.core.is_idle());
    assert_eq!(fixture.sim.sleepers(), 0, "an idle channel wakes nobody");
}
