//! pick_first in conversation with a channel: what it asks for, and what it reports.

use balancer_api::{ConnectivityState as S, *};
use balancer_pickfirst::{PickFirst, PickFirstConfig};
use balancer_testkit::{List, Script, Setup};

/// The SubConn has failed on the whole list.
const REFUSED: &str = "connection refused";

fn start(list: &str) -> Script {
    let mut conn = Script::new(PickFirst::new());
    conn.resolved(Ok(resolved(list)));
    conn
}

fn connected(list: &str, address: &str) -> Script {
    let mut conn = start(list);
    conn.ready(address).forget();
    conn
}

fn resolved(list: &str) -> ResolvedAddrs {
    ResolvedAddrs::new(List::parse(list).endpoints().iter().cloned())
}

/// The text of a failing pick.
fn failure(conn: &mut Script) -> String {
    let outcome = conn.pick();
    assert_eq!(outcome, "fail");
    outcome.message().unwrap_or_default().to_owned()
}

/// Nothing was asked for and nothing published since the last question.
fn assert_quiet(conn: &mut Script, why: &str) {
    let asked = (
        conn.created(),
        conn.connects(),
        conn.removed(),
        conn.readdressed(),
    );
    assert_eq!(asked, Default::default(), "{why}");
    assert_eq!(conn.published(), [], "{why}");
    assert_eq!(conn.resolve_nows(), 0, "{why}");
}

#[test]
fn one_sub_conn_holds_the_whole_list_and_connects_at_once() {
    let mut conn = start("1.1.1.1:1 1.1.1.2:1 [2::1]:1 1.1.1.1:1");
    let whole = "1.1.1.1:1+[2::1]:1+1.1.1.2:1";
    assert_eq!(
        conn.created(),
        [whole],
        "each once, the families taking turns"
    );
    assert_eq!(conn.connects(), [whole]);
    assert_eq!(conn.published(), [S::Connecting]);
    assert_eq!(conn.pick(), "queue");
}

#[test]
fn every_rpc_goes_to_the_one_connection() {
    let mut conn = connected("a b", "b");
    assert_eq!(conn.state(), S::Ready);
    assert_eq!(conn.picks(3), ["b", "b", "b"]);
}

#[test]
fn a_lost_connection_is_remade_when_somebody_needs_it_and_once() {
    let mut conn = connected("a b", "a");
    conn.lost("a");
    assert_eq!(conn.published(), [S::Idle]);
    assert_eq!(conn.resolve_nows(), 1);
    assert_eq!(conn.connects(), [""; 0], "nobody needs it yet");
    conn.repeat("a");
    assert_quiet(&mut conn, "that is known");

    let picker = conn.picker();
    let picks: Vec<_> = (0..3).map(|_| conn.rpc_from(&*picker)).collect();
    assert!(picks.iter().all(|rpc| rpc.outcome().is_queue()));
    conn.exit_idle();
    assert_eq!(conn.connects(), ["a+b"], "one wish for all of them");
    conn.ready("b");
    assert_eq!(conn.pick(), "b");

    conn.lost("b").forget();
    let _ = conn.rpc_from(&*picker);
    assert_quiet(&mut conn, "a picker that was replaced asks for nothing");
    conn.exit_idle();
    assert_eq!(conn.connects(), ["a+b"], "the application may ask, too");
}

#[test]
fn failure_is_sticky_and_shows_the_latest_error() {
    let mut conn = start("a b");
    conn.forget().failed("a", REFUSED);
    assert_eq!(
        conn.published(),
        [S::TransientFailure],
        "the whole list failed"
    );
    assert_eq!(conn.resolve_nows(), 1);
    assert_eq!(failure(&mut conn), REFUSED);

    conn.idle("a");
    assert_eq!(conn.connects(), ["a+b"], "redialled");
    conn.connecting("a");
    assert_eq!(conn.published(), [], "and failed until it is READY");
    conn.failed("a", "no route");
    assert_eq!(failure(&mut conn), "no route");
    assert_eq!(conn.resolve_nows(), 1);
    conn.ready("a").lost("a");
    assert_eq!(conn.state(), S::Idle, "READY ended the stickiness");
}

