//! Happy eyeballs: attempts beside each other.

use std::time::Duration;

use crate::{
    machine::MachineTimer,
    rig::{Rig, seconds},
};

#[test]
fn the_next_attempt_starts_beside_one_that_hangs() {
    let mut rig = Rig::racing("a b c", Duration::from_millis(250));
    rig.connect().pass(seconds(0.249));
    assert_eq!(rig.log(), "C, dial a");
    rig.pass(seconds(0.001));
    assert_eq!(rig.log(), "dial b");
    rig.pass(seconds(0.25));
    assert_eq!(rig.log(), "dial c");
    assert_eq!(
        rig.due(MachineTimer::AttemptDelay),
        None,
        "behind the last there is nobody"
    );
    rig.succeed("b");
    assert_eq!(
        rig.log(),
        "cancel a, cancel c, R(b)",
        "the first wins, the others are given up"
    );
}

#[test]
fn a_failure_starts_the_next_at_once() {
    let mut rig = Rig::racing("a b c", Duration::from_millis(250));
    rig.connect().pass(seconds(0.1)).fail("a");
    assert_eq!(rig.log(), "C, dial a, dial b");
    rig.pass(seconds(0.2));
    assert_eq!(rig.log(), "", "the delay counts from b's start");
    rig.pass(seconds(0.05));
    assert_eq!(rig.log(), "dial c");
    rig.fail("b").fail("c");
    assert_eq!(rig.log(), "resolve, TF(c refused)");
}

#[test]
fn an_attempt_that_fails_does_not_end_those_beside_it() {
    let mut rig = Rig::racing("a b", Duration::from_millis(250));
    rig.connect().pass(seconds(0.25)).fail("b");
    assert_eq!(rig.log(), "C, dial a, dial b");
    rig.pass(seconds(5.0)).succeed("a");
    assert_eq!(rig.log(), "R(a)");
}

#[test]
fn the_delay_is_kept_within_bounds() {
    for (asked, given) in [
        (0, 100),
        (99, 100),
        (250, 250),
        (2_000, 2_000),
        (9_000, 2_000),
    ] {
        let mut rig = Rig::racing("a b", Duration::from_millis(asked));
        rig.connect();
        assert_eq!(
            rig.due(MachineTimer::AttemptDelay),
            Some(Duration::from_millis(given)),
            "asked for {asked} ms"
        );
    }
}

#[test]
fn without_a_delay_addresses_are_tried_one_after_the_other() {
    let mut rig = Rig::new(balancer_api::Reconnect::WhenAsked, "a b");
    rig.connect().pass(seconds(19.0));
    assert_eq!(rig.log(), "C, dial a");
}

#[test]
fn a_single_address_arms_no_delay() {
    let mut rig = Rig::racing("a", Duration::from_millis(250));
    rig.connect();
    assert_eq!(rig.due(MachineTimer::AttemptDelay), None);
    // Until there is a second.
    rig.pass(seconds(0.2)).update("a b");
    assert_eq!(rig.due(MachineTimer::AttemptDelay), Some(seconds(0.05)));
}

#[test]
fn a_storm_of_lists_does_not_put_the_next_attempt_off() {
    let mut rig = Rig::racing("a b", Duration::from_millis(250));
    rig.connect();
    for n in 0..24 {
        let names = ["a b", "a b c"][n % 2];
        rig.pass(seconds(0.01)).update(names);
    }
    rig.pass(seconds(0.01));
    assert_eq!(rig.log(), "C, dial a, dial b", "250 ms after a");
}

#[test]
fn the_deadline_gives_all_of_them_up() {
    let mut rig = Rig::racing("a b", Duration::from_millis(250));
    rig.connect().pass(seconds(19.999));
    rig.log();
    rig.pass(seconds(0.001));
    assert_eq!(
        rig.log(),
        "cancel a, cancel b, resolve, \
         TF(a, b: no HTTP/2 connection within the connect deadline of 20s), I"
    );
}

#[test]
fn an_attempt_that_waits_for_its_turn_keeps_its_head_start() {
    let mut rig = Rig::racing("a b c", Duration::from_millis(250));
    rig.busy = true;
    rig.connect().pass(seconds(5.0));
    assert_eq!(
        rig.log(),
        "C, dial a",
        "nobody starts beside one that waits"
    );
    rig.begin("a").pass(seconds(0.249));
    assert_eq!(rig.log(), "", "the delay counts from a's turn");
    rig.pass(seconds(0.001));
    assert_eq!(rig.log(), "dial b");
    rig.pass(seconds(5.0)).update("a b c d");
    assert_eq!(rig.due(MachineTimer::AttemptDelay), None, "b waits");
    rig.begin("b").pass(seconds(0.25));
    assert_eq!(rig.log(), "dial c");
}
