//! The READY set against a naive list: whatever flaps, and however often the list changes.

mod support;

use std::sync::{Arc, Mutex};

use balancer_api::{
    ConnectivityState as S,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
    *,
};
use proptest::prelude::*;
use support::{Driver, number};

/// Gives the test every set that it is given.
#[derive(Clone, Default)]
struct Spy {
    last: Arc<Mutex<ReadySet>>,
}

impl PickerBuilder for Spy {
    type Data = ();
    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        *self.last.lock().expect("no panic") = ready.clone();
        Arc::new(QueuePicker)
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A backend's connection comes or goes.
    Flap(usize),
    /// Many do, before the next settle.
    Burst(Vec<usize>),
    /// A READY one is told READY once more.
    Again(usize),
    /// The list is turned by that many.
    Turn(usize),
    /// A backend leaves the list, or comes back at its end.
    Toggle(usize),
}

/// What the set should be, kept the slow way.
struct Model {
    driver: Driver,
    spy: Spy,
    /// Backends by number, in the resolver's order.
    list: Vec<usize>,
    /// For each backend: its SubConn's number, and whether that is READY.
    sub_conns: Vec<Option<(usize, bool)>>,
}

impl Model {
    fn new(size: usize) -> Self {
        let spy = Spy::default();
        let give = spy.clone();
        let driver = Driver::new(&BaseBuilder::new("spy", move || give.clone()));
        let mut model = Self {
            driver,
            spy,
            list: (0..size).collect(),
            sub_conns: vec![None; size],
        };
        model.resolve();
        model
    }

    fn resolve(&mut self) {
        let mut listed = vec![false; self.sub_conns.len()];
        self.list.iter().for_each(|backend| listed[*backend] = true);
        for (sub_conn, listed) in self.sub_conns.iter_mut().zip(listed) {
            *sub_conn = sub_conn.filter(|_| listed);
        }
        let mut made = self.driver.cc.sub_conns();
        for backend in &self.list {
            // New ones are made in the list's order: the recorder's random numbers are 0.
            if self.sub_conns[*backend].is_none() {
                self.sub_conns[*backend] = Some((made, false));
                made += 1;
            }
        }
        // Some are named twice, so that ranks are no places.
        let named = |b: &usize| {
            vec![Endpoint::from(&*format!("b{b}:1")); 1 + usize::from(b.is_multiple_of(5))]
        };
        let list = ResolvedAddrs::new(self.list.iter().flat_map(named));
        let verdict = self.driver.balancer.handle_resolved_addrs(Ok(list));
        assert_eq!(verdict.is_err(), self.list.is_empty());
        assert_eq!(
            self.driver.cc.sub_conns(),
            made,
            "one SubConn for each new endpoint"
        );
    }

    fn flap(&mut self, backend: usize) {
        if let Some((number, ready)) = &mut self.sub_conns[backend] {
            *ready = !*ready;
            let state = if *ready { S::Ready } else { S::Idle };
            self.driver.move_to(*number, state);
        }
    }

    fn apply(&mut self, step: &Step) {
        let size = self.sub_conns.len();
        match step {
            Step::Flap(backend) => self.flap(backend % size),
            Step::Burst(backends) => backends.iter().for_each(|b| self.flap(b % size)),
            Step::Again(backend) => {
                if let Some((number, true)) = self.sub_conns[backend % size] {
                    self.driver.move_to(number, S::Ready);
                }
            }
            Step::Turn(by) => {
                let by = by % self.list.len().max(1);
                self.list.rotate_left(by);
                self.resolve();
            }
            Step::Toggle(backend) => {
                let backend = backend % size;
                match self.list.iter().position(|b| *b == backend) {
                    Some(at) => drop(self.list.remove(at)),
                    None => self.list.push(backend),
                }
                self.resolve();
            }
        }
        self.driver.balancer.settle();
    }

    fn expected(&self) -> Vec<usize> {
        let ready = self.list.iter().filter_map(|b| self.sub_conns[*b]);
        ready
            .filter(|(_, ready)| *ready)
            .map(|(number, _)| number)
            .collect()
    }

