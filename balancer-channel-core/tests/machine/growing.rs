//! More than one connection (gRFC A105): when one more is dialled, what its failure costs, and what
//! becomes of the SubConn when one of several is lost.

use balancer_api::{ConnectivityState as State, Reconnect};

use crate::{
    machine::MachineTimer,
    rig::{Rig, seconds},
};

/// READY on `a` for a minute, with so many connections allowed.
fn ready(mode: Reconnect, max: usize) -> Rig {
    let mut rig = Rig::new(mode, "a b");
    rig.allow(max).connect().succeed("a").pass(seconds(60.0));
    rig.log();
    rig
}

const MODES: [Reconnect; 2] = [Reconnect::Immediately, Reconnect::WhenAsked];

#[test]
fn one_is_enough_unless_more_are_allowed() {
    let mut rig = ready(Reconnect::WhenAsked, 1);
    assert_eq!(rig.crowd().log(), "");
    // Nor is 0 less than one.
    assert_eq!(rig.allow(0).crowd().log(), "");
}

#[test]
fn a_crowd_gets_one_more_at_a_time_up_to_the_maximum() {
    for mode in MODES {
        let mut rig = ready(mode, 3);
        assert_eq!(rig.crowd().crowd().log(), "dial a", "one at a time");
        assert_eq!(rig.succeed("a").log(), "", "it was READY already");
        assert_eq!(rig.crowd().log(), "dial a");
        assert_eq!(rig.succeed("a").crowd().log(), "", "three are enough");
        assert_eq!(rig.connected.len(), 3);
    }
}

#[test]
fn only_a_ready_one_grows() {
    let mut rig = Rig::new(Reconnect::WhenAsked, "a b");
    assert_eq!(rig.allow(3).crowd().log(), "");
    rig.connect().crowd();
    assert_eq!(rig.log(), "C, dial a");
    rig.fail("a").crowd().fail("b").crowd();
    assert_eq!(rig.log(), "dial b, resolve, TF(b refused)");
}

/// The second address is another backend, perhaps: a connection to it is not what READY was told of.
#[test]
fn one_more_goes_to_the_address_that_is_connected() {
    let mut rig = Rig::racing("a b", seconds(0.25));
    rig.allow(2).connect().fail("a").succeed("b");
    rig.pass(seconds(60.0)).log();
    assert_eq!(rig.crowd().pass(seconds(5.0)).log(), "dial b");
    assert_eq!(rig.fail("b").log(), "no more(b refused)");
    assert_eq!(rig.state, State::Ready);
}

/// What the first connection has earned lets the back-off begin anew once; then it grows.
#[test]
fn failures_are_backed_off_and_seen_by_nobody() {
    for mode in MODES {
        let mut rig = ready(mode, 2);
        for wait in [1.0, 1.6, 2.56, 4.096] {
            assert_eq!(rig.crowd().log(), "dial a");
            assert_eq!(rig.fail("a").log(), "no more(a refused)");
            assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(wait)));
            assert_eq!(
                rig.pass(seconds(wait - 0.01)).crowd().log(),
                "",
                "too early"
            );
            rig.pass(seconds(0.01));
        }
        // From here on the new one's own proof counts.
        rig.crowd().succeed("a").pass(seconds(1.0)).lose_nth(1);
        rig.crowd().fail("a");
        assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(1.0)));
    }
}

/// Failures from before it was READY are forgotten by the dial that begins when it has proven itself; one
/// that began before costs what it cost then.
#[test]
fn what_a_connection_has_earned_counts_for_another() {
    let ready_at_last = || {
        let mut rig = Rig::new(Reconnect::WhenAsked, "a");
        for wait in [1.0, 1.6, 2.56] {
            rig.allow(2).connect().fail("a").pass(seconds(wait));
        }
        rig.connect().succeed("a");
        rig
    };
    let mut rig = ready_at_last();
    rig.pass(seconds(1.0)).crowd().fail("a");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(1.0)));

    let mut rig = ready_at_last();
    rig.crowd().earn().fail("a");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(4.096)));
    rig.pass(seconds(4.096)).crowd().fail("a");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(1.6)));
}

/// The oldest has let the back-off begin anew already: its loss does not do so once more.
#[test]
fn what_was_earned_once_is_not_earned_again_by_a_loss() {
    let mut rig = ready(Reconnect::WhenAsked, 3);
    // Each wait is the shortest: the second connection is not proven when the first wait is over.
    rig.random = 0;
    rig.crowd().succeed("a").crowd().fail("a");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(0.8)));
    rig.lose().pass(seconds(0.8)).crowd().fail("a");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(1.28)));
}

/// A dial has failed, and a short connection is lost: the next dial comes after both waits.
#[test]
fn of_two_waits_for_another_the_longer_counts() {
    let mut rig = ready(Reconnect::WhenAsked, 3);
    rig.crowd().succeed("a").pass(seconds(0.5));
    rig.crowd().fail("a").pass(seconds(0.1)).lose_nth(1);
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(0.9)));
}