#[test]
fn an_update_while_ready_moves_only_when_the_address_is_gone() {
    let mut conn = connected("a b", "b");
    conn.update(["a", "b"]);
    assert_quiet(&mut conn, "the same list is no news");
    conn.update(["b@1", "a"]);
    assert_eq!(conn.readdressed(), ["b+a"]);
    assert_quiet(&mut conn, "b is still there");
    conn.update(["b", "c"]);
    assert_eq!(conn.readdressed(), ["b+c"]);
    assert_eq!(conn.pick(), "b");
    assert_quiet(&mut conn, "b is still there");

    conn.update(["c", "d"]);
    assert_eq!(conn.readdressed(), ["c+d"]);
    assert_eq!(conn.published(), [S::Connecting]);
    assert_eq!(conn.pick(), "queue", "b must not be picked any more");
    conn.ready("c");
    assert_eq!(conn.published(), [S::Ready]);
    assert_eq!(conn.pick(), "c");
}

#[test]
fn another_peer_under_the_same_address_is_another_address() {
    let mut conn = connected("a", "a");
    conn.update(["a#1"]);
    assert_eq!(conn.state(), S::Connecting);
    assert_eq!(conn.pick(), "queue");
}

#[test]
fn an_update_while_connecting_goes_on() {
    let mut conn = start("a");
    conn.connecting("a").forget();
    conn.update(["b", "a"]);
    assert_eq!(conn.readdressed(), ["b+a"]);
    assert_quiet(&mut conn, "still CONNECTING");
}

#[test]
fn an_update_while_idle_stays_idle() {
    let mut conn = connected("a", "a");
    conn.lost("a").forget();
    conn.update(["b"]);
    assert_eq!(conn.readdressed(), ["b"]);
    assert_quiet(&mut conn, "nobody needs it");
    assert_eq!(conn.pick(), "queue");
    assert_eq!(conn.connects(), ["a"], "the SubConn made for a");
}

#[test]
fn an_update_while_failing_starts_a_pass_and_stays_failing() {
    let mut conn = start("a");
    conn.failed("a", REFUSED).forget();
    conn.update(["a", "b"]);
    assert_eq!(conn.readdressed(), ["a+b"]);
    assert_eq!(
        conn.connects(),
        ["a"],
        "b ends the back-off of the SubConn made for a"
    );
    conn.connecting("a");
    assert_eq!(conn.published(), [], "TRANSIENT_FAILURE must stay");
    assert_eq!(failure(&mut conn), REFUSED);
    conn.ready("b");
    assert_eq!(conn.pick(), "b");
}

#[test]
fn an_empty_list_removes_everything_and_the_next_good_one_connects() {
    let mut conn = connected("a", "a");
    conn.resolved(Ok(resolved("").with_note("the service has no pods")));
    let text = "resolver produced zero addresses (the service has no pods)";
    assert_eq!(conn.last_result(), Err(Rejected::new(text)));
    assert_eq!(conn.removed(), ["a"]);
    assert_eq!(conn.published(), [S::TransientFailure]);
    assert!(failure(&mut conn).contains(text));
    conn.empty().forget();
    conn.resolved(Ok(resolved("a")));
    assert_eq!(conn.created(), ["a"]);
    assert_eq!(
        conn.published(),
        [S::Connecting],
        "this failure is not sticky"
    );
}

#[test]
fn an_empty_list_first_is_a_failure_and_no_panic() {
    let mut conn = start("");
    assert_eq!(conn.published(), [S::TransientFailure]);
    assert!(conn.last_result().is_err());
    conn.update_endpoints([Endpoint::new([])]);
    assert!(
        conn.last_result().is_err(),
        "an endpoint without addresses is nothing"
    );
    assert_eq!(conn.created(), [""; 0]);
}

#[test]
fn a_resolver_error_counts_only_while_there_is_nothing_better() {
    let mut conn = Script::new(PickFirst::new());
    conn.resolver_error("no such host");
    assert_eq!(failure(&mut conn), "resolver: no such host");
    conn.update(["a"]);
    assert_eq!(conn.state(), S::Connecting);
    conn.forget().resolver_error("no such host");
    assert_quiet(&mut conn, "CONNECTING goes on");
    conn.ready("a").forget().resolver_error("no such host");
    assert_quiet(&mut conn, "READY goes on");
    conn.lost("a").forget().resolver_error("no such host");
    assert_quiet(&mut conn, "IDLE goes on");

    conn.exit_idle().failed("a", REFUSED);
    assert_eq!(
        failure(&mut conn),
        "connection refused; resolver: no such host"
    );
    conn.resolver_error("server is gone");
    assert_eq!(
        failure(&mut conn),
        "connection refused; resolver: server is gone"
    );
    conn.again();
    assert_eq!(failure(&mut conn), REFUSED, "the resolver is well again");
}

