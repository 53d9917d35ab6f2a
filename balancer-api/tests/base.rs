//! What the base does for every policy that is built on it.

mod support;

use std::sync::{Arc, Mutex};

use balancer_api::{
    ConnectivityState as S,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet, ReadySubConn},
    *,
};
use support::{Asked, Driver, endpoints};

/// Picks the first READY SubConn, and writes down what the base tells it.
#[derive(Clone, Default)]
struct First {
    told: Arc<Mutex<Vec<String>>>,
}

struct FirstPicker(ReadySet<u32>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Weight(u32);

impl First {
    fn tell(&self, text: String) {
        self.told.lock().expect("no panic").push(text);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().expect("no panic"))
    }

    fn builder(&self) -> impl Builder + use<> {
        let this = self.clone();
        BaseBuilder::new("first", move || this.clone())
    }
}

impl PickerBuilder for First {
    type Data = u32;

    fn data(&mut self, endpoint: &Endpoint, _: &BaseContext<'_>) -> u32 {
        self.tell(format!("data {endpoint}"));
        7
    }

    fn build_picker(&mut self, ready: &ReadySet<u32>, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        let shown = ready.iter().map(|ready| {
            let weight = ready.endpoint().balancer_attributes().get::<Weight>();
            let weight = weight.map(|w| format!("*{}", w.0)).unwrap_or_default();
            format!("{}{weight}", ready.address().expect("an address"))
        });
        self.tell(format!("picker {}", shown.collect::<Vec<_>>().join(" ")));
        Arc::new(FirstPicker(ready.clone()))
    }

    fn set_config(
        &mut self,
        config: Option<&LbConfig>,
        _: &BaseContext<'_>,
    ) -> Result<(), Rejected> {
        match config {
            Some(config) if config.downcast_ref::<&str>().is_some() => {
                Err(Rejected::new("that is no configuration"))
            }
            _ => Ok(()),
        }
    }

    fn on_ready(&mut self, ready: &ReadySubConn<u32>, _: &BaseContext<'_>) {
        self.tell(format!("ready {}", ready.endpoint()));
    }

    fn on_not_ready(&mut self, ready: &ReadySubConn<u32>, _: &BaseContext<'_>) {
        self.tell(format!("not ready {}", ready.endpoint()));
    }

    fn handle_timer(&mut self, _: TimerId, _: &BaseContext<'_>) -> bool {
        true
    }
}

impl Picker for FirstPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let first = self.0.get(0).ok_or(PickError::NoSubConnAvailable)?;
        assert_eq!(*first.data(), 7, "what was made for the endpoint");
        Ok(Pick::new(first.sub_conn()))
    }
}

fn start(list: &[&str]) -> Driver {
    let mut driver = Driver::new(&First::default().builder());
    driver.resolve(list).expect("a good list");
    driver
}

fn failure(driver: &Driver) -> String {
    match driver.cc.pick() {
        Err(error @ PickError::TransientFailure(_)) => error.to_string(),
        other => panic!("must fail, not {other:?}"),
    }
}

fn new(number: usize, addr: &str) -> Asked {
    Asked::New(number, vec![addr.to_owned()])
}

#[test]
fn each_distinct_endpoint_gets_a_sub_conn_and_one_connect() {
    let driver = start(&["a:1", "b:1", "a:1"]);
    let asked = [
        new(0, "a:1"),
        Asked::Connect(0),
        new(1, "b:1"),
        Asked::Connect(1),
        Asked::Publish(S::Connecting),
    ];
    assert_eq!(driver.cc.take(), asked, "a counts once");
    assert_eq!(
        driver.cc.pick(),
        Err(ERR_NO_SUB_CONN_AVAILABLE),
        "RPCs wait"
    );
    let options = driver.cc.options(0);
    assert_eq!(options.reconnect, Reconnect::WhenAsked);
}

#[test]
fn clients_do_not_all_connect_to_the_same_backend_first() {
    for start in 0..3u64 {
        let mut driver = Driver::with_random(&First::default().builder(), [start + 3]);
        driver.resolve(&["a:1", "b:1", "c:1"]).expect("a good list");
        let order = ["a:1", "b:1", "c:1"];
        let expected: Vec<_> = (0..3)
            .map(|i| new(i, order[(start as usize + i) % 3]))
            .collect();
        let made = driver.cc.take().into_iter();
        let made: Vec<_> = made.filter(|a| matches!(a, Asked::New(..))).collect();
        assert_eq!(made, expected, "must be the list turned by {start}");
    }
}

