//! Whose turn it is: exact cycles, across the counter's wrap, across pickers, across threads.

#[path = "../../balancer-api/tests/support/mod.rs"]
mod support;

use std::{collections::BTreeMap, sync::Barrier, thread};

use balancer_api::{PickOptions, SubConn};
use balancer_roundrobin::RoundRobin;
use support::{Driver, number};

const NAMES: [&str; 7] = ["a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1"];

/// A channel whose first `count` backends are READY. The base draws once for the order in which it
/// connects, the policy once for its start.
fn ready(count: usize, start: u64) -> Driver {
    let mut driver = Driver::with_random(&RoundRobin::new(), [0, start]);
    driver.resolve(&NAMES[..count]).expect("a good list");
    for number in 0..count {
        driver.move_to(number, balancer_api::ConnectivityState::Ready);
    }
    driver.balancer.settle();
    driver
}

#[test]
fn picks_go_round_in_the_resolvers_order() {
    let driver = ready(3, 1);
    let picks = driver.cc.picks(7);
    assert_eq!(picks, [1, 2, 0, 1, 2, 0, 1], "must be exact cycles");
}

#[test]
fn the_counter_wraps_without_a_glitch() {
    // 2^64 is no multiple of 3, 5, 6 or 7: a bare remainder would jump at the wrap.
    for count in 1..=7u64 {
        for before_wrap in 0..=2 * count {
            let start = u64::MAX - before_wrap;
            let driver = ready(count as usize, start);
            let first = start % count;
            let expected: Vec<_> = (0..5 * count)
                .map(|i| ((first + i) % count) as usize)
                .collect();
            let picks = driver.cc.picks(expected.len());
            assert_eq!(picks, expected, "start {start}, {count} backends");
        }
    }
}

#[test]
fn channels_start_at_every_backend() {
    let starts: Vec<_> = (0..7).map(|r| ready(7, r).cc.picks(1)[0]).collect();
    assert_eq!(starts, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_lost_connection_leaves_the_rotation_and_nobody_elses_turn() {
    let mut driver = ready(3, 0);
    assert_eq!(driver.cc.picks(1), [0]);
    driver.idle(1);
    assert_eq!(driver.cc.picks(3), [2, 0, 2], "b is gone: c is next");
    driver.ready(1);
    assert_eq!(driver.cc.picks(4), [0, 1, 2, 0], "must go on where it was");
}

#[test]
fn a_picker_per_rpc_is_as_fair_as_one_for_all() {
    // Something unrelated flaps before each RPC. Without a carried rotation the first backend
    // would get every RPC; with a bare shared counter some backend would.
    for start in 0..4 {
        let mut driver = ready(4, start);
        let mut counts = BTreeMap::new();
        for round in 0..300 {
            match round % 2 {
                0 => driver.idle(3),
                _ => driver.ready(3),
            };
            *counts.entry(driver.cc.picks(1)[0]).or_insert(0) += 1;
        }
        let stable: Vec<i32> = (0..3).map(|i| counts[&i]).collect();
        let spread = stable.iter().max().unwrap() - stable.iter().min().unwrap();
        assert!(spread <= 1, "start {start}: {counts:?}");
    }
}

#[test]
fn a_new_list_goes_on_with_the_backend_whose_turn_it_is() {
    let mut driver = ready(3, 0);
    assert_eq!(driver.cc.picks(1), [0]);
    driver.resolve(&["c:1", "a:1", "b:1"]).expect("a good list");
    assert_eq!(
        driver.cc.picks(3),
        [1, 2, 0],
        "b is next, then the new order"
    );
    // The resolver turns its answer by one each time, the other way round: by place alone the same
    // backend would be next for ever.
    let mut counts = BTreeMap::new();
    let mut list = ["a:1", "b:1", "c:1"];
    for _ in 0..30 {
        list.rotate_right(1);
        driver.resolve(&list).expect("a good list");
        *counts.entry(driver.cc.picks(1)[0]).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([(0, 10), (1, 10), (2, 10)]));
}

#[test]
fn a_backend_whose_turn_it_is_may_be_gone_from_the_new_list() {
    let mut driver = ready(4, 0);
    assert_eq!(driver.cc.picks(1), [0]);
    driver.resolve(&["a:1", "c:1", "d:1"]).expect("a good list");
    assert_eq!(driver.cc.picks(3), [2, 3, 0], "b was next: c inherits");
}

#[test]
fn old_and_new_picker_hand_out_each_turn_once() {
    let mut driver = ready(3, 0);
    let old = driver.cc.picker();
    assert_eq!(support::pick(&*old), Ok(0));
    driver.connecting(2).ready(2);
    // RPCs that still hold the old picker take their turns from the same rotation.
    assert_eq!(support::pick(&*old), Ok(1));
    assert_eq!(driver.cc.pick(), Ok(2));
    assert_eq!(support::pick(&*old), Ok(0));
    assert_eq!(driver.cc.pick(), Ok(1));
}

#[test]
fn concurrent_picks_are_exactly_even() {
    const THREADS: usize = 4;
    const PICKS: usize = 30_000;
    let driver = ready(3, u64::MAX - 10_000);
    let picker = driver.cc.picker();
    let start = Barrier::new(THREADS);
    let mut counts = [0; 3];
    thread::scope(|scope| {
        let work = || {
            let mut counts = [0; 3];
            start.wait();
            for _ in 0..PICKS {
                counts[support::pick(&*picker).expect("a READY SubConn")] += 1;
            }
            counts
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            for (sum, count) in counts.iter_mut().zip(thread.join().expect("no panic")) {
                *sum += count;
            }
        }
    });
    assert_eq!(
        counts,
        [THREADS * PICKS / 3; 3],
        "each index must be handed out once"
    );
}

#[test]
fn a_retry_goes_to_a_backend_that_it_has_not_tried() {
    let driver = ready(3, 0);
    let picker = driver.cc.picker();
    let tried: Vec<SubConn> = vec![driver.cc.sub_conn(0)];
    let options = PickOptions::new("/s/m").with_attempt(1, &tried);
    let pick = picker.pick(&options).expect("a READY SubConn");
    assert_eq!(number(pick.sub_conn()), 1, "must draw again: a was tried");

    // All tried: two more draws, then whatever comes.
    let tried: Vec<SubConn> = (0..3).map(|i| driver.cc.sub_conn(i)).collect();
    let options = PickOptions::new("/s/m").with_attempt(3, &tried);
    let pick = picker.pick(&options).expect("a READY SubConn");
    assert_eq!(
        number(pick.sub_conn()),
        1,
        "turns c and a were passed over, then b"
    );
}
