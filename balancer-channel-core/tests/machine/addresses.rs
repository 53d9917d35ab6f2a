//! A new address list in every state.

use balancer_api::{
    Address, Attributes,
    Reconnect::{Immediately, WhenAsked},
};

use crate::{
    machine::MachineTimer,
    rig::{Rig, list, seconds},
};

const MODES: [balancer_api::Reconnect; 2] = [Immediately, WhenAsked];

#[test]
fn an_equal_list_does_nothing() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a b");
        rig.connect().update("a b").update("a b a");
        assert_eq!(rig.log(), "C, dial a", "duplicates do not make it another");
        rig.succeed("a").update("a b");
        assert_eq!(rig.log(), "R(a)");
    }
}

#[test]
fn each_address_is_dialled_once_per_pass() {
    let mut rig = Rig::new(WhenAsked, "a b a b");
    rig.connect().fail("a").fail("b");
    assert_eq!(rig.log(), "C, dial a, dial b, resolve, TF(b refused)");
}

#[test]
fn a_listed_connection_is_kept() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a b");
        rig.connect().fail("a").succeed("b");
        rig.log();
        rig.update("c b");
        assert_eq!(rig.log(), "", "no state change");
        rig.earn().lose();
        rig.log();
        rig.connect().fail("c");
        let dialled = rig.log();
        assert!(dialled.ends_with("dial b"), "the new order: {dialled}");
    }
}

#[test]
fn an_unlisted_connection_is_replaced() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a");
        rig.connect().succeed("a");
        rig.log();
        rig.update("b c");
        assert_eq!(rig.log(), "release a, C, dial b", "R→C in both modes");
    }
}

#[test]
fn attributes_are_part_of_an_address_and_balancer_attributes_are_not() {
    let with = |n: u32| Attributes::new().with(n);
    let mut rig = Rig::new(WhenAsked, "a");
    rig.connect().succeed("a");
    rig.log();
    let (now, mut out) = (rig.now, Vec::new());
    let same = Address::new("a").with_balancer_attributes(with(1));
    rig.machine.update_addresses(vec![same], now, 0, &mut out);
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(
        rig.machine.addresses()[0]
            .balancer_attributes()
            .get::<u32>(),
        Some(&1),
        "but the new ones are kept"
    );
    let other = Address::new("a").with_attributes(with(1));
    rig.machine.update_addresses(vec![other], now, 0, &mut out);
    assert!(!out.is_empty(), "another address: it must reconnect");
}

#[test]
fn while_connecting_what_is_still_listed_goes_on() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a b c");
        rig.connect().fail("a");
        rig.log();
        rig.update("d a b");
        assert_eq!(rig.log(), "", "b is still being tried");
        rig.fail("b");
        assert_eq!(rig.log(), "dial d", "and a's failure still counts");
        rig.fail("d");
        assert_eq!(rig.log(), "resolve, TF(d refused)");
    }
}

#[test]
fn while_connecting_what_is_not_listed_is_given_up() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a b");
        rig.connect().fail("a");
        rig.log();
        rig.update("a c");
        assert_eq!(rig.log(), "cancel b, dial c");

        // The last one that could be tried is gone: the pass has failed.
        rig.update("a");
        assert_eq!(rig.log(), "cancel c, resolve, TF(a refused)");
    }
}

#[test]
fn a_wholly_new_list_gets_a_whole_pass() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a");
        rig.connect().pass(seconds(19.0)).update("b");
        assert_eq!(rig.log(), "C, dial a, cancel a, dial b");
        assert_eq!(rig.due(MachineTimer::PassDeadline), Some(seconds(20.0)));
    }
}

#[test]
fn in_transient_failure_only_a_new_address_ends_the_wait() {
    for mode in MODES {
        let mut rig = Rig::new(mode, "a b");
        rig.connect().fail("a").fail("b");
        rig.log();
        rig.update("b");
        assert_eq!(rig.log(), "", "a shorter list shortens no wait");
        rig.update("b c");
        let moved = match mode {
            Immediately => "C, dial b",
            WhenAsked => "I",
        };
        assert_eq!(rig.log(), moved);
    }
}

#[test]
fn an_emptied_list_means_idle() {
    for mode in MODES {
        let mut connecting = Rig::new(mode, "a");
        connecting.connect().update("");
        assert_eq!(connecting.log(), "C, dial a, cancel a, I");

        let mut ready = Rig::new(mode, "a");
        ready.connect().succeed("a").update("");
        assert_eq!(ready.log(), "C, dial a, R(a), release a, I");

        let mut waiting = Rig::new(mode, "a");
        waiting.connect().fail("a").update("").pass(seconds(100.0));
        assert_eq!(waiting.log(), "C, dial a, resolve, TF(a refused), I");
        waiting.update("a").connect();
        assert_eq!(waiting.log(), "C, dial a", "re-adding works");
    }
}

#[test]
fn a_new_address_ends_the_penalty_of_a_short_connection() {
    let mut rig = Rig::new(WhenAsked, "a");
    rig.connect().succeed("a").lose().update("a b");
    rig.log();
    rig.connect();
    assert_eq!(rig.log(), "C, dial a");
    assert_eq!(rig.machine.addresses(), list("a b"));
}
