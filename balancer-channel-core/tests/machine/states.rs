//! The rows of the state table, in both modes.

use balancer_api::Reconnect::{Immediately, WhenAsked};

use crate::rig::{Rig, seconds};

const MODES: [balancer_api::Reconnect; 2] = [Immediately, WhenAsked];

#[test]
fn nothing_happens_before_connect() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a b");
        rig.pass(seconds(1_000.0)).reset_backoff().update("b c");
        assert_eq!(rig.log(), "", "an idle SubConn must stay silent");
        rig.connect();
        assert_eq!(rig.log(), "C, dial b", "and start with the list it has now");
    }
}

#[test]
fn connect_is_for_idle_only() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a");
        rig.connect().connect();
        assert_eq!(rig.log(), "C, dial a");
        rig.succeed("a").connect();
        assert_eq!(rig.log(), "R(a)");
        rig.remove().connect().update("b").reset_backoff().remove();
        assert_eq!(rig.log(), "release a, X", "and then silence");
    }
}

#[test]
fn an_empty_list_has_nothing_to_connect_to() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a");
        rig.update("").connect();
        assert_eq!(rig.log(), "");
        rig.update("a").connect();
        assert_eq!(rig.log(), "C, dial a", "re-adding works");
    }
}

#[test]
fn a_pass_stops_at_the_first_that_connects() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a b c");
        rig.connect().fail("a").succeed("b");
        assert_eq!(rig.log(), "C, dial a, dial b, R(b)", "no TF on the way");
    }
}

#[test]
fn all_must_fail_before_the_subconn_does() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a b");
        rig.connect().fail("a");
        assert_eq!(rig.log(), "C, dial a, dial b");
        rig.fail("b");
        assert_eq!(
            rig.log(),
            "resolve, TF(b refused)",
            "a new resolution is asked for before TF is told"
        );
        rig.pass(seconds(1.0));
        let after = match mode {
            Immediately => "C, dial a",
            WhenAsked => "I",
        };
        assert_eq!(rig.log(), after, "the next pass begins with the first");
    }
}

#[test]
fn a_proven_connection_that_is_lost_is_redialled_at_once() {
    // After a failed pass the wait is 1.6 s: of an unproven connection's it would not be over.
    let mut rig = Rig::new(Immediately, "a b");
    rig.connect().fail("a").fail("b").pass(seconds(1.0));
    rig.fail("a").succeed("b").pass(seconds(1.0));
    rig.log();
    rig.lose();
    assert_eq!(rig.log(), "release b, resolve, C(reset), dial a");

    let mut rig = Rig::new(WhenAsked, "a");
    rig.connect().succeed("a").pass(seconds(1.0));
    rig.log();
    rig.lose().pass(seconds(1_000.0));
    assert_eq!(rig.log(), "release a, resolve, I(reset)");
    rig.connect();
    assert_eq!(rig.log(), "C, dial a");
}

#[test]
fn a_connection_lost_at_once_counts_as_a_failed_pass() {
    // `WhenAsked`: R→I; connect gives I→C→TF at once; I when the rest of the wait is over.
    let mut rig = Rig::new(WhenAsked, "a");
    rig.connect().succeed("a").pass(seconds(0.25));
    rig.log();
    rig.lose();
    assert_eq!(rig.log(), "release a, resolve, I(reset)");
    rig.connect();
    assert_eq!(rig.log(), "C, TF(reset)");
    rig.pass(seconds(0.74));
    assert_eq!(rig.log(), "", "the wait counts from the start of the pass");
    rig.pass(seconds(0.01));
    assert_eq!(rig.log(), "I");
    rig.connect();
    assert_eq!(rig.log(), "C, dial a");

    // Asked after the wait is over: at once.
    rig.succeed("a").lose().pass(seconds(1.6));
    rig.log();
    rig.connect();
    assert_eq!(rig.log(), "C, dial a");

    // `Immediately`: R→C→TF, then C when the wait is over.
    let mut rig = Rig::new(Immediately, "a");
    rig.connect().succeed("a").pass(seconds(0.25));
    rig.log();
    rig.lose();
    assert_eq!(rig.log(), "release a, resolve, C(reset), TF(reset)");
    rig.pass(seconds(0.75));
    assert_eq!(rig.log(), "C, dial a");
}

#[test]
fn removal_ends_whatever_goes_on() {
    for mode in MODES {
        let mut idle = Rig::new(mode, "a");
        idle.remove();
        assert_eq!(idle.log(), "X");

        let mut connecting = Rig::new(mode, "a");
        connecting.connect().remove();
        assert_eq!(connecting.log(), "C, dial a, cancel a, X");

        let mut ready = Rig::new(mode, "a");
        ready.connect().succeed("a").remove().lose();
        assert_eq!(ready.log(), "C, dial a, R(a), release a, X");

        let mut waiting = Rig::new(mode, "a");
        waiting.connect().fail("a").remove().pass(seconds(1_000.0));
        assert_eq!(waiting.log(), "C, dial a, resolve, TF(a refused), X");
    }
}

#[test]
fn news_of_attempts_that_were_given_up_is_ignored() {
    let mut rig = Rig::new(WhenAsked, "a");
    rig.connect();
    let late = rig.attempt("a");
    rig.update("b");
    rig.log();
    let (now, mut out) = (rig.now, Vec::new());
    assert!(!rig.machine.connected(late, &mut out), "not wanted");
    rig.machine
        .attempt_failed(late, crate::rig::refused(), now, 0, &mut out);
    assert!(out.is_empty(), "{out:?}");

    // So is more news of one that has failed.
    let mut rig = Rig::new(WhenAsked, "a b c");
    rig.connect();
    let late = rig.attempt("a");
    rig.fail("a");
    assert!(!rig.machine.connected(late, &mut out), "not wanted");
    rig.machine
        .attempt_failed(late, crate::rig::refused(), now, 0, &mut out);
    assert!(out.is_empty(), "{out:?}");
}
