//! Wrong channels: the suite names what each does wrong, and is silent on the right one.

use std::collections::BTreeSet;

use balancer_mutants::channel::{Fault, Reference};
use balancer_testkit::{ChannelLaw, ChannelSuite, channel_conformance, witness::Verdict};

channel_conformance!(right: |policies| Reference::new(Fault::None, policies));

fn suite(fault: Fault) -> ChannelSuite {
    ChannelSuite::new(move |policies| Reference::new(fault, policies))
}

#[test]
fn every_fault_is_called_by_its_law() {
    let mut missed = Vec::new();
    for (fault, law) in Fault::ALL {
        match suite(*fault).judge(*law) {
            Verdict::Broken(_) => {}
            verdict => missed.push(format!("{fault:?}: {law} is {verdict}")),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    assert!(Fault::ALL.len() >= 60, "there are {}", Fault::ALL.len());
}

#[test]
fn every_law_is_needed() {
    // The others off, each law catches at least one fault: its own, which no other law sees.
    let mut alone = BTreeSet::new();
    for (fault, law) in Fault::ALL {
        let broken = suite(*fault).broken();
        let laws: Vec<ChannelLaw> = broken.iter().map(|broken| broken.law).collect();
        println!("{fault:?}: {laws:?}");
        if laws == [*law] {
            alone.insert(*law);
        }
    }
    let laws = ChannelLaw::ALL.iter().copied();
    let needless: Vec<ChannelLaw> = laws
        .filter(|law| !law.is_held_by_types() && !alone.contains(law))
        .collect();
    assert!(needless.is_empty(), "no fault takes just {needless:?}");
}

#[test]
fn a_broken_law_comes_with_an_account() {
    let Verdict::Broken(broken) = suite(Fault::NotReadyFails).judge(ChannelLaw::NotReadyWaits)
    else {
        panic!("C1 must be caught");
    };
    let account = broken.to_string();
    println!("{account}");
    for words in [
        "the channel broke `not_ready_waits`",
        "RPC 0 must wait, since its pick is CONNECTING; it failed with UNAVAILABLE",
        "a picker may be one state behind",
        "the peer at a: dials Hang",
        "first#1 is told: the SubConn to a is CONNECTING",
        "an RPC asks picker early",
    ] {
        let found = account.to_lowercase().contains(&words.to_lowercase());
        assert!(found, "the account must say {words:?}:\n{account}");
    }
}
