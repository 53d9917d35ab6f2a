//! The judge: which losses are excused, and which are not.

use std::time::{Duration, Instant};

use balancer_api::{DoneInfo, OnDone, Status};

use super::{
    load::Failure,
    verdict::{Spread, Verdict, is_even, judge},
};
use crate::observe::Tally;

const KILLED: &str = "127.0.0.1:1";
const ALIVE: &str = "127.0.0.1:2";

/// An attempt of `rpc` that failed at `address`.
fn fail(tally: &Tally, address: &str, rpc: u64, was_sent: bool) {
    let reset = Status::unavailable("connection reset");
    let info = DoneInfo::new().with_err(&reset).with_bytes_sent(was_sent);
    tally.site(address).on_done(rpc, &info);
}

fn failure(rpc: u64, started: Instant) -> Failure {
    let status = tonic::Status::unavailable("connection reset");
    Failure {
        rpc,
        started,
        status,
    }
}

#[test]
fn only_what_was_on_the_dead_connection_is_excused() {
    let tally = Tally::default();
    let early = Instant::now();
    fail(&tally, KILLED, 1, true);
    fail(&tally, KILLED, 2, false);
    fail(&tally, ALIVE, 3, true);
    tally.site(KILLED).left();
    let late = Instant::now() + Duration::from_secs(1);
    fail(&tally, KILLED, 4, true);

    let failures = [
        failure(1, early),
        failure(2, early),
        failure(3, early),
        failure(4, late),
        failure(5, early),
    ];
    let judged = judge(&failures, &tally, KILLED);
    let avoidable: Vec<(u64, bool)> = judged.iter().map(|l| (l.rpc, l.avoidable)).collect();
    assert_eq!(
        avoidable,
        [
            (1, false), // it was on its way when the backend died
            (2, true),  // it never left
            (3, true),  // it was sent to a backend that is alive
            (4, true),  // it was sent to the dead one when that was known to be dead
            (5, true),  // it was never sent at all
        ]
    );
}

#[test]
fn an_avoidable_loss_fails_the_demo_and_is_shown() {
    let tally = Tally::default();
    let good = verdict(judge(&[], &tally, KILLED));
    assert!(good.is_good());
    assert!(good.for_people().contains("Nothing: no RPC was under way"));

    let bad = verdict(judge(&[failure(7, Instant::now())], &tally, KILLED));
    assert!(!bad.is_good());
    let text = bad.for_people();
    assert!(text.contains("1 RPC WAS LOST that could have been saved"));
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
