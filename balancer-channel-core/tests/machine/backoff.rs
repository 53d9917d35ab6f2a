//! How long a SubConn waits after a failure.

use std::time::Duration;

use balancer_api::{
    ConnectivityState as State,
    Reconnect::{Immediately, WhenAsked},
};

use crate::{
    machine::MachineTimer,
    rig::{Rig, seconds},
};

/// A pass over "a" that fails at once; answers the wait.
fn failed_pass(rig: &mut Rig) -> Duration {
    if rig.state == State::Idle {
        rig.connect();
    }
    rig.fail("a");
    let wait = rig.due(MachineTimer::Backoff).expect("a wait");
    rig.pass(wait);
    wait
}

#[test]
fn the_waits_grow_to_two_minutes() {
    let mut rig = Rig::new(WhenAsked, "a");
    let waits: Vec<f64> = (0..14)
        .map(|_| failed_pass(&mut rig).as_secs_f64())
        .collect();
    let mut expected = 1.0;
    for (n, wait) in waits.iter().enumerate() {
        assert!((wait - expected).abs() < 1e-6, "wait {n}: {wait}");
        expected = (expected * 1.6_f64).min(120.0);
    }
    assert!((waits[13] - 120.0).abs() < 1e-6, "the cap is before jitter");
}

#[test]
fn the_very_first_wait_has_no_jitter_and_later_ones_stay_within_a_fifth() {
    for random in [0, 1, u64::MAX / 3, u64::MAX] {
        let mut rig = Rig::new(Immediately, "a");
        rig.random = random;
        rig.connect();
        assert_eq!(failed_pass(&mut rig), Duration::from_secs(1), "exact");
        let mut expected = 1.6;
        for n in 1..15 {
            let wait = failed_pass(&mut rig).as_secs_f64();
            let range = expected * 0.8 - 1e-6..=expected * 1.2 + 1e-6;
            assert!(range.contains(&wait), "wait {n}: {wait}, random {random}");
            if random == 0 {
                assert!((wait - expected * 0.8).abs() < 1e-6, "the shortest");
            }
            expected = (expected * 1.6_f64).min(120.0);
        }
    }
}

#[test]
fn the_index_grows_once_per_pass() {
    let mut rig = Rig::new(WhenAsked, "a b c");
    for expected in [1.0, 1.6, 2.56] {
        rig.connect().fail("a").fail("b").fail("c");
        assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(expected)));
        rig.pass(seconds(expected));
    }
}

#[test]
fn a_wait_counts_from_the_start_of_the_pass() {
    let mut rig = Rig::new(WhenAsked, "a");
    rig.connect().pass(seconds(0.4)).fail("a");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(0.6)));

    // A pass that took longer than the wait leaves nothing to wait for.
    let mut rig = Rig::new(WhenAsked, "a");
    rig.connect().pass(seconds(1.0)).fail("a");
    assert_eq!(rig.log(), "C, dial a, resolve, TF(a refused), I");
    let mut rig = Rig::new(Immediately, "a");
    rig.connect().pass(seconds(5.0)).fail("a");
    assert_eq!(rig.log(), "C, dial a, resolve, TF(a refused), C, dial a");
}

#[test]
fn a_proven_connection_starts_the_waits_anew_with_jitter() {
    for by_headers in [false, true] {
        let mut rig = Rig::new(WhenAsked, "a");
        for _ in 0..4 {
            failed_pass(&mut rig);
        }
        rig.connect().succeed("a");
        if by_headers {
            rig.earn();
        } else {
            rig.pass(seconds(1.0));
        }
        rig.random = 0;
        rig.lose().connect().fail("a");
        assert_eq!(
            rig.due(MachineTimer::Backoff),
            Some(seconds(0.8)),
            "index 0, but jitter: exact only before the first READY"
        );
    }
}

#[test]
fn accept_then_close_never_becomes_a_hot_loop() {
    let mut rig = Rig::new(Immediately, "a");
    rig.connect();
    for expected in [1.0, 1.6, 2.56, 4.096] {
        rig.succeed("a").lose();
        assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(expected)));
        rig.pass(seconds(expected));
    }
    // The fifth stays: earned.
    rig.succeed("a").pass(seconds(1.0)).lose();
    assert_eq!(rig.state, State::Connecting, "redialled at once");
}

/// The backend has not said that it serves: however long the connection lasts, READY is what counts.
#[test]
fn a_connection_that_was_never_told_ready_earns_nothing() {
    let mut rig = Rig::new(Immediately, "a");
    rig.unhealthy = true;
    rig.connect();
    for expected in [1.0, 1.6, 2.56, 4.096] {
        rig.succeed("a").pass(seconds(0.5)).lose();
        let left = expected - 0.5;
        assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(left)));
        rig.pass(seconds(left));
    }
    rig.succeed("a").pass(seconds(60.0)).lose();
    assert_eq!(
        rig.state,
        State::Connecting,
        "its pass began a minute ago: the wait is over"
    );
    rig.succeed("a").lose();
    assert_eq!(
        rig.due(MachineTimer::Backoff),
        Some(seconds(1.6_f64.powi(5))),
        "and the waits go on where they were"
    );
}