#[test]
fn the_rotated_start_does_not_change_the_order_of_the_set() {
    let first = First::default();
    let mut driver = Driver::with_random(&first.builder(), [1]);
    driver.resolve(&["a:1", "b:1", "c:1"]).expect("a good list");
    for number in 0..3 {
        driver.ready(number);
    }
    assert_eq!(first.take().pop(), Some("picker a:1 b:1 c:1".to_owned()));
}

#[test]
fn any_ready_makes_ready_and_dead_backends_do_not_keep_rpcs_waiting() {
    let mut driver = start(&["a:1", "b:1"]);
    driver.connecting(0).failed(0);
    assert_eq!(driver.cc.state(), Some(S::Connecting), "b may still come");
    assert_eq!(driver.cc.pick(), Err(ERR_NO_SUB_CONN_AVAILABLE));
    driver.connecting(1).failed(1);
    assert_eq!(
        failure(&driver),
        "sc1: connection refused",
        "the last real error"
    );

    driver.cc.take();
    driver.idle(0).connecting(0);
    assert_eq!(
        driver.cc.take(),
        [Asked::Connect(0)],
        "redialled; the failure is sticky"
    );
    driver.ready(0);
    assert_eq!(driver.cc.take(), [Asked::Publish(S::Ready)]);
    driver.idle(0);
    assert_eq!(
        driver.cc.state(),
        Some(S::Connecting),
        "READY ended the stickiness"
    );
}

#[test]
fn a_fresher_error_is_shown_and_an_unknown_one_hides_nothing() {
    let mut driver = start(&["a:1", "b:1"]);
    driver.failed(0).failed(1).idle(0).connecting(0).failed(0);
    assert_eq!(failure(&driver), "sc0: connection refused");
    let sub_conn = driver.cc.sub_conn(1);
    let silent = SubConnState::new(S::TransientFailure);
    driver
        .balancer
        .handle_sub_conn_state_change(&sub_conn, &silent);
    driver.balancer.settle();
    assert_eq!(failure(&driver), "sc0: connection refused");
}

#[test]
fn the_resolver_is_asked_again_after_a_loss_and_a_failure_and_not_for_health() {
    let mut driver = start(&["a:1"]);
    driver.connecting(0).ready(0);
    driver.cc.take();
    driver.idle(0);
    let asked = [
        Asked::ResolveNow,
        Asked::Connect(0),
        Asked::Publish(S::Connecting),
    ];
    assert_eq!(driver.cc.take(), asked, "a loss");
    driver.connecting(0).failed(0);
    assert_eq!(driver.cc.take()[0], Asked::ResolveNow, "a failure");

    driver.idle(0).connecting(0).ready(0);
    driver.cc.take();
    let sub_conn = driver.cc.sub_conn(0);
    let unhealthy = Status::unavailable("NOT_SERVING");
    let state = SubConnState::new(S::TransientFailure)
        .with_error(&unhealthy)
        .with_cause(StateCause::Health);
    driver
        .balancer
        .handle_sub_conn_state_change(&sub_conn, &state);
    driver.balancer.settle();
    assert_eq!(
        driver.cc.take(),
        [Asked::Publish(S::TransientFailure)],
        "health is no loss"
    );
    driver.idle(0);
    let asked = [Asked::ResolveNow, Asked::Connect(0)];
    assert_eq!(driver.cc.take(), asked, "the connection behind it was lost");
}

#[test]
fn a_list_keeps_what_stays_and_removes_what_is_gone() {
    let first = First::default();
    let mut driver = Driver::new(&first.builder());
    driver.resolve(&["a:1", "b:1", "c:1"]).expect("a good list");
    for number in 0..3 {
        driver.ready(number);
    }
    driver.cc.take();
    first.take();
    driver.resolve(&["c:1", "d:1", "a:1"]).expect("a good list");
    let asked = [
        new(3, "d:1"),
        Asked::Connect(3),
        Asked::Remove(1),
        Asked::Publish(S::Ready),
    ];
    assert_eq!(driver.cc.take(), asked);
    let told = ["data d:1", "not ready b:1", "picker c:1 a:1"];
    assert_eq!(first.take(), told, "b must be out of the picker at once");
    driver.state(1, S::Ready).state(1, S::Shutdown);
    assert_eq!(driver.cc.take(), [], "what b does is no news");
}

#[test]
fn the_same_list_is_no_news() {
    let mut driver = start(&["a:1", "b:1"]);
    driver.ready(0);
    driver.cc.take();
    driver.resolve(&["a:1", "b:1"]).expect("a good list");
    assert_eq!(driver.cc.take(), []);
}

