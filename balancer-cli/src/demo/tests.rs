//! The judge: which losses are excused, and which are not.

use std::time::{Duration, Instant};

use super::{
    load::Failure,
    verdict::{Evidence, Spread, Verdict, is_even, judge, spread},
};
use crate::observe::Attempt;

const KILLED: &str = "127.0.0.1:1";
const ALIVE: &str = "127.0.0.1:2";

/// RPCs that start a millisecond apart.
fn evidence(rpcs: u64) -> Evidence {
    let start = Instant::now();
    Evidence {
        starts: (0..rpcs)
            .map(|n| start + Duration::from_millis(n))
            .collect(),
        attempts: Vec::new(),
        failures: Vec::new(),
        loss_known: None,
    }
}

fn attempt(rpc: u64, address: &str, is_ok: bool) -> Attempt {
    Attempt {
        rpc,
        address: address.into(),
        is_ok,
    }
}

fn failure(rpc: u64) -> Failure {
    let status = tonic::Status::unavailable("connection reset");
    Failure { rpc, status }
}

#[test]
fn only_what_was_on_the_dead_connection_is_excused() {
    let mut evidence = evidence(5);
    evidence.loss_known = Some(evidence.starts[3]);
    evidence.attempts = vec![
        attempt(1, KILLED, false),
        attempt(2, KILLED, true),
        attempt(3, ALIVE, false),
        attempt(5, KILLED, false),
    ];
    evidence.failures = (1..=5).map(failure).collect();
    let judged = judge(&evidence, KILLED);
    let avoidable: Vec<(u64, bool)> = judged.iter().map(|l| (l.rpc, l.avoidable)).collect();
    assert_eq!(
        avoidable,
        [
            (1, false), // it was on its way when the backend died
            (2, true),  // the backend had answered it
            (3, true),  // it was sent to a backend that is alive
            (4, true),  // it was never sent at all
            (5, true),  // it was sent to the dead one when that was known to be dead
        ]
    );
}

#[test]
fn rpcs_are_told_apart_by_when_they_started() {
    let mut evidence = evidence(12);
    let places = [
        KILLED, ALIVE, KILLED, ALIVE, ALIVE, ALIVE, ALIVE, ALIVE, KILLED, ALIVE, KILLED, ALIVE,
    ];
    let attempts = (1..).zip(places);
    evidence.attempts = attempts
        .map(|(rpc, place)| attempt(rpc, place, true))
        .collect();
    // It ended last, but started first.
    evidence.attempts.rotate_left(1);
    evidence.loss_known = Some(evidence.starts[4]);
    let backends = [KILLED.to_owned(), ALIVE.to_owned()];
    let spread = spread(&evidence, &backends, KILLED, evidence.starts[6]);
    assert_eq!(spread.before, [2, 2]);
    assert_eq!(spread.while_down, [0, 2]);
    assert_eq!(spread.after, [2, 2], "from the first RPC that came back on");
}

#[test]
fn an_avoidable_loss_fails_the_demo_and_is_shown() {
    let mut evidence = evidence(7);
    let good = verdict(judge(&evidence, KILLED));
    assert!(good.is_good());
    assert!(good.for_people().contains("Nothing: no RPC was under way"));

    evidence.failures = vec![failure(7)];
    let bad = verdict(judge(&evidence, KILLED));
    assert!(!bad.is_good());
    let text = bad.for_people();
    assert!(
        text.contains("1 RPC WAS LOST that could have been saved"),
        "{text}"
    );
    assert!(
        text.contains("RPC 7: UNAVAILABLE: connection reset"),
        "{text}"
    );
}

#[test]
fn a_backend_that_stays_away_fails_the_demo() {
    let mut away = verdict(Vec::new());
    away.ready_after_restart_ms = None;
    assert!(!away.is_good() && away.for_people().contains("NEVER"));
    let mut uneven = verdict(Vec::new());
    uneven.even_again = false;
    assert!(!uneven.is_good() && uneven.for_people().contains("NOT even"));
}

#[test]
fn even_means_four_fifths_of_a_share() {
    assert!(is_even(&[100, 100, 100]) && is_even(&[80, 110, 110]));
    assert!(!is_even(&[79, 110, 111]) && !is_even(&[0, 0, 0]) && !is_even(&[10, 0]));
}

fn verdict(errors: Vec<super::verdict::Lost>) -> Verdict {
    let avoidable = errors.iter().filter(|lost| lost.avoidable).count() as u64;
    Verdict {
        backends: vec![KILLED.to_owned(), ALIVE.to_owned()],
        killed: KILLED.to_owned(),
        rpcs: 100,
        ok: 100 - errors.len() as u64,
        lost_unavoidably: errors.len() as u64 - avoidable,
        lost_avoidably: avoidable,
        in_flight_at_kill: 0,
        ready_after_restart_ms: Some(1),
        spread: Spread {
            before: vec![10, 10],
            while_down: vec![0, 20],
            after: vec![10, 10],
        },
        even_again: true,
        elapsed_ms: 1,
        errors,
    }
}
