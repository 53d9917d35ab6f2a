//! From one policy to another without a gap.

use std::sync::{Arc, Mutex};

use balancer_api::{ConnectivityState as State, PickError, Reconnect};

use crate::support::{Answer, Event, Fixture, Flow, Puppet, unread};

/// "a" serves x; "b" and "c" are known.
fn serving() -> (Fixture, Arc<Puppet>, Arc<Puppet>) {
    let fixture = Fixture::new("x");
    let (b, c) = (fixture.policy("b"), fixture.policy("c"));
    fixture.connect();
    assert_eq!(fixture.rpc().outcome(), "x");
    fixture.log.take();
    (fixture, b, c)
}

#[test]
fn the_old_policy_serves_until_the_new_one_is_ready() {
    let (fixture, _, _) = serving();
    let mut states = fixture.core.states();
    unread(&mut states);
    fixture.answer("x", Answer::Hang).resolve_with("x", "b");
    assert_eq!(
        fixture.told(),
        ["b1: build", "b1: addrs [x]", "b1: x CONNECTING"],
        "the new one gets the list"
    );
    let snapshot = fixture.core.snapshot();
    assert_eq!(snapshot.policy.as_deref(), Some("a"));
    assert_eq!(snapshot.pending_policy.as_deref(), Some("b"));
    assert_eq!(fixture.rpc().outcome(), "x", "on the old connection");
    fixture.answer("x", Answer::Accept);
    assert_eq!(
        fixture.log.take(),
        ["b1: x READY", "a1: close", "a1: drop", "close x"]
    );
    assert_eq!(fixture.rpc().outcome(), "x");
    assert_eq!(fixture.core.snapshot().policy.as_deref(), Some("b"));
    assert_eq!(
        unread(&mut states),
        [State::Ready; 0],
        "nobody sees the new policy's CONNECTING"
    );
}

#[test]
fn the_new_picker_is_there_before_the_old_policy_closes() {
    let (fixture, b, _) = serving();
    b.hook(|stage, event| {
        if matches!(event, Event::Addrs(_)) {
            stage.publish(State::Ready, |_| Err(PickError::failed("from b")));
        }
        Flow::Done
    });
    let (core, met) = (fixture.core.clone(), Arc::new(Mutex::new(String::new())));
    let seen = met.clone();
    fixture.a.hook(move |_, event| {
        if matches!(event, Event::Close) {
            let options = balancer_api::PickOptions::new("/s/m");
            *seen.lock().unwrap() = format!("{:?}", core.current().pick(&options));
        }
        Flow::Default
    });
    fixture.resolve_with("x", "b");
    let met = met.lock().unwrap();
    assert!(met.contains("from b"), "no RPC may meet a gap: {met:?}");
    assert_eq!(fixture.rpc().outcome(), "failed: from b");
}

#[test]
fn any_report_but_connecting_takes_over() {
    for state in [State::Idle, State::Ready, State::TransientFailure] {
        let (fixture, b, _) = serving();
        b.hook(|_, _| Flow::Done);
        fixture.resolve_with("x", "b");
        b.stage()
            .publish(State::Connecting, |_| Err(PickError::NoSubConnAvailable));
        fixture.run();
        assert_eq!(fixture.core.snapshot().policy.as_deref(), Some("a"));
        b.stage()
            .publish(state, |_| Err(PickError::failed("from b")));
        fixture.run();
        assert_eq!(
            fixture.core.snapshot().policy.as_deref(),
            Some("b"),
            "{state}"
        );
        assert_eq!(fixture.state(), state);
        assert_eq!(fixture.rpc().outcome(), "failed: from b");
    }
}

#[test]
fn a_policy_that_is_not_ready_is_left_at_the_first_update_of_either() {
    // The current policy fails already; the pending one has not said anything.
    let (fixture, b, _) = serving();
    b.hook(|_, _| Flow::Done);
    fixture.resolve_with("x", "b");
    assert_eq!(fixture.core.snapshot().policy.as_deref(), Some("a"));
    // Current moves: the pending one counts as CONNECTING with a queueing picker.
    fixture.answer("x", Answer::Refuse).lose("x");
    assert_eq!(fixture.core.snapshot().policy.as_deref(), Some("b"));
    assert_eq!(fixture.state(), State::Connecting);
    assert_eq!(fixture.rpc().outcome(), "waits");
}

#[test]
fn a_silent_newcomer_does_not_replace_a_failing_policy() {
    let fixture = Fixture::new("x");
    let b = fixture.policy("b");
    b.hook(|_, _| Flow::Done);
    // Wait long: nothing of the old policy moves while we look.
    fixture.answer("x", Answer::Refuse).connect().pass(0.01);
    fixture.resolve_with("x", "b");
    assert_eq!(fixture.core.snapshot().policy.as_deref(), Some("a"));
    assert_eq!(
        fixture.rpc().outcome(),
        "unavailable: x: connection refused"
    );
    b.stage()
        .publish(State::Connecting, |_| Err(PickError::NoSubConnAvailable));
    fixture.run();
    assert_eq!(
        fixture.core.snapshot().policy.as_deref(),
        Some("b"),
        "its first word"
    );
    assert_eq!(fixture.rpc().outcome(), "waits");
}