#[test]
fn hooks_name_the_endpoint_whose_connection_it_is_also_before_a_new_list_has_settled() {
    let first = First::default();
    let mut driver = Driver::new(&first.builder());
    driver.resolve(&["a:1", "b:1", "c:1"]).expect("a good list");
    driver.ready(0);
    first.take();
    // Another order, and a stranger in front: places are not what they were.
    let list = endpoints(&["d:1", "c:1", "b:1", "a:1"]);
    let accepted = driver.balancer.handle_resolved_addrs(Ok(list));
    assert_eq!(accepted, Ok(()));
    first.take();
    driver.move_to(2, S::Ready);
    driver.move_to(0, S::Idle);
    driver.move_to(3, S::Ready);
    assert_eq!(first.take(), ["ready c:1", "not ready a:1", "ready d:1"]);
    driver.balancer.settle();
    assert_eq!(first.take(), ["picker d:1 c:1"]);
}

#[test]
fn another_order_of_addresses_keeps_the_connection() {
    let dual = |first: &str, second: &str| {
        ResolvedAddrs::new([Endpoint::new([Address::new(first), Address::new(second)])])
    };
    let first = First::default();
    let mut driver = Driver::new(&first.builder());
    driver
        .resolved(Ok(dual("a:1", "b:1")))
        .expect("a good list");
    driver.ready_at(0, "b:1");
    driver.cc.take();
    driver
        .resolved(Ok(dual("b:1", "a:1")))
        .expect("a good list");
    let turned = vec!["b:1".to_owned(), "a:1".to_owned()];
    assert_eq!(
        driver.cc.take(),
        [Asked::Update(0, turned), Asked::Publish(S::Ready)]
    );
    assert_eq!(
        first.take().pop(),
        Some("picker b:1".to_owned()),
        "b is still connected"
    );
}

#[test]
fn balancer_attributes_are_news_for_the_policy_only() {
    let weighted = |weight| {
        let attributes = Attributes::new().with(Weight(weight));
        ResolvedAddrs::new([Endpoint::from("a:1").with_balancer_attributes(attributes)])
    };
    let first = First::default();
    let mut driver = Driver::new(&first.builder());
    driver.resolved(Ok(weighted(1))).expect("a good list");
    driver.ready(0);
    driver.cc.take();
    driver.resolved(Ok(weighted(2))).expect("a good list");
    assert_eq!(
        driver.cc.take(),
        [Asked::Publish(S::Ready)],
        "the connection stays"
    );
    assert_eq!(first.take().pop(), Some("picker a:1*2".to_owned()));
}

#[test]
fn an_empty_list_removes_everything_and_is_rejected() {
    let mut driver = start(&["a:1"]);
    driver.ready(0);
    driver.cc.take();
    let none = ResolvedAddrs::new([]).with_note("no pods");
    let rejected = driver.resolved(Ok(none)).expect_err("must be rejected");
    assert_eq!(
        rejected.reason(),
        "resolver produced zero addresses (no pods)"
    );
    assert_eq!(
        driver.cc.take(),
        [Asked::Remove(0), Asked::Publish(S::TransientFailure)]
    );
    assert_eq!(
        failure(&driver),
        "resolver: resolver produced zero addresses (no pods)"
    );
    driver.resolve(&["a:1"]).expect("a good list");
    assert_eq!(driver.cc.state(), Some(S::Connecting));
}

#[test]
fn an_empty_list_first_fails_rpcs() {
    let mut driver = Driver::new(&First::default().builder());
    driver.resolve(&[]).expect_err("must be rejected");
    assert_eq!(driver.cc.take(), [Asked::Publish(S::TransientFailure)]);
}

#[test]
fn a_resolver_error_counts_only_while_there_is_nothing_better() {
    let broken = || Err(ResolveError::new("no such host"));
    let mut driver = Driver::new(&First::default().builder());
    driver.resolved(broken()).expect("an error is not rejected");
    assert_eq!(failure(&driver), "resolver: no such host");
    driver.resolve(&["a:1"]).expect("a good list");
    driver.cc.take();
    driver.resolved(broken()).expect("an error is not rejected");
    assert_eq!(driver.cc.take(), [], "CONNECTING goes on");
    driver.ready(0);
    driver.cc.take();
    driver.resolved(broken()).expect("an error is not rejected");
    assert_eq!(
        driver.cc.take(),
        [],
        "READY goes on, and nothing is removed"
    );
    driver.idle(0).failed(0);
    assert_eq!(
        failure(&driver),
        "sc0: connection refused; resolver: no such host"
    );
}

