//! Holding the first READY picker until the first burst can be spread.

use std::time::Duration;

use balancer_api::{ConnectivityState as State, PickError};

use crate::support::{Answer, Fixture};

fn warming(names: &str) -> Fixture {
    let fixture = Fixture::with(names, |settings| {
        settings.warm_up = Some(Duration::from_secs(2));
    });
    for name in names.split_whitespace() {
        fixture.answer(name, Answer::Hang);
    }
    fixture.connect();
    fixture
}

#[test]
fn the_first_ready_picker_waits_for_all() {
    let fixture = warming("x y z");
    let rpc = fixture.rpc();
    fixture
        .answer("x", Answer::Accept)
        .answer("y", Answer::Refuse);
    assert_eq!(
        (rpc.outcome(), fixture.state()),
        ("waits".into(), State::Connecting)
    );
    fixture.answer("z", Answer::Accept);
    assert_eq!(
        fixture.state(),
        State::Ready,
        "all have left CONNECTING once"
    );
    let mut picked: Vec<_> = (0..3).map(|_| fixture.rpc().outcome()).collect();
    picked.push(rpc.outcome());
    picked.sort();
    assert_eq!(picked, ["x", "x", "z", "z"]);
}

#[test]
fn but_not_for_ever() {
    let fixture = warming("x y");
    let rpc = fixture.rpc();
    fixture.pass(1.0).answer("x", Answer::Accept).pass(1.9);
    assert_eq!(rpc.outcome(), "waits");
    fixture.pass(0.1);
    assert_eq!(rpc.outcome(), "x");
}

#[test]
fn later_ones_are_not_held() {
    let fixture = warming("x");
    fixture
        .answer("x", Answer::Accept)
        .answer("y", Answer::Hang);
    assert_eq!(fixture.state(), State::Ready);
    fixture.resolve("x y");
    fixture.answer("x", Answer::Refuse).pass(2.0).lose("x");
    fixture.answer("x", Answer::Accept).pass(1.3);
    assert_eq!(fixture.state(), State::Ready, "y still hangs");
}

#[test]
fn a_failure_meanwhile_is_told_at_once() {
    let fixture = warming("x y");
    fixture.answer("x", Answer::Accept);
    let stage = fixture.a.stage();
    stage.publish(State::TransientFailure, |_| {
        Err(PickError::failed("no more"))
    });
    fixture.run();
    assert_eq!(fixture.rpc().outcome(), "failed: no more");
    fixture.answer("y", Answer::Accept);
    assert_eq!(
        fixture.sim.sleepers(),
        0,
        "y's pass is over, and no picker is held"
    );
}

#[test]
fn it_is_done_again_after_a_sleep() {
    let fixture = warming("x y");
    fixture
        .answer("x", Answer::Accept)
        .answer("y", Answer::Accept);
    fixture.core.enter_idle();
    fixture.run();
    fixture.answer("y", Answer::Hang);
    let rpc = fixture.rpc();
    assert_eq!(rpc.outcome(), "waits");
    fixture.pass(2.0);
    assert_eq!(rpc.outcome(), "x");
}

#[test]
fn a_picker_that_panics_does_not_lose_the_one_that_is_held() {
    let fixture = warming("x y");
    let stage = fixture.a.stage();
    stage.publish(State::Connecting, |_| panic!("unlucky"));
    fixture.run().answer("x", Answer::Accept).pass(1.5);
    for _ in 0..4 {
        assert!(fixture.rpc().outcome().contains("unlucky"));
    }
    // Sooner than a picker that panicked is asked again.
    fixture.pass(0.5);
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn what_is_no_backend_is_not_waited_for() {
    let fixture = warming("x");
    fixture.answer("balancer:1", Answer::Hang);
    let stage = fixture.a.stage();
    let balancer = stage.cc.new_lookaside("balancer:1", None, None);
    balancer.expect("a SubConn").connect();
    fixture.run();
    assert_eq!(fixture.env.net.dials().0, 2, "x and the balancer");
    let rpc = fixture.rpc();
    fixture.answer("x", Answer::Accept);
    assert_eq!(
        (rpc.outcome(), fixture.state()),
        ("x".into(), State::Ready),
        "no RPC goes there"
    );
}
