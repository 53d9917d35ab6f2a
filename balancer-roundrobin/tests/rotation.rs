//! Whose turn it is: exact cycles, across the counter's wrap, across pickers, across threads.

use std::{collections::BTreeMap, sync::Barrier, thread};

use balancer_api::{PickOptions, SubConn};
use balancer_roundrobin::RoundRobin;
use balancer_testkit::Script;
use proptest::prelude::*;

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// A channel whose first `count` backends are READY. The base draws once for the order in which it
/// connects, the policy once for its start.
fn ready(count: usize, start: u64) -> Script {
    let mut conn = Script::new(RoundRobin::new());
    conn.random([0, start]).update(&NAMES[..count]);
    conn.batch(|conn| {
        for name in &NAMES[..count] {
            conn.ready(name);
        }
    });
    conn
}

#[test]
fn picks_go_round_in_the_resolvers_order() {
    let mut conn = ready(3, 1);
    assert_eq!(conn.picks(7), ["b", "c", "a", "b", "c", "a", "b"]);
}

#[test]
fn the_counter_wraps_without_a_glitch() {
    // 2^64 is no multiple of 3, 5, 6 or 7: a bare remainder would jump at the wrap.
    for count in 1..=7 {
        for before_wrap in 0..=2 * count {
            let start = u64::MAX - before_wrap as u64;
            let first = (start % count as u64) as usize;
            let picks = ready(count, start).picks(5 * count);
            let expected = NAMES[..count].iter().cycle().skip(first).take(5 * count);
            assert!(
                picks.iter().eq(expected),
                "start {start}, {count} backends: {picks:?}"
            );
        }
    }
}

#[test]
fn channels_start_at_every_backend() {
    let starts: Vec<_> = (0..7).map(|start| ready(7, start).pick()).collect();
    assert_eq!(starts, NAMES);
}

#[test]
fn a_lost_connection_leaves_the_rotation_and_takes_nobody_elses_turn() {
    let mut conn = ready(3, 0);
    assert_eq!(conn.pick(), "a");
    conn.lost("b");
    assert_eq!(conn.picks(3), ["c", "a", "c"], "b is gone: c is next");
    conn.ready("b");
    assert_eq!(
        conn.picks(4),
        ["a", "b", "c", "a"],
        "must go on where it was"
    );
}

#[test]
fn a_picker_per_rpc_is_as_fair_as_one_for_all() {
    // Something unrelated flaps before each RPC. With a start at 0 the first backend would get
    // every RPC; with a bare shared counter some backend would.
    for start in 0..4 {
        let mut conn = ready(4, start);
        let mut counts = BTreeMap::new();
        for round in 0..300 {
            match round % 2 {
                0 => conn.lost("d"),
                _ => conn.ready("d"),
            };
            *counts.entry(conn.pick().to_string()).or_insert(0) += 1;
        }
        let stable = ["a", "b", "c"].map(|name| counts[name]);
        let spread = stable.iter().max().unwrap() - stable.iter().min().unwrap();
        assert!(spread <= 1, "start {start}: {counts:?}");
    }
}

#[test]
fn a_new_list_goes_on_with_the_backend_whose_turn_it_is() {
    let mut conn = ready(3, 0);
    assert_eq!(conn.pick(), "a");
    conn.update(["c", "a", "b"]);
    assert_eq!(
        conn.picks(3),
        ["b", "c", "a"],
        "b is next, then the new order"
    );
    // The resolver turns its answer by one each time, the other way round: by place alone the same
    // backend would be next for ever.
    let mut counts = BTreeMap::new();
    let mut list = ["a", "b", "c"];
    for _ in 0..30 {
        list.rotate_right(1);
        conn.update(list);
        *counts.entry(conn.pick().to_string()).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10, 10, 10]);
}

#[test]
fn a_backend_whose_turn_it_is_may_be_gone_from_the_new_list() {
    let mut conn = ready(4, 0);
    assert_eq!(conn.pick(), "a");
    conn.update(["a", "c", "d"]);
    assert_eq!(conn.picks(3), ["c", "d", "a"], "b was next: c inherits");
    conn.update(["x", "y"]).ready("x").ready("y");
    assert_eq!(conn.picks(2).len(), 2, "nobody is left: any start will do");
}

#[test]
fn a_list_of_strangers_starts_anywhere() {
    // A fleet of clients that hear of the same move to new backends must not all open with the same
    // one: as for a new channel, chance decides.
    let start_at = |start| {
        let mut conn = ready(2, 0);
        assert_eq!(conn.pick(), "a");
        conn.random([start]).update(["x", "y", "z"]);
        conn.batch(|conn| {
            conn.ready("x").ready("y").ready("z");
        });
        conn.picks(4)
    };
    assert_eq!(start_at(0), ["x", "y", "z", "x"]);
    assert_eq!(start_at(1), ["y", "z", "x", "y"]);
    assert_eq!(start_at(2), ["z", "x", "y", "z"]);
}

#[test]
fn old_and_new_picker_hand_out_each_turn_once() {
    let mut conn = ready(3, 0);
    let old = conn.picker();
    let from_old = |conn: &mut Script| conn.rpc_from(&*old).outcome().to_string();
    assert_eq!(from_old(&mut conn), "a");
    conn.lost("c").ready("c");
    // RPCs that still hold the old picker take their turns from the same rotation.
    assert_eq!(from_old(&mut conn), "b");
    assert_eq!(conn.pick(), "c");
    assert_eq!(from_old(&mut conn), "a");
    assert_eq!(conn.pick(), "b");
}

