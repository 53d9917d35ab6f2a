//! pick_first in conversation with a channel: what it asks for, and what it reports.

#[path = "../../balancer-api/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use balancer_api::{ConnectivityState as S, *};
use balancer_pickfirst::{PickFirst, PickFirstConfig};
use support::{Asked, Driver, Recorder};

fn start(list: &[&str]) -> Driver {
    let mut driver = Driver::new(&PickFirst::new());
    driver.resolve(list).expect("a good list");
    driver
}

fn connected(list: &[&str], address: &str) -> Driver {
    let mut driver = start(list);
    driver.connecting(0);
    driver.ready_at(0, address);
    driver.cc.take();
    driver
}

fn list(addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|a| (*a).to_owned()).collect()
}

fn failure(cc: &Recorder) -> String {
    match cc.pick() {
        Err(error @ PickError::TransientFailure(_)) => error.to_string(),
        other => panic!("must fail, not {other:?}"),
    }
}

#[test]
fn one_sub_conn_holds_the_whole_list_and_connects_at_once() {
    let driver = start(&["1.1.1.1:1", "1.1.1.2:1", "[2::1]:1", "1.1.1.1:1"]);
    let whole = list(&["1.1.1.1:1", "[2::1]:1", "1.1.1.2:1"]);
    let asked = [
        Asked::New(0, whole),
        Asked::Connect(0),
        Asked::Publish(S::Connecting),
    ];
    assert_eq!(driver.cc.take(), asked);
    assert_eq!(
        driver.cc.pick(),
        Err(ERR_NO_SUB_CONN_AVAILABLE),
        "RPCs wait"
    );
    let options = driver.cc.options(0);
    assert_eq!(options.reconnect, Reconnect::WhenAsked);
    assert_eq!(options.attempt_delay, Some(Duration::from_millis(250)));
    assert_eq!(options.health, HealthReporting::Off, "must never opt in");
}

#[test]
fn every_rpc_goes_to_the_one_connection() {
    let mut driver = start(&["a:1", "b:1"]);
    driver.connecting(0).ready(0);
    assert_eq!(driver.cc.state(), Some(S::Ready));
    assert_eq!(driver.cc.picks(3), [0, 0, 0]);
}

#[test]
fn a_lost_connection_is_remade_when_somebody_needs_it_and_once() {
    let mut driver = connected(&["a:1", "b:1"], "a:1");
    driver.idle(0);
    assert_eq!(
        driver.cc.take(),
        [Asked::ResolveNow, Asked::Publish(S::Idle)],
        "must not connect"
    );
    for _ in 0..3 {
        assert_eq!(
            driver.cc.pick(),
            Err(ERR_NO_SUB_CONN_AVAILABLE),
            "must wait"
        );
    }
    driver.balancer.exit_idle();
    assert_eq!(
        driver.cc.take(),
        [Asked::Connect(0)],
        "one wish for all of them"
    );

    driver.connecting(0).idle(0);
    driver.cc.take();
    driver.balancer.exit_idle();
    assert_eq!(
        driver.cc.take(),
        [Asked::Connect(0)],
        "the next idle picker asks again"
    );
}

#[test]
fn failure_is_sticky_and_shows_the_latest_error() {
    let mut driver = start(&["a:1"]);
    driver.connecting(0).failed(0);
    let asked = driver.cc.take();
    assert_eq!(
        asked[asked.len() - 2..],
        [Asked::ResolveNow, Asked::Publish(S::TransientFailure)]
    );
    assert_eq!(failure(&driver.cc), "sc0: connection refused");

    driver.idle(0).connecting(0);
    assert_eq!(
        driver.cc.take(),
        [Asked::Connect(0)],
        "redials, and stays failed"
    );
    driver.failed(0);
    assert_eq!(
        driver.cc.take(),
        [Asked::ResolveNow, Asked::Publish(S::TransientFailure)]
    );
    driver.idle(0).connecting(0).ready(0);
    assert_eq!(driver.cc.state(), Some(S::Ready));
    driver.idle(0);
    assert_eq!(
        driver.cc.state(),
        Some(S::Idle),
        "READY ended the stickiness"
    );
}

