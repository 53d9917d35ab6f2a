//! The end of a channel.

use std::time::Duration;

use balancer_api::ConnectivityState as State;

use crate::support::{Answer, Event, Fixture, Flow, Rpc, unread};

/// Nothing of the channel is left.
fn is_gone(fixture: &Fixture) {
    assert_eq!(fixture.sim.tasks(), 0, "tasks are left");
    assert_eq!(fixture.sim.sleepers(), 0, "timers are left");
    assert_eq!(fixture.env.net.held(), 0, "connections are left");
    assert_eq!(fixture.env.net.dials().0, 0, "dials are left");
    assert_eq!(fixture.core.snapshot().sub_conns.len(), 0);
}

#[test]
fn close_ends_what_waits_and_what_runs() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let open = fixture.open_rpc();
    fixture.core.close();
    fixture.run();
    assert_eq!(fixture.state(), State::Shutdown);
    let aborted = fixture.wire("x").aborted().expect("cancelled");
    assert_eq!(aborted.message(), "the channel is closing");
    assert_eq!(
        fixture.rpc().outcome(),
        "CANCELLED: the channel is closing",
        "and later ones"
    );
    open.finish();
    assert_eq!(fixture.a.done(), 1);
    is_gone(&fixture);

    let fixture = Fixture::unresolved();
    let waiting = [fixture.rpc(), fixture.wait_for_ready()];
    fixture.core.close();
    fixture.run();
    for rpc in waiting {
        assert_eq!(rpc.outcome(), "CANCELLED: the channel is closing");
    }
    is_gone(&fixture);
}

#[test]
fn it_goes_in_order() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let (core, log) = (fixture.core.clone(), fixture.log.clone());
    fixture.a.hook(move |stage, event| {
        if matches!(event, Event::Close) {
            let outcome = core.current().pick(&balancer_api::PickOptions::new("/s/m"));
            assert!(format!("{outcome:?}").starts_with("Closed"), "{outcome:?}");
            assert_eq!(core.state(true), State::Shutdown, "told first");
            // Policies may clean up themselves.
            stage.cc.remove_sub_conn(&stage.sub("x"));
            log.add("a1: looked");
        }
        Flow::Default
    });
    fixture.log.take();
    fixture.core.close();
    fixture.core.close();
    fixture.run();
    assert_eq!(
        fixture.log.take(),
        ["a1: close", "a1: looked", "a1: drop", "close x", "abort x"]
    );
    fixture.a.unhook();
    is_gone(&fixture);
}

#[test]
fn a_graceful_close_lets_rpcs_finish() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let open = fixture.open_rpc();
    fixture.core.close_gracefully(Duration::from_secs(10));
    fixture.pass(9.0);
    assert_eq!(fixture.rpc().outcome(), "CANCELLED: the channel is closing");
    assert!(fixture.wire("x").is_closed() && fixture.wire("x").aborted().is_none());
    open.finish();
    fixture.run();
    assert!(fixture.wire("x").aborted().is_none());
    is_gone(&fixture);
}

#[test]
fn a_graceful_close_has_a_limit() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let open = fixture.open_rpc();
    fixture.core.close_gracefully(Duration::from_secs(10));
    fixture.pass(10.0);
    assert!(fixture.wire("x").aborted().is_some());
    open.finish();
    is_gone(&fixture);
}

#[test]
fn a_graceful_close_can_be_hurried_before_it_has_begun() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let open = fixture.open_rpc();
    fixture.core.close_gracefully(Duration::from_secs(3_600));
    fixture.core.close();
    fixture.run();
    assert!(fixture.wire("x").aborted().is_some(), "close means now");
    open.finish();
}

#[test]
fn a_graceful_close_can_be_hurried() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let open = fixture.open_rpc();
    fixture.core.close_gracefully(Duration::from_secs(3_600));
    fixture.pass(1.0);
    assert!(fixture.wire("x").aborted().is_none());
    fixture.core.close();
    fixture.run();
    assert!(fixture.wire("x").aborted().is_some(), "close means now");
    open.finish();
    is_gone(&fixture);
}

#[test]
fn the_last_clone_closes_the_channel() {
    let mut fixture = Fixture::new("x");
    fixture.connect();
    let mut states = fixture.core.states();
    let stream = fixture.wire("x").open_stream();
    let clone = fixture.core.clone();
    let other = Fixture::new("x");
    fixture.core = other.core.clone();
    fixture.run();
    assert_eq!(unread(&mut states), [State::Ready]);
    drop(clone);
    fixture.run();
    assert_eq!(unread(&mut states), [State::Shutdown]);
    assert!(fixture.wire("x").aborted().is_none(), "streams finish");
    drop(stream);
    is_gone(&fixture);
}

#[test]
fn it_can_be_closed_in_any_state() {
    for answer in [Answer::Accept, Answer::Refuse, Answer::Hang, Answer::Panic] {
        let fixture = Fixture::new("x y z");
        for name in ["x", "y", "z"] {
            fixture.answer(name, answer);
        }
        fixture.connect();
        fixture.core.close();
        fixture.run();
        assert_eq!(fixture.state(), State::Shutdown);
        is_gone(&fixture);
        // Nothing that is asked of it now does anything.
        fixture.core.connect();
        fixture.core.enter_idle();
        fixture.core.reset_backoff();
        fixture.core.close_gracefully(Duration::from_secs(1));
        fixture.resolve("w");
        fixture.pass(1_000.0);
        is_gone(&fixture);
        assert_eq!(fixture.state(), State::Shutdown);
    }
    let never_used = Fixture::new("x");
    never_used.core.close();
    never_used.run();
    is_gone(&never_used);
}

#[test]
fn no_callback_after_the_request() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let stage = fixture.a.stage();
    fixture.log.take();
    // All of these are in the queue behind the request to close.
    fixture.core.close();
    stage.cc.set_timer(Duration::ZERO);
    stage.cc.wake();
    fixture.wire("x").lose("reset");
    fixture
        .resolver
        .set_endpoints(crate::support::endpoints("y"));
    fixture.run();
    assert_eq!(fixture.told(), ["a1: close", "a1: drop"]);
}

#[test]
fn a_runtime_that_drops_the_task_leaves_nobody_waiting() {
    let fixture = Fixture::unresolved();
    let mut states = fixture.core.states();
    fixture.sim.shut_down();
    assert_eq!(fixture.state(), State::Shutdown);
    assert_eq!(unread(&mut states), [State::Idle, State::Shutdown]);
    let late = Rpc::start(&fixture.env, &fixture.core, true, false);
    fixture.run();
    assert_eq!(late.outcome(), "INTERNAL: the balancer's task was dropped");
}

#[test]
fn closing_races_with_everything() {
    for seed in 0..200 {
        let fixture = Fixture::shuffled(seed, "x y");
        let mut rpcs = Vec::new();
        fixture.core.connect();
        for turn in 0..seed % 40 {
            if turn % 5 == 0 {
                rpcs.push(fixture.start_rpc());
            }
            if turn % 11 == 3 {
                fixture
                    .resolver
                    .set_endpoints(crate::support::endpoints("y z"));
            }
            fixture.sim.step();
        }
        fixture.core.close();
        fixture.run();
        for rpc in &rpcs {
            let outcome = rpc.outcome();
            assert_ne!(outcome, "waits", "seed {seed}");
        }
        assert_eq!(fixture.a.picked(), fixture.a.done(), "seed {seed}");
        is_gone(&fixture);
    }
}