#[test]
fn concurrent_picks_are_exactly_even() {
    const THREADS: usize = 4;
    const PICKS: usize = 30_000;
    let conn = ready(3, u64::MAX - 10_000);
    let picker = conn.picker();
    let first: Vec<SubConn> = (0..3)
        .map(|_| {
            let pick = picker.pick(&PickOptions::new("/s/m"));
            pick.expect("a READY SubConn").sub_conn().clone()
        })
        .collect();
    let start = Barrier::new(THREADS);
    let work = || {
        let mut counts = [0; 3];
        start.wait();
        for _ in 0..PICKS {
            let pick = picker.pick(&PickOptions::new("/s/m"));
            let pick = pick.expect("a READY SubConn");
            let at = first.iter().position(|sc| sc == pick.sub_conn());
            counts[at.expect("one of three")] += 1;
        }
        counts
    };
    let mut counts = [0; 3];
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            for (sum, count) in counts.iter_mut().zip(thread.join().expect("no panic")) {
                *sum += count;
            }
        }
    });
    let fair = THREADS * PICKS / 3;
    assert_eq!(counts, [fair; 3], "each index must be handed out once");
}

#[test]
fn a_retry_goes_to_a_backend_that_it_has_not_tried() {
    let mut conn = ready(3, 0);
    let first = conn.rpc();
    let tried = [first.sub_conn().expect("a READY SubConn").clone()];
    assert_eq!(first.outcome(), &"a");
    assert_eq!(conn.picks(2), ["b", "c"]);
    let again = PickOptions::new("/s/m").with_attempt(1, &tried);
    assert_eq!(conn.pick_with(&again), "b", "a's turn was passed over");

    let tried: Vec<SubConn> = (0..3)
        .map(|_| conn.rpc().sub_conn().expect("a READY SubConn").clone())
        .collect();
    let again = PickOptions::new("/s/m").with_attempt(3, &tried);
    assert_eq!(
        conn.pick_with(&again),
        "b",
        "c and a were passed over, then whoever comes"
    );
}

/// What may happen between picks.
#[derive(Clone, Debug)]
enum Step {
    Flap(usize),
    /// The list becomes these, in this order.
    List(Vec<usize>),
    Picks(usize),
}

/// Whose turn it is, kept the slow way.
#[derive(Default)]
struct Model {
    list: Vec<usize>,
    ready: Vec<bool>,
    /// Everybody who was READY when the picker was made, beginning with the one whose turn it is.
    turns: Vec<usize>,
    relisted: bool,
}

impl Model {
    fn rebuild(&mut self) {
        let now: Vec<usize> = self
            .list
            .iter()
            .copied()
            .filter(|b| self.ready[*b])
            .collect();
        if now.is_empty() {
            // Nothing is picked, so nobody's turn moves.
            return;
        }
        let next = match (self.turns.first(), self.relisted) {
            (None, _) => None,
            (Some(next), false) => {
                let rank = |b: &usize| self.list.iter().position(|x| x == b);
                let after = now.iter().copied().find(|b| rank(b) >= rank(next));
                after.or(now.first().copied())
            }
            (Some(_), true) => self.turns.iter().copied().find(|b| now.contains(b)),
        };
        // Scripted random numbers are 0.
        let at = next.and_then(|next| now.iter().position(|b| *b == next));
        self.turns = now;
        self.turns.rotate_left(at.unwrap_or(0));
        self.relisted = false;
    }
}

fn step() -> impl Strategy<Value = Step> {
    let subset = prop::sample::subsequence((0..7).collect::<Vec<_>>(), 1..=7).prop_shuffle();
    prop_oneof![
        4 => (0usize..7).prop_map(Step::Flap),
        1 => subset.prop_map(Step::List),
        3 => (0usize..5).prop_map(Step::Picks),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_pick_is_the_next_in_turn_whatever_happens_between(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut conn = Script::start(RoundRobin::new(), NAMES);
        let mut model = Model {
            list: (0..7).collect(),
            ready: vec![false; 7],
            relisted: true,
            ..Model::default()
        };
        for step in &steps {
            match step {
                Step::Flap(backend) if !model.list.contains(backend) => {}
                Step::Flap(backend) => {
                    match model.ready[*backend] {
                        true => conn.lost(NAMES[*backend]),
                        false => conn.ready(NAMES[*backend]),
                    };
                    model.ready[*backend] ^= true;
                    model.rebuild();
                }
                Step::List(list) => {
                    let same = *list == model.list;
                    model.list.clone_from(list);
                    for backend in 0..7 {
                        model.ready[backend] &= list.contains(&backend);
                    }
                    conn.update(list.iter().map(|b| NAMES[*b]));
                    model.relisted = true;
                    if !same {
                        model.rebuild();
                    }
                }
                Step::Picks(count) => for _ in 0..*count {
                    let pick = conn.pick();
                    if !model.ready.contains(&true) {
                        prop_assert_eq!(pick, "queue");
                        continue;
                    }
                    prop_assert_eq!(pick, NAMES[model.turns[0]]);
                    model.turns.rotate_left(1);
                }
            }
        }
    }
}

#[test]
fn a_very_long_list_and_a_short_one_and_a_long_one_again() {
    let long: Vec<String> = (0..1_000).map(|n| format!("n{n}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let short = ["n990", "n5", "x"];
    let mut conn = Script::new(RoundRobin::new());
    conn.random([0, 0]).update(&long).update(short);
    conn.batch(|conn| {
        for name in short {
            conn.ready(name);
        }
    });
    assert_eq!(conn.picks(4), ["n990", "n5", "x", "n990"]);
    conn.idle("n5");
    let left = conn.picks(2);
    assert!(
        left == ["n990", "x"] || left == ["x", "n990"],
        "who is IDLE is found among those that stayed: {left:?}"
    );

    conn.update(&long);
    conn.ready("n5");
    let left = conn.picks(2);
    assert!(left == ["n5", "n990"] || left == ["n990", "n5"], "{left:?}");
}
