//! What the base makes of the resolver's lists: repeated, refused, empty and back again.

mod support;

use std::sync::{Arc, Mutex};

use balancer_api::{
    ConnectivityState as S,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
    *,
};
use support::{Asked, Driver};

/// Remembers who is READY, in order.
#[derive(Clone, Default)]
struct Roll(Arc<Mutex<Vec<String>>>);

impl PickerBuilder for Roll {
    type Data = ();
    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        let names = ready.iter().map(|ready| ready.endpoint().to_string());
        *self.0.lock().unwrap() = names.collect();
        Arc::new(QueuePicker)
    }
}

impl Roll {
    fn driver(&self, random: &[u64]) -> Driver {
        let give = self.clone();
        let builder = BaseBuilder::new("roll", move || give.clone());
        Driver::with_random(&builder, random.iter().copied())
    }

    fn call(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// The addresses of the SubConns that were made, in order.
fn made(asked: Vec<Asked>) -> Vec<String> {
    let made = asked.into_iter().filter_map(|asked| match asked {
        Asked::New(_, addresses) => Some(addresses.join("+")),
        _ => None,
    });
    made.collect()
}

#[test]
fn a_repeated_endpoint_stands_where_it_stood_first() {
    let roll = Roll::default();
    let mut driver = roll.driver(&[]);
    driver.resolve(&["a:1", "b:1", "a:1"]).expect("a good list");
    driver.ready(0).ready(1);
    assert_eq!(roll.call(), ["a:1", "b:1"], "in a first list");
    driver
        .resolve(&["b:1", "a:1", "b:1", "c:1", "c:1"])
        .expect("a good list");
    driver.ready(2);
    assert_eq!(roll.call(), ["b:1", "a:1", "c:1"], "and in a later one");
    assert_eq!(driver.cc.sub_conns(), 3, "one for each that is distinct");
}

#[test]
fn only_a_first_list_is_connected_from_a_random_place_on() {
    let mut driver = Roll::default().driver(&[2, 1]);
    driver.resolve(&["a:1", "b:1", "c:1"]).expect("a good list");
    assert_eq!(made(driver.cc.take()), ["c:1", "a:1", "b:1"]);
    let more = ["a:1", "b:1", "c:1", "d:1", "e:1", "f:1"];
    driver.resolve(&more).expect("a good list");
    assert_eq!(
        made(driver.cc.take()),
        ["d:1", "e:1", "f:1"],
        "the rest join in order"
    );
    driver.resolve(&[]).expect_err("must be rejected");
    driver.resolve(&["a:1", "b:1"]).expect("a good list");
    assert_eq!(
        made(driver.cc.take()),
        ["b:1", "a:1"],
        "a new beginning is a first list"
    );
}

#[test]
fn an_empty_list_after_one_that_was_refused_is_only_empty() {
    let mut driver = Roll::default().driver(&[]);
    driver
        .cc
        .refuse_next(NewSubConnError::Refused("too many".into()));
    driver.resolve(&["a:1"]).expect("a good list");
    let text = driver.cc.pick().expect_err("nothing is there").to_string();
    assert_eq!(text, "a:1: refused: too many");
    let rejected = driver.resolve(&[]).expect_err("must be rejected");
    assert_eq!(rejected.reason(), "resolver produced zero addresses");
    let text = driver.cc.pick().expect_err("nothing is there").to_string();
    assert_eq!(text, "resolver: resolver produced zero addresses");
    assert_eq!(driver.cc.state(), Some(S::TransientFailure));
    driver.resolve(&["a:1"]).expect("a good list");
    assert_eq!(driver.cc.state(), Some(S::Connecting), "and back again");
}

#[test]
fn a_sub_conn_that_the_channel_took_away_is_forgotten() {
    let roll = Roll::default();
    let mut driver = roll.driver(&[]);
    driver.resolve(&["a:1", "b:1"]).expect("a good list");
    driver.ready(0).ready(1);
    driver.cc.take();
    driver.state(0, S::Shutdown);
    assert_eq!(
        driver.cc.take(),
        [Asked::Publish(S::Ready)],
        "nothing to remove"
    );
    assert_eq!(roll.call(), ["b:1"]);
    driver.ready(0);
    assert_eq!(driver.cc.take(), [], "it is nobody's any more");
}

#[test]
fn whoever_is_gone_leaves_room_for_somebody_else() {
    let roll = Roll::default();
    let mut driver = roll.driver(&[]);
    driver.resolve(&["a:1", "b:1", "c:1"]).expect("a good list");
    driver.ready(0).ready(1).ready(2);
    driver.resolve(&["c:1", "d:1", "e:1"]).expect("a good list");
    assert_eq!(roll.call(), ["c:1"]);
    driver.ready(3).ready(4);
    assert_eq!(roll.call(), ["c:1", "d:1", "e:1"]);
    driver.idle(2);
    assert_eq!(roll.call(), ["d:1", "e:1"], "each in its own place");
    driver.resolve(&["e:1"]).expect("a good list");
    assert_eq!(roll.call(), ["e:1"]);
}

#[test]
fn a_failure_beside_others_is_news_to_nobody_and_hides_no_news() {
    let roll = Roll::default();
    let mut driver = roll.driver(&[]);
    driver.resolve(&["a:1", "b:1", "c:1"]).expect("a good list");
    driver.connecting(0).connecting(1).connecting(2);
    driver.cc.take();
    // In one run of callbacks: a backend comes, another fails.
    driver.move_to(0, S::Ready);
    driver.move_to(1, S::TransientFailure);
    driver.balancer.settle();
    assert_eq!(
        driver.cc.take(),
        [Asked::ResolveNow, Asked::Publish(S::Ready)]
    );
    driver.failed(2);
    assert_eq!(
        driver.cc.take(),
        [Asked::ResolveNow],
        "the picker is as it was"
    );
}

#[test]
fn a_connection_made_anew_to_another_address_is_shown_with_that_one() {
    let (first, second) = (Address::new("a:1"), Address::new("a:2"));
    /// Remembers which addresses are connected.
    #[derive(Clone, Default)]
    struct Where(Arc<Mutex<Vec<String>>>);
    impl PickerBuilder for Where {
        type Data = ();
        fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
        fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
            let addresses = ready.iter().filter_map(|ready| ready.address());
            *self.0.lock().unwrap() = addresses.map(ToString::to_string).collect();
            Arc::new(QueuePicker)
        }
    }
    let connected = Where::default();
    let give = connected.clone();
    let mut driver = Driver::new(&BaseBuilder::new("where", move || give.clone()));
    let list = ResolvedAddrs::new([Endpoint::new([first, second])]);
    driver.resolved(Ok(list)).expect("a good list");
    for addr in ["a:1", "a:2", "a:1"] {
        driver.ready_at(0, addr);
        assert_eq!(*connected.0.lock().unwrap(), [addr]);
        driver.idle(0).connecting(0);
    }
}

#[test]
fn a_rank_is_the_place_in_the_list_that_came_last() {
    /// Remembers the ranks.
    #[derive(Clone, Default)]
    struct Ranks(Arc<Mutex<Vec<u32>>>);
    impl PickerBuilder for Ranks {
        type Data = ();
        fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
        fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
            *self.0.lock().unwrap() = ready.iter().map(|ready| ready.rank()).collect();
            Arc::new(QueuePicker)
        }
    }
    let ranks = Ranks::default();
    let give = ranks.clone();
    let mut driver = Driver::new(&BaseBuilder::new("ranks", move || give.clone()));
    driver
        .resolve(&["a:1", "b:1", "a:1", "c:1"])
        .expect("a good list");
    driver.ready(0).ready(2);
    assert_eq!(
        *ranks.0.lock().unwrap(),
        [0, 3],
        "a duplicate has a place, too"
    );
    driver.resolve(&["b:1", "c:1", "a:1"]).expect("a good list");
    assert_eq!(*ranks.0.lock().unwrap(), [1, 2]);
}