#[test]
fn a_dial_that_hangs_ends_at_the_connect_deadline() {
    let mut rig = ready(Reconnect::Immediately, 2);
    rig.crowd();
    assert_eq!(rig.due(MachineTimer::PassDeadline), Some(seconds(20.0)));
    rig.pass(seconds(20.0));
    let told = rig.log();
    assert!(
        told.starts_with("dial a, cancel a, no more(a: no HTTP/2 connection within"),
        "{told}"
    );
    // The deadline is later than the back-off: nothing is left to wait for.
    assert_eq!(rig.crowd().log(), "dial a");
}

#[test]
fn the_loss_of_one_of_two_is_no_loss_for_the_others() {
    for mode in MODES {
        for nth in [0, 1] {
            let mut rig = ready(mode, 2);
            rig.crowd().succeed("a").pass(seconds(60.0)).log();
            assert_eq!(rig.lose_nth(nth).log(), "release a, resolve");
            assert_eq!((rig.state, rig.connected.len()), (State::Ready, 1));
            assert_eq!(rig.crowd().log(), "dial a", "and its place is free");
        }
    }
}

/// A peer that takes the second connection and closes it at once is dialled as if it refused it.
#[test]
fn one_more_that_is_lost_before_it_has_earned_anything_is_backed_off() {
    let mut rig = ready(Reconnect::WhenAsked, 2);
    for wait in [1.0, 1.6, 2.56] {
        rig.crowd().succeed("a");
        assert_eq!(rig.lose_nth(1).log(), "dial a, release a, resolve");
        assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(wait)));
        assert_eq!(rig.crowd().log(), "", "too early");
        rig.pass(seconds(wait));
    }
    // With response headers on it, it is.
    rig.crowd().succeed("a").earn_nth(1).lose_nth(1);
    assert_eq!(rig.due(MachineTimer::Backoff), None);
}

/// Whatever is going on for another connection, the loss of the last is as the loss of the only one.
#[test]
fn the_loss_of_the_last_is_as_the_loss_of_the_only_one() {
    let lost = |rig: &mut Rig| rig.lose().log();
    // A dial is under way.
    let mut rig = ready(Reconnect::WhenAsked, 2);
    rig.crowd();
    let told = lost(&mut rig);
    assert_eq!(told, "dial a, release a, resolve, cancel a, I(reset)");
    assert_eq!(rig.connect().log(), "C, dial a");

    let mut rig = ready(Reconnect::Immediately, 2);
    rig.crowd();
    let told = lost(&mut rig);
    assert_eq!(
        told,
        "dial a, release a, resolve, cancel a, C(reset), dial a"
    );

    // A back-off is under way: it was for more of what there is no longer any.
    let mut rig = ready(Reconnect::WhenAsked, 2);
    rig.crowd().fail("a");
    let told = lost(&mut rig);
    assert_eq!(
        told,
        "dial a, no more(a refused), release a, resolve, I(reset)"
    );
    assert_eq!(rig.connect().log(), "C, dial a");
    rig.fail("a").fail("b");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(1.0)));
}

/// Unless it had earned nothing: then the longer of the two waits is over first, here that for another.
#[test]
fn a_last_one_that_has_earned_nothing_is_backed_off() {
    let mut rig = Rig::new(Reconnect::WhenAsked, "a");
    rig.allow(2).connect().succeed("a");
    rig.pass(seconds(0.25)).crowd().fail("a");
    rig.pass(seconds(0.25)).lose();
    assert_eq!(
        rig.log(),
        "C, dial a, R(a), dial a, no more(a refused), release a, resolve, I(reset)"
    );
    assert_eq!(rig.connect().log(), "C, TF(reset)");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(0.75)));
}

#[test]
fn another_maximum_counts_at_once_and_closes_nothing() {
    let mut rig = ready(Reconnect::Immediately, 1);
    assert_eq!(rig.allow(3).crowd().succeed("a").log(), "dial a");
    assert_eq!(rig.crowd().log(), "dial a");
    // What is not there yet is not made any more.
    assert_eq!(rig.allow(2).log(), "cancel a");
    assert_eq!(rig.allow(1).crowd().log(), "");
    assert_eq!(rig.connected.len(), 2);
    assert_eq!(rig.lose().crowd().log(), "release a, resolve");
    assert_eq!(rig.allow(2).crowd().log(), "dial a");
}

#[test]
fn a_new_list_keeps_all_or_none() {
    let mut rig = ready(Reconnect::WhenAsked, 3);
    rig.crowd().succeed("a").crowd().log();
    assert_eq!(rig.update("c a").log(), "", "the dial goes on too");
    assert_eq!(rig.connected.len(), 2);
    assert_eq!(
        rig.update("c").log(),
        "cancel a, release a, release a, C, dial c"
    );
    rig.succeed("c").crowd().log();
    assert_eq!(rig.update("").log(), "cancel c, release c, I");
}

#[test]
fn a_reset_ends_the_wait_for_another() {
    let mut rig = ready(Reconnect::WhenAsked, 2);
    rig.crowd().fail("a").log();
    assert_eq!(rig.reset_backoff().crowd().log(), "dial a");
    rig.fail("a");
    assert_eq!(rig.due(MachineTimer::Backoff), Some(seconds(1.0)));
}

#[test]
fn removal_ends_them_all() {
    let mut rig = ready(Reconnect::Immediately, 3);
    rig.crowd().succeed("a").crowd().log();
    assert_eq!(rig.remove().log(), "cancel a, release a, release a, X");
}