#[test]
fn a_refused_sub_conn_is_tried_again_with_the_next_result() {
    let mut conn = Script::new(PickFirst::new());
    conn.refuse_next("too many").update(["a"]);
    assert!(
        conn.last_result().is_err(),
        "the resolver's back-off times the next try"
    );
    assert!(failure(&mut conn).contains("too many"));
    conn.again();
    assert_eq!(
        conn.state(),
        S::Connecting,
        "the same list must be tried again"
    );
}

#[test]
fn a_configuration_of_another_policy_is_rejected() {
    let foreign = || resolved("b").with_config(Some(LbConfig::new("{}", "something else")));
    let mut conn = connected("a", "a");
    conn.resolved(Ok(foreign()));
    assert!(conn.last_result().is_err());
    assert_quiet(&mut conn, "all goes on as it was");

    let mut conn = Script::new(PickFirst::new());
    conn.resolved(Ok(foreign()));
    assert_eq!(
        failure(&mut conn),
        "resolver: the configuration is not one of pick_first"
    );
}

#[test]
fn shuffling_moves_endpoints_whole() {
    let setup = Setup::new().config(r#"{"shuffleAddressList":true}"#);
    let mut conn = Script::with(PickFirst::new(), setup);
    // Three endpoints: the last changes places with 1 of 0..=2, then the middle with 0 of 0..=1.
    conn.random([1, 0]).update(["a", "b1+b2", "c"]);
    assert_eq!(conn.created(), ["c+a+b1+b2"], "b1 must stay before b2");
    conn.forget().random([0, 0]).update(["a", "b1+b2", "c"]);
    assert_quiet(&mut conn, "the same result is not shuffled again");
    conn.update(["a", "b1+b2", "d"]);
    assert_eq!(conn.readdressed().len(), 1, "a new one is");
}

#[test]
fn a_shuffled_first_address_is_spread_over_all() {
    let config = PickFirstConfig::new().with_shuffle_address_list(true);
    let config = LbConfig::new("{}", config);
    let mut firsts = [0; 4];
    for seed in 0..400 {
        let mut conn = Script::with(PickFirst::new(), Setup::new().seed(seed));
        conn.resolved(Ok(resolved("a b c d").with_config(Some(config.clone()))));
        let first = conn.created()[0].as_bytes()[0] - b'a';
        firsts[usize::from(first)] += 1;
    }
    // 100 each, give or take five standard deviations.
    assert!(
        firsts.iter().all(|n| (57..=143).contains(n)),
        "seeds 0..400: {firsts:?}"
    );
}

#[test]
fn a_list_of_one_is_not_shuffled() {
    let setup = Setup::new().config(r#"{"shuffleAddressList":true}"#);
    let mut conn = Script::with(PickFirst::new(), setup);
    conn.update(["a+b+c"]);
    assert_eq!(conn.created(), ["a+b+c"]);
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
fn strangers_are_none_of_its_business() {
    let mut conn = connected("a", "a");
    conn.empty().update(["b"]).ready("b").forget();
    conn.strangers();
    assert_quiet(&mut conn, "neither the old SubConn nor one of nobody");
    assert_eq!(conn.pick(), "b");
}

#[test]
fn a_closed_policy_is_silent_even_if_something_comes_late() {
    let mut conn = connected("a", "a");
    let ready = conn.picker();
    conn.lost("a");
    let idle = conn.picker();
    conn.forget().close();
    conn.events("late");
    assert_eq!(
        conn.rpc_from(&*ready).outcome(),
        &"a",
        "old pickers stay callable"
    );
    assert!(conn.rpc_from(&*idle).outcome().is_queue());
    assert_eq!(conn.connects(), [""; 0], "and ask for nothing");
    assert_eq!(conn.published(), []);
}