#[test]
fn a_connection_given_up_for_a_new_list_has_earned_its_reset_too() {
    let mut rig = Rig::new(WhenAsked, "a");
    for _ in 0..4 {
        failed_pass(&mut rig);
    }
    rig.connect().succeed("a").pass(seconds(3_600.0));
    rig.update("b").fail("b");
    assert_eq!(
        rig.due(MachineTimer::Backoff),
        Some(seconds(1.0)),
        "an hour of READY must be worth a fresh start"
    );
}

#[test]
fn reset_backoff_ends_a_wait_and_forgets() {
    let mut rig = Rig::new(Immediately, "a");
    rig.connect();
    for _ in 0..6 {
        failed_pass(&mut rig);
    }
    rig.fail("a");
    rig.log();
    rig.reset_backoff();
    assert_eq!(rig.log(), "C, dial a", "at once");
    rig.fail("a");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(1.0)));

    let mut rig = Rig::new(WhenAsked, "a");
    rig.connect().fail("a");
    rig.log();
    rig.reset_backoff();
    assert_eq!(rig.log(), "I");
}

#[test]
fn reset_backoff_counts_for_what_has_begun() {
    // In CONNECTING: this pass, should it fail, waits like a first one.
    let mut rig = Rig::new(WhenAsked, "a");
    for _ in 0..6 {
        failed_pass(&mut rig);
    }
    rig.connect().reset_backoff().fail("a");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(1.0)));

    // After a loss that earned nothing: the penalty is forgotten.
    let mut rig = Rig::new(WhenAsked, "a");
    rig.connect().succeed("a").lose().reset_backoff();
    rig.log();
    rig.connect();
    assert_eq!(rig.log(), "C, dial a");

    // A connection that is lost later, having earned nothing, costs no more than a first failure.
    let mut rig = Rig::new(WhenAsked, "a");
    for _ in 0..6 {
        failed_pass(&mut rig);
    }
    rig.connect().succeed("a").reset_backoff().lose().connect();
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(1.0)));
}

#[test]
fn a_pass_has_twenty_seconds_or_its_wait() {
    let mut rig = Rig::new(WhenAsked, "a b");
    rig.connect();
    assert_eq!(rig.due(MachineTimer::PassDeadline), Some(seconds(20.0)));
    rig.pass(seconds(8.0)).fail("a").pass(seconds(11.9));
    assert_eq!(rig.log(), "C, dial a, dial b");
    rig.pass(seconds(0.1));
    assert_eq!(
        rig.log(),
        "cancel b, resolve, \
         TF(b: no HTTP/2 connection within the connect deadline of 20s), I",
        "the budget is for the whole list"
    );
    // 1.6^7 is more than 20 s.
    let mut rig = Rig::new(WhenAsked, "a");
    for _ in 0..7 {
        failed_pass(&mut rig);
    }
    rig.connect();
    assert_eq!(
        rig.due(MachineTimer::PassDeadline),
        Some(seconds(1.6_f64.powi(7)))
    );
}

#[test]
fn waiting_for_a_turn_is_no_part_of_a_pass() {
    let mut rig = Rig::new(Immediately, "a");
    rig.busy = true;
    rig.connect().pass(seconds(300.0));
    assert_eq!(rig.log(), "C, dial a", "must not fail without a dial");
    rig.begin("a");
    assert_eq!(rig.due(MachineTimer::PassDeadline), Some(seconds(20.0)));
    rig.pass(seconds(0.25)).fail("a");
    let wait = rig.due(MachineTimer::Backoff);
    assert_eq!(wait, Some(seconds(0.75)), "from the dial on");
}

#[test]
fn the_deadline_of_a_pass_stands_still_while_all_that_is_left_of_it_waits() {
    let mut rig = Rig::new(WhenAsked, "a b c");
    rig.busy = true;
    rig.connect().begin("a").pass(seconds(5.0)).fail("a");
    rig.pass(seconds(60.0)).begin("b");
    assert_eq!(rig.due(MachineTimer::PassDeadline), Some(seconds(15.0)));
    rig.pass(seconds(5.0)).fail("b");
    rig.pass(seconds(60.0)).begin("c");
    rig.log();
    rig.pass(seconds(10.0));
    assert_eq!(
        rig.log(),
        "cancel c, resolve, TF(c: no HTTP/2 connection within the connect deadline of 20s), I"
    );
}
