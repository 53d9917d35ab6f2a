//! What an RPC costs in allocations: none, through three levels of composites, and failing too.

mod support;

#[path = "../examples/composite.rs"]
#[allow(dead_code, reason = "the counters are not read here")]
mod composite;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use balancer_api::{
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
    *,
};
use composite::InFlight;
use support::Driver;

/// Picks in turn and counts RPCs per backend: the innermost observer.
struct Leaf;
#[derive(Default)]
struct Count(AtomicU64);
struct LeafPicker(ReadySet<Arc<Count>>, AtomicU64);

impl PickerBuilder for Leaf {
    type Data = Arc<Count>;
    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) -> Self::Data {
        Arc::default()
    }
    fn build_picker(
        &mut self,
        ready: &ReadySet<Self::Data>,
        _: &BaseContext<'_>,
    ) -> Arc<dyn Picker> {
        Arc::new(LeafPicker(ready.clone(), AtomicU64::new(0)))
    }
}

impl Picker for LeafPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.1.fetch_add(1, Ordering::Relaxed) as usize % self.0.len();
        let chosen = self.0.get(turn).ok_or(PickError::NoSubConnAvailable)?;
        chosen.data().0.fetch_add(1, Ordering::Relaxed);
        Ok(Pick::new(chosen.sub_conn()).on_done(chosen.data().clone(), 0))
    }
}

impl OnDone for Count {
    fn on_done(&self, _: u64, _: &DoneInfo<'_>) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `{"childPolicy":n}` is a composite of `n` composites and the leaf.
struct Levels;

impl ChildResolver for Levels {
    fn resolve_child(
        &self,
        levels: &str,
        cx: &mut ParseContext<'_>,
    ) -> Result<ChildConfig, ConfigError> {
        match levels.parse() {
            Ok(0) => {
                let leaf = BaseBuilder::new("leaf", || Leaf);
                Ok(ChildConfig::new(Arc::new(leaf), None))
            }
            Ok(more @ 1..=8) => {
                let composite = InFlight::new();
                let json = format!(r#"{{"childPolicy":{}}}"#, more - 1);
                let config = composite.parse_config(&json, cx)?;
                Ok(ChildConfig::new(Arc::new(composite), Some(config)))
            }
            _ => Err(ConfigError::new("", levels, "must be 0 to 8")),
        }
    }
}

/// A leaf within `levels` composites, given three backends.
fn nested(levels: u32) -> Driver {
    let top = Levels
        .resolve_child(&levels.to_string(), &mut ParseContext::new(&Levels, 0))
        .expect("a good configuration");
    let mut driver = Driver::new(&**top.builder());
    let resolved = support::endpoints(&["a:1", "b:1", "c:1"]);
    let resolved = resolved.with_config(top.config().cloned());
    driver.resolved(Ok(resolved)).expect("a good list");
    driver
}

fn allocations(work: impl FnMut()) -> u64 {
    let mut work = work;
    // What is made once per process is not an RPC's.
    work();
    allocation_counter::measure(work).count_total
}

#[test]
fn the_counter_counts() {
    let count = allocations(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(count, 1, "otherwise the other tests prove nothing");
}

#[test]
fn a_pick_and_its_completion_allocate_nothing_through_three_composites() {
    for levels in 0..=3 {
        let mut driver = nested(levels);
        for number in 0..3 {
            driver.ready(number);
        }
        let picker = driver.cc.picker();
        let options = PickOptions::new("/s/m");
        let status = Status::unavailable("reset");
        let count = allocations(|| {
            for _ in 0..100 {
                let pick = picker.pick(&options).expect("a READY SubConn");
                let (done, _) = pick.into_owned().into_parts();
                done.complete(&DoneInfo::new().with_err(&status));
                // An RPC that is dropped.
                drop(picker.pick(&options).expect("a READY SubConn"));
            }
        });
        assert_eq!(count, 0, "{levels} levels");
    }
}

#[test]
fn a_set_that_has_changed_allocates_nothing_either() {
    let mut driver = nested(0);
    driver.ready(0);
    driver.ready(2);
    driver.ready(1);
    driver.idle(0);
    let picker = driver.cc.picker();
    let options = PickOptions::new("/s/m");
    let count = allocations(|| {
        for _ in 0..100 {
            drop(picker.pick(&options).expect("a READY SubConn"));
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn a_change_of_a_large_set_costs_what_has_changed_and_not_what_is_in_it() {
    const SIZE: usize = 10_000;
    const CHANGES: usize = 1_200;
    let list: Vec<String> = (0..SIZE).map(|i| format!("b{i}:1")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let mut driver = Driver::new(&BaseBuilder::new("leaf", || Leaf));
    driver.resolve(&list).expect("a good list");
    for number in 0..SIZE {
        driver.move_to(number, ConnectivityState::Ready);
    }
    driver.balancer.settle();
    let spent = allocation_counter::measure(|| {
        for number in 0..CHANGES {
            // Three at a time, so that the limit is stepped over rather than met.
            for other in 0..3 {
                driver.move_to(number * 6 + other * 2, ConnectivityState::Idle);
            }
            driver.balancer.settle();
            driver.cc.take();
        }
    });
    // All the READY ones anew would be 40,000 bytes for each change, and all that has changed so far
    // 8,000 on average. Up to 256 differences are carried from one set to the next.
    let each = spent.bytes_total as usize / CHANGES;
    assert!(each < 4_000, "{each} bytes for a change");
}

#[test]
fn picks_that_fail_or_wait_allocate_nothing() {
    let mut driver = nested(3);
    let waiting = driver.cc.picker();
    for number in 0..3 {
        driver.failed(number);
    }
    let failing = driver.cc.picker();
    let drops = FailingPicker::new(PickError::drop(Status::unavailable("shed")));
    let options = PickOptions::new("/s/m");
    let count = allocations(|| {
        for _ in 0..100 {
            assert!(waiting.pick(&options).is_err());
            assert!(failing.pick(&options).is_err());
            assert!(drops.pick(&options).is_err());
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn a_fifth_observer_is_where_it_ends() {
    // The promise is four, and it is not kept by chance.
    let mut driver = nested(4);
    driver.ready(0);
    let picker = driver.cc.picker();
    let options = PickOptions::new("/s/m");
    assert_ne!(allocations(|| drop(picker.pick(&options))), 0);
}