#[test]
fn one_refused_sub_conn_does_not_spoil_the_others_and_is_tried_again() {
    let mut driver = Driver::new(&First::default().builder());
    driver
        .cc
        .refuse_next(NewSubConnError::Refused("too many".into()));
    driver.resolve(&["a:1", "b:1"]).expect("a good list");
    let asked = [
        new(0, "b:1"),
        Asked::Connect(0),
        Asked::Publish(S::Connecting),
    ];
    assert_eq!(driver.cc.take(), asked);
    driver.ready(0);
    driver.cc.take();
    driver.resolve(&["a:1", "b:1"]).expect("a good list");
    let asked = [new(1, "a:1"), Asked::Connect(1), Asked::Publish(S::Ready)];
    assert_eq!(driver.cc.take(), asked, "the same list must be tried again");
}

#[test]
fn a_burst_costs_one_picker() {
    let list: Vec<String> = (0..100).map(|i| format!("b{i}:1")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let mut driver = start(&list);
    driver.cc.take();
    for number in 0..100 {
        driver.move_to(number, S::Ready);
    }
    driver.balancer.settle();
    assert_eq!(driver.cc.take(), [Asked::Publish(S::Ready)]);
}

#[test]
fn a_configuration_that_the_policy_refuses_changes_nothing() {
    let refused = || endpoints(&["z:1"]).with_config(Some(LbConfig::new("", "refuse me")));
    let mut driver = start(&["a:1"]);
    driver.cc.take();
    driver
        .resolved(Ok(refused()))
        .expect_err("must be rejected");
    assert_eq!(driver.cc.take(), []);

    let mut driver = Driver::new(&First::default().builder());
    driver
        .resolved(Ok(refused()))
        .expect_err("must be rejected");
    assert_eq!(driver.cc.take(), [Asked::Publish(S::TransientFailure)]);
    let text = failure(&driver);
    assert!(
        text.contains("that is no configuration"),
        "RPCs must not hang: {text}"
    );
}

#[test]
fn a_hook_cannot_publish_before_the_resolver_has_answered() {
    let mut driver = Driver::new(&First::default().builder());
    driver.balancer.settle();
    driver.balancer.handle_timer(TimerId::from_raw(1));
    driver.balancer.settle();
    assert_eq!(driver.cc.take(), [], "RPCs wait for the resolver");
    driver.resolve(&["a:1"]).expect("a good list");
    driver.ready(0);
    driver.cc.take();
    driver.balancer.handle_timer(TimerId::from_raw(2));
    driver.balancer.settle();
    assert_eq!(
        driver.cc.take(),
        [Asked::Publish(S::Ready)],
        "the hook asked for one"
    );
}

#[test]
fn exit_idle_and_strangers_change_nothing() {
    let mut driver = start(&["a:1"]);
    driver.cc.take();
    driver.balancer.exit_idle();
    let other = start(&["x:1"]);
    let stranger = other.cc.sub_conn(0);
    for state in [
        S::Connecting,
        S::Ready,
        S::TransientFailure,
        S::Idle,
        S::Shutdown,
    ] {
        let state = SubConnState::new(state);
        driver
            .balancer
            .handle_sub_conn_state_change(&stranger, &state);
    }
    driver.balancer.settle();
    assert_eq!(driver.cc.take(), [], "it was told to connect already");
}

#[test]
fn hooks_see_each_coming_and_going_once() {
    let first = First::default();
    let mut driver = Driver::new(&first.builder());
    driver.resolve(&["a:1"]).expect("a good list");
    driver.connecting(0).ready(0).ready(0).idle(0);
    let told = [
        "data a:1",
        "ready a:1",
        "picker a:1",
        "picker a:1",
        "not ready a:1",
    ];
    assert_eq!(first.take(), told);
}

#[test]
fn old_pickers_stay_callable() {
    let mut driver = start(&["a:1", "b:1"]);
    driver.ready(0);
    let old = driver.cc.picker();
    driver.resolve(&["b:1"]).expect("a good list");
    driver.balancer.close();
    drop(driver.balancer);
    assert_eq!(
        support::pick(&*old),
        Ok(0),
        "the channel knows that it is gone"
    );
}

#[test]
fn a_closed_policy_is_silent_even_if_something_comes_late() {
    let mut driver = start(&["a:1", "b:1"]);
    driver.ready(0);
    driver.balancer.close();
    driver.cc.take();
    driver.idle(0).connecting(0).failed(0).ready(1);
    driver.balancer.handle_timer(TimerId::from_raw(1));
    driver.balancer.exit_idle();
    driver.resolve(&["c:1"]).expect("nothing is said");
    driver.resolve(&[]).expect("nothing is said");
    assert_eq!(driver.cc.take(), []);
}