#[test]
fn an_update_while_ready_moves_only_when_the_address_is_gone() {
    let mut driver = connected(&["a:1", "b:1"], "b:1");
    driver.resolve(&["a:1", "b:1"]).expect("a good list");
    assert_eq!(driver.cc.take(), [], "the same list is no news");
    driver.resolve(&["b:1", "c:1"]).expect("a good list");
    assert_eq!(driver.cc.take(), [Asked::Update(0, list(&["b:1", "c:1"]))]);
    assert_eq!(driver.cc.picks(1), [0]);

    driver.resolve(&["c:1", "d:1"]).expect("a good list");
    let asked = [
        Asked::Update(0, list(&["c:1", "d:1"])),
        Asked::Publish(S::Connecting),
    ];
    assert_eq!(driver.cc.take(), asked);
    assert_eq!(
        driver.cc.pick(),
        Err(ERR_NO_SUB_CONN_AVAILABLE),
        "b must not be picked any more"
    );
    driver.connecting(0);
    assert_eq!(driver.cc.take(), [], "that is known");
    driver.ready_at(0, "c:1");
    assert_eq!(driver.cc.picks(1), [0]);
}

#[test]
fn a_connection_to_a_dropped_address_that_arrives_late_is_not_used() {
    let mut driver = start(&["a:1"]);
    driver.connecting(0);
    driver.resolve(&["b:1"]).expect("a good list");
    driver.cc.take();
    driver.ready_at(0, "a:1");
    assert_eq!(driver.cc.take(), [], "the SubConn leaves it by itself");
    driver.connecting(0).ready_at(0, "b:1");
    assert_eq!(driver.cc.take(), [Asked::Publish(S::Ready)]);
}

#[test]
fn an_update_while_idle_stays_idle() {
    let mut driver = connected(&["a:1"], "a:1");
    driver.idle(0);
    driver.cc.take();
    driver.resolve(&["b:1"]).expect("a good list");
    assert_eq!(driver.cc.take(), [Asked::Update(0, list(&["b:1"]))]);
    assert_eq!(driver.cc.pick(), Err(ERR_NO_SUB_CONN_AVAILABLE));
    assert_eq!(driver.cc.take(), [Asked::Connect(0)]);
}

#[test]
fn an_update_while_failing_starts_a_pass_and_stays_failing() {
    let mut driver = start(&["a:1"]);
    driver.connecting(0).failed(0);
    driver.cc.take();
    driver.resolve(&["a:1", "b:1"]).expect("a good list");
    driver.idle(0).connecting(0);
    let asked = [Asked::Update(0, list(&["a:1", "b:1"])), Asked::Connect(0)];
    assert_eq!(driver.cc.take(), asked, "TRANSIENT_FAILURE must stay");
    assert_eq!(failure(&driver.cc), "sc0: connection refused");
}

#[test]
fn an_empty_list_removes_everything_and_the_next_good_one_connects() {
    let mut driver = connected(&["a:1"], "a:1");
    let none = ResolvedAddrs::new([]).with_note("the service has no pods");
    let rejected = driver.resolved(Ok(none)).expect_err("must be rejected");
    let text = "resolver produced zero addresses (the service has no pods)";
    assert_eq!(rejected.reason(), text);
    assert_eq!(
        driver.cc.take(),
        [Asked::Remove(0), Asked::Publish(S::TransientFailure)]
    );
    assert!(failure(&driver.cc).contains(text));
    driver.state(0, S::Shutdown);
    assert_eq!(driver.cc.take(), [], "its SHUTDOWN is no news");

    driver.resolve(&["a:1"]).expect("a good list");
    let asked = [
        Asked::New(1, list(&["a:1"])),
        Asked::Connect(1),
        Asked::Publish(S::Connecting),
    ];
    assert_eq!(driver.cc.take(), asked, "this failure is not sticky");
}