#[test]
fn results_go_to_the_newest_and_states_to_their_owner() {
    let (fixture, b, _) = serving();
    b.hook(|_, _| Flow::Done);
    fixture.resolve_with("x", "b");
    fixture.log.take();
    fixture.resolve_with("x y", "b").resolve_error("e");
    assert_eq!(fixture.told(), ["b1: addrs [x y]", "b1: error (e)"]);
    b.stage().make("z", Reconnect::WhenAsked).connect();
    fixture.run();
    assert_eq!(fixture.told(), ["b1: z CONNECTING", "b1: z READY"]);

    // Only the newest may ask the resolver.
    fixture.resolve_with("x", "b");
    let asked = fixture.resolver.resolutions();
    fixture.a.stage().cc.resolve_now();
    fixture.run();
    assert_eq!(fixture.resolver.resolutions(), asked);
    b.stage().cc.resolve_now();
    fixture.run();
    assert_eq!(fixture.resolver.resolutions(), asked + 1);
}

#[test]
fn a_third_policy_replaces_the_second_before_its_turn() {
    let (fixture, b, c) = serving();
    b.hook(|_, _| Flow::Done);
    c.hook(|_, _| Flow::Done);
    fixture.resolve_with("x", "b");
    b.stage().make("y", Reconnect::WhenAsked).connect();
    fixture.run();
    fixture.log.take();
    fixture.resolve_with("x", "c");
    assert_eq!(
        fixture.log.take(),
        [
            "b1: close",
            "b1: drop",
            "close y",
            "c1: build",
            "c1: addrs [x]"
        ]
    );
    assert_eq!(
        fixture.core.snapshot().policy.as_deref(),
        Some("a"),
        "untouched"
    );
    assert_eq!(fixture.rpc().outcome(), "x");
    // A late word of the one that was replaced is not heard.
    b.stage()
        .publish(State::Ready, |_| Err(PickError::failed("late")));
    fixture.run();
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn back_to_the_one_that_serves_builds_nothing() {
    let (fixture, b, _) = serving();
    b.hook(|_, _| Flow::Done);
    fixture.resolve_with("x", "b").resolve_with("x", "a/new");
    assert_eq!(
        fixture.told(),
        [
            "b1: build",
            "b1: addrs [x]",
            "b1: close",
            "b1: drop",
            "a1: addrs [x] config new"
        ]
    );
    assert_eq!((fixture.a.built(), b.built()), (1, 1));
}

#[test]
fn a_pending_policy_that_panics_is_rebuilt_while_the_old_one_serves() {
    let (fixture, b, _) = serving();
    b.hook(|_, event| match event {
        Event::Addrs(_) => panic!("not today"),
        _ => Flow::Done,
    });
    fixture.resolve_with("x", "b");
    assert_eq!(fixture.rpc().outcome(), "x");
    assert_eq!(fixture.state(), State::Ready);
    b.unhook();
    fixture.pass(1.2);
    assert_eq!(b.built(), 2);
    assert_eq!(fixture.core.snapshot().policy.as_deref(), Some("b"));
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn a_current_policy_that_panics_leaves_to_the_pending_one() {
    let (fixture, b, _) = serving();
    b.hook(|_, _| Flow::Done);
    fixture.resolve_with("x", "b");
    fixture.a.hook(|_, event| match event {
        Event::State(..) => panic!("out of order"),
        _ => Flow::Default,
    });
    fixture.lose("x");
    assert_eq!(fixture.core.snapshot().policy.as_deref(), Some("b"));
    assert_eq!(fixture.rpc().outcome(), "waits");
    fixture.pass(100.0);
    assert_eq!((fixture.a.built(), b.built()), (1, 1), "nothing is rebuilt");
}

#[test]
fn whoever_of_two_policies_panics_first_the_pending_one_takes_over() {
    let (fixture, b, _) = serving();
    b.hook(|_, event| match event {
        Event::Addrs(_) => panic!("not today"),
        _ => Flow::Done,
    });
    fixture.resolve_with("x", "b");
    fixture.a.hook(|_, event| match event {
        Event::State(..) => panic!("out of order"),
        _ => Flow::Default,
    });
    fixture.lose("x");
    assert!(fixture.rpc().outcome().contains("panicked"));
    // Built again, and silent: better than a dead one.
    b.hook(|_, _| Flow::Done);
    fixture.pass(10.0);
    assert_eq!(fixture.core.snapshot().policy.as_deref(), Some("b"));
    assert_eq!(fixture.rpc().outcome(), "waits");
}

#[test]
fn a_dead_policy_is_replaced_and_its_name_can_come_back() {
    let (fixture, b, _) = serving();
    fixture.a.hook(|_, event| match event {
        Event::State(..) => panic!("out of order"),
        _ => Flow::Default,
    });
    b.hook(|_, _| Flow::Done);
    fixture.lose("x");
    assert!(fixture.rpc().outcome().contains("panicked"));
    fixture.a.unhook();
    fixture.resolve_with("x", "b");
    assert_eq!(
        fixture.core.snapshot().policy.as_deref(),
        Some("b"),
        "in its place"
    );
    fixture.resolve_with("x", "a");
    fixture.pass(5.0);
    assert_eq!(fixture.rpc().outcome(), "x", "never stuck");
}

#[test]
fn a_switch_under_load_fails_no_rpc() {
    for seed in 0..50 {
        let fixture = Fixture::shuffled(seed, "x y");
        fixture.policy("b");
        fixture.core.connect();
        let mut rpcs = Vec::new();
        for round in 0..6 {
            fixture
                .resolver
                .update(Ok(balancer_channel_core::Resolution::new(
                    crate::support::endpoints(["x y", "y z", "z x"][round % 3]),
                )
                .with_service_config(["a", "b"][round % 2])));
            for _ in 0..8 {
                rpcs.push(fixture.start_rpc());
                fixture.sim.step();
                fixture.sim.step();
            }
        }
        fixture.run();
        for rpc in &rpcs {
            let outcome = rpc.outcome();
            assert!(
                ["x", "y", "z"].contains(&outcome.as_str()),
                "seed {seed}: {outcome}"
            );
        }
    }
}