    fn check(&self) {
        let expected = self.expected();
        if expected.is_empty() {
            // Nobody is asked for a picker of nothing.
            return assert_ne!(self.driver.cc.state(), Some(S::Ready));
        }
        assert_eq!(self.driver.cc.state(), Some(S::Ready));
        let set = self.spy.last.lock().expect("no panic").clone();
        let all: Vec<_> = set.iter().map(|ready| number(ready.sub_conn())).collect();
        assert_eq!(all, expected, "iter");
        assert_eq!(set.len(), expected.len());
        assert!(!set.is_empty());
        let each = (0..set.len()).map(|i| number(set.get(i).expect("below len").sub_conn()));
        assert!(each.eq(expected.iter().copied()), "get");
        assert!(set.get(set.len()).is_none(), "past the end");
        assert!(set.iter().is_sorted_by_key(|ready| ready.rank()));
        let listed = self.list.iter().filter(|b| self.sub_conns[**b].is_some());
        let whole = (listed.count() == expected.len()).then_some(expected);
        let found = set
            .whole()
            .map(|all| all.iter().map(|ready| number(ready.sub_conn())).collect());
        assert_eq!(found, whole, "whole");
        let mut before = 0;
        for (index, ready) in set.iter().enumerate() {
            // Those between two of the set as well: each finds the one behind it.
            for rank in [before, ready.rank()] {
                assert_eq!(set.index_of_rank(rank), index, "the index of rank {rank}");
            }
            before = ready.rank() + 1;
        }
        assert_eq!(set.index_of_rank(before), set.len(), "behind the last");
        assert_eq!(set.index_of_rank(u32::MAX), set.len(), "behind every list");
    }
}

/// Any backend, but often one of a few: the same must come and go again.
fn backend() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..6, 0usize..1 << 20]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => backend().prop_map(Step::Flap),
        2 => prop::collection::vec(0usize..1 << 20, 0..20).prop_map(Step::Burst),
        // Bursts that may leave more behind than single changes.
        2 => prop::collection::vec(0usize..1 << 20, 100..250).prop_map(Step::Burst),
        // More at once than an overlay carries.
        1 => prop::collection::vec(0usize..1 << 20, 200..600).prop_map(Step::Burst),
        3 => backend().prop_map(Step::Again),
        1 => (0usize..100).prop_map(Step::Turn),
        1 => backend().prop_map(Step::Toggle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_set_is_what_a_naive_list_would_be(
        // Short lists are always flat; long ones carry an overlay.
        size in prop_oneof![1usize..40, 1_020usize..1_060, 1_500usize..1_600],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new(size);
        if size > 40 {
            model.apply(&Step::Burst((0..size).collect()));
        }
        for step in &steps {
            model.apply(step);
            model.check();
        }
    }
}

#[test]
fn thousands_of_flaps_cross_the_overlays_limit_both_ways() {
    const SIZE: usize = 3_000;
    let mut model = Model::new(SIZE);
    model.apply(&Step::Burst((0..SIZE).collect()));
    model.check();
    // A fixed walk over the backends, so that differences grow past the limit, are folded into
    // the array, and shrink again as the same backends come back.
    for round in 0..700 {
        model.apply(&Step::Flap(round * 7 % 1_000));
        if round % 10 == 0 {
            model.check();
        }
    }
    for round in (0..700).rev() {
        model.apply(&Step::Flap(round * 7 % 1_000));
        if round % 10 == 0 {
            model.check();
        }
    }
    model.check();
    assert_eq!(model.expected().len(), SIZE, "everybody is back");
}

#[test]
fn a_set_that_is_held_does_not_change() {
    let mut model = Model::new(4);
    model.apply(&Step::Burst(vec![0, 1, 2, 3]));
    let held = model.spy.last.lock().expect("no panic").clone();
    model.apply(&Step::Flap(1));
    model.apply(&Step::Toggle(2));
    let all: Vec<_> = held.iter().map(|ready| number(ready.sub_conn())).collect();
    assert_eq!(all, [0, 1, 2, 3]);
}

#[test]
fn a_set_shows_its_sub_conns_and_their_endpoints() {
    let none = ReadySet::<()>::default();
    assert!(none.is_empty() && none.iter().next().is_none());
    assert_eq!((none.len(), format!("{none:?}")), (0, "[]".to_owned()));
    let mut model = Model::new(3);
    model.apply(&Step::Burst(vec![0, 2]));
    let set = model.spy.last.lock().expect("no panic").clone();
    assert_eq!(format!("{set:?}"), "[sc0 (b0:1), sc2 (b2:1)]");
    let first = set.get(0).expect("two are READY").clone();
    assert_eq!(first.endpoint(), &Endpoint::from("b0:1"));
    assert_eq!((first.rank(), first.data()), (0, &()));
    assert_eq!(first.address(), Some(&Address::new("b0:1")));
}