#[test]
fn an_empty_list_first_is_a_failure_and_no_panic() {
    let mut driver = Driver::new(&PickFirst::new());
    driver.resolve(&[]).expect_err("must be rejected");
    assert_eq!(driver.cc.take(), [Asked::Publish(S::TransientFailure)]);
    let no_address = ResolvedAddrs::new([Endpoint::new([])]);
    driver
        .resolved(Ok(no_address))
        .expect_err("an endpoint without addresses is nothing");
}

#[test]
fn a_resolver_error_counts_only_while_there_is_nothing_better() {
    let lost = || Err(ResolveError::new("no such host"));
    let mut driver = Driver::new(&PickFirst::new());
    driver.resolved(lost()).expect("an error is not rejected");
    assert!(failure(&driver.cc).contains("no such host"));
    driver.resolve(&["a:1"]).expect("a good list");
    assert_eq!(driver.cc.state(), Some(S::Connecting));

    driver.cc.take();
    driver.resolved(lost()).expect("an error is not rejected");
    assert_eq!(driver.cc.take(), [], "CONNECTING goes on");
    driver.connecting(0).ready(0);
    driver.cc.take();
    driver.resolved(lost()).expect("an error is not rejected");
    assert_eq!(driver.cc.take(), [], "READY goes on");

    driver.idle(0).connecting(0).failed(0);
    driver.resolved(lost()).expect("an error is not rejected");
    let text = failure(&driver.cc);
    assert!(
        text.contains("refused") && text.contains("no such host"),
        "{text}"
    );
    driver.resolve(&["a:1"]).expect("a good list");
    assert_eq!(
        failure(&driver.cc),
        "sc0: connection refused",
        "the resolver is well again"
    );
}

#[test]
fn a_refused_sub_conn_is_tried_again_with_the_next_result() {
    let mut driver = Driver::new(&PickFirst::new());
    driver
        .cc
        .refuse_next(NewSubConnError::Refused("too many".into()));
    driver
        .resolve(&["a:1"])
        .expect_err("nothing can be done with it");
    assert!(failure(&driver.cc).contains("too many"));
    driver.resolve(&["a:1"]).expect("a good list");
    assert_eq!(
        driver.cc.state(),
        Some(S::Connecting),
        "the same list must be tried again"
    );
}

#[test]
fn a_configuration_of_another_policy_is_rejected() {
    let mut driver = connected(&["a:1"], "a:1");
    let foreign = LbConfig::new("{}", "something else");
    let resolved = support::endpoints(&["b:1"]).with_config(Some(foreign));
    driver.resolved(Ok(resolved)).expect_err("must be rejected");
    assert_eq!(driver.cc.take(), [], "and change nothing");
}

#[test]
fn the_first_configuration_being_wrong_fails_rpcs_rather_than_hanging_them() {
    let mut driver = Driver::new(&PickFirst::new());
    let foreign = LbConfig::new("{}", "something else");
    let resolved = support::endpoints(&["b:1"]).with_config(Some(foreign));
    driver.resolved(Ok(resolved)).expect_err("must be rejected");
    assert!(failure(&driver.cc).contains("not one of pick_first"));
}

#[test]
fn shuffling_moves_endpoints_whole() {
    let config = PickFirstConfig::new().with_shuffle_address_list(true);
    let config = LbConfig::new(r#"{"shuffleAddressList":true}"#, config);
    // Three endpoints: the last changes places with 1 of 0..=2, then the middle with 0 of 0..=1.
    let mut driver = Driver::with_random(&PickFirst::new(), [1, 0]);
    let dual = Endpoint::new([Address::new("b1:1"), Address::new("b2:1")]);
    let all = [Endpoint::from("a:1"), dual, Endpoint::from("c:1")];
    let resolved = ResolvedAddrs::new(all).with_config(Some(config.clone()));
    driver.resolved(Ok(resolved.clone())).expect("a good list");
    let order = list(&["c:1", "a:1", "b1:1", "b2:1"]);
    assert_eq!(
        driver.cc.take()[0],
        Asked::New(0, order),
        "b1 must stay before b2"
    );

    driver.resolved(Ok(resolved)).expect("a good list");
    assert_eq!(
        driver.cc.take(),
        [],
        "the same result is not shuffled again"
    );
}

#[test]
fn configuration_is_read_and_checked() {
    let parse = |json: &str| {
        let mut cx = ParseContext::new(&NoChildren, 0);
        let config = PickFirst::new().parse_config(json, &mut cx)?;
        let config = config.downcast_ref::<PickFirstConfig>().copied();
        Ok::<_, ConfigError>((config.expect("its own"), cx.take_warnings().len()))
    };
    let plain = PickFirstConfig::new();
    assert_eq!(parse("{}"), Ok((plain, 0)));
    let shuffled = plain.with_shuffle_address_list(true);
    assert_eq!(parse(r#"{"shuffleAddressList":true}"#), Ok((shuffled, 0)));
    assert_eq!(
        parse(r#"{"shuffleaddresslist":true}"#),
        Ok((plain, 1)),
        "must warn"
    );
    let error = parse(r#"{"shuffleAddressList":"yes"}"#).expect_err("must be a bool");
    assert_eq!(error.path(), "shuffleAddressList");
}

#[test]
fn other_sub_conns_are_none_of_its_business() {
    let mut driver = connected(&["a:1"], "a:1");
    let stranger = Recorder::new()
        .new_sub_conn(vec![Address::new("x:1")], NewSubConnOptions::new())
        .expect("a SubConn");
    for state in [
        S::Connecting,
        S::TransientFailure,
        S::Idle,
        S::Ready,
        S::Shutdown,
    ] {
        driver
            .balancer
            .handle_sub_conn_state_change(&stranger, &SubConnState::new(state));
        driver.balancer.settle();
    }
    assert_eq!(driver.cc.take(), []);
    assert_eq!(driver.cc.picks(1), [0]);
}

#[test]
fn old_pickers_stay_callable() {
    let mut driver = connected(&["a:1"], "a:1");
    let ready = driver.cc.picker();
    driver.idle(0);
    let idle = driver.cc.picker();
    driver.balancer.close();
    drop(driver.balancer);
    driver.cc.take();
    assert_eq!(support::pick(&*ready), Ok(0));
    assert_eq!(support::pick(&*idle), Err(ERR_NO_SUB_CONN_AVAILABLE));
    assert_eq!(driver.cc.take(), [], "and ask for nothing");
}

#[test]
fn an_idle_picker_that_was_replaced_asks_for_nothing() {
    let mut driver = connected(&["a:1"], "a:1");
    driver.idle(0);
    let old = driver.cc.picker();
    driver.balancer.exit_idle();
    driver.connecting(0).idle(0);
    driver.cc.take();
    let _ = support::pick(&*old);
    assert_eq!(driver.cc.take(), [], "the new picker does");
    let _ = driver.cc.pick();
    assert_eq!(driver.cc.take(), [Asked::Connect(0)]);
}

#[test]
fn a_closed_policy_is_silent_even_if_something_comes_late() {
    let mut driver = connected(&["a:1"], "a:1");
    driver.idle(0);
    driver.balancer.close();
    driver.cc.take();
    driver.balancer.exit_idle();
    driver.failed(0).idle(0).connecting(0).ready(0);
    driver.resolve(&["b:1"]).expect("nothing is said");
    driver.resolve(&[]).expect("nothing is said");
    assert_eq!(driver.cc.take(), []);
}
