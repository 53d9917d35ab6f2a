//! SubConns from the outside: connections, removal, new lists, permits.

use balancer_api::{Address, ConnectivityState as State, PickError, Reconnect};

use crate::support::{Answer, Fixture, Flow, endpoints};

/// A channel whose policy only makes what the test makes.
fn manual() -> Fixture {
    let fixture = Fixture::new("unused");
    fixture.a.hook(|_, _| Flow::Done);
    fixture.connect();
    fixture.log.take();
    fixture
}

#[test]
fn a_loss_closes_the_connection_and_the_policy_decides() {
    let fixture = Fixture::new("x");
    fixture.connect().pass(2.0);
    let open = fixture.open_rpc();
    fixture.log.take();
    fixture.lose("x");
    assert_eq!(
        fixture.log.take(),
        [
            "close x",
            "a1: x IDLE (reset)",
            "a1: x CONNECTING",
            "dial x",
            // The new list that the loss asked for.
            "a1: addrs [x]",
            "a1: x READY"
        ]
    );
    open.finish();
    assert_eq!(
        fixture.a.done(),
        1,
        "streams of the lost connection end as they will"
    );
}

#[test]
fn reconnecting_immediately_is_the_subconns_own_doing() {
    let fixture = manual();
    let stage = fixture.a.stage();
    stage.make("x", Reconnect::Immediately).connect();
    fixture.run().pass(2.0);
    fixture.log.take();
    fixture.lose("x");
    assert_eq!(
        fixture.told(),
        [
            "a1: x CONNECTING (reset)",
            "a1: addrs [unused]",
            "a1: x READY"
        ]
    );
    fixture.answer("x", Answer::Refuse).lose("x");
    assert_eq!(
        fixture.told(),
        [
            "a1: x CONNECTING (reset)",
            // Lost within a second of READY: no redial before the wait is over.
            "a1: x TRANSIENT_FAILURE (reset)",
            "a1: addrs [unused]",
        ]
    );
    fixture.answer("x", Answer::Accept).pass(1.3);
    assert_eq!(fixture.told(), ["a1: x CONNECTING", "a1: x READY"]);
}

#[test]
fn response_headers_prove_a_connection_at_once() {
    let fixture = Fixture::new("x");
    fixture.connect();
    fixture.rpc();
    fixture.log.take();
    fixture.lose("x");
    assert_eq!(
        fixture.told(),
        [
            "a1: x IDLE (reset)",
            "a1: x CONNECTING",
            "a1: addrs [x]",
            "a1: x READY"
        ],
        "no back-off"
    );
}

#[test]
fn the_word_of_response_headers_may_be_behind_that_of_the_loss() {
    let fixture = Fixture::new("x");
    fixture.connect();
    // Both before the balancer's task runs: the loss is told first.
    fixture.wire("x").lose("reset");
    fixture.sim.step();
    fixture.wire("x").answer();
    fixture.log.take();
    fixture.run();
    assert_eq!(fixture.told().last().unwrap(), "a1: x READY");
}

#[test]
fn removal_is_graceful_and_told_once() {
    let fixture = manual();
    let stage = fixture.a.stage();
    let sub_conn = stage.make("x", Reconnect::WhenAsked);
    sub_conn.connect();
    fixture.run();
    let stream = fixture.wire("x").open_stream();
    fixture.log.take();
    stage.cc.remove_sub_conn(&sub_conn);
    stage.cc.remove_sub_conn(&sub_conn);
    fixture.run();
    assert_eq!(fixture.log.take(), ["close x", "a1: x SHUTDOWN"]);
    assert!(
        fixture.wire("x").aborted().is_none(),
        "streams run to their end"
    );
    drop(stream);
    fixture.wire("x").lose("closed");
    sub_conn.connect();
    fixture.pass(1_000.0);
    assert_eq!(fixture.log.take(), [""; 0], "and then silence");
    assert_eq!(fixture.env.net.held(), 0);
}

#[test]
fn removal_cancels_a_dial_and_a_wait() {
    let fixture = manual();
    fixture
        .answer("x", Answer::Hang)
        .answer("y", Answer::Refuse);
    let stage = fixture.a.stage();
    let [hangs, waits] = ["x", "y"].map(|name| stage.make(name, Reconnect::Immediately));
    hangs.connect();
    waits.connect();
    fixture.run();
    fixture.log.take();
    stage.cc.remove_sub_conn(&hangs);
    stage.cc.remove_sub_conn(&waits);
    fixture.run();
    assert_eq!((fixture.sim.sleepers(), fixture.sim.tasks()), (0, 2));
    fixture.pass(1_000.0);
    assert_eq!(
        fixture.log.take(),
        ["a1: x SHUTDOWN", "a1: y SHUTDOWN", "give up x"]
    );
}

#[test]
fn a_new_list_keeps_or_replaces_the_connection() {
    let fixture = manual();
    let sub_conn = fixture.a.stage().make("x", Reconnect::WhenAsked);
    sub_conn.connect();
    fixture.run();
    let list = |names: &[&str]| names.iter().map(|name| Address::new(*name)).collect();
    fixture.log.take();
    sub_conn.update_addresses(list(&["y", "x"]));
    fixture.run();
    assert_eq!(fixture.log.take(), [""; 0], "still listed: kept");
    let stream = fixture.wire("x").open_stream();
    sub_conn.update_addresses(list(&["y", "z"]));
    fixture.run();
    assert_eq!(
        fixture.log.take(),
        ["close x", "a1: x CONNECTING", "dial y", "a1: x READY"]
    );
    assert!(fixture.wire("x").aborted().is_none(), "its streams finish");
    drop(stream);
    sub_conn.update_addresses(Vec::new());
    fixture.run();
    assert_eq!(fixture.log.take(), ["close y", "a1: x IDLE"]);
    sub_conn.update_addresses(list(&["z"]));
    sub_conn.connect();
    fixture.run();
    assert_eq!(
        fixture.log.take(),
        ["a1: x CONNECTING", "dial z", "a1: x READY"]
    );
    let snapshot = fixture.core.snapshot();
    assert_eq!(snapshot.sub_conns[0].addresses, list(&["z"]));
    assert_eq!(snapshot.sub_conns[0].connected, Some(Address::new("z")));
}

#[test]
fn a_longer_list_than_allowed_is_not_taken() {
    let fixture = Fixture::with("x", |settings| settings.max_endpoints = 3);
    fixture.connect();
    fixture.log.take();
    let four = ["x", "y", "z", "w"].map(Address::new);
    fixture.a.stage().sub("x").update_addresses(four.into());
    fixture.run();
    assert_eq!(fixture.core.snapshot().sub_conns[0].addresses.len(), 1);
    fixture.resolve("x y z w");
    assert_eq!(
        fixture.told(),
        ["a1: error (the resolver gave 4 endpoints; at most 3 are allowed)"],
        "and the old list is kept"
    );
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn only_so_many_dial_at_once_but_a_black_hole_delays_nobody_long() {
    let names: Vec<String> = (0..150).map(|n| format!("h{n}")).collect();
    let fixture = Fixture::unresolved();
    for name in &names {
        fixture.env.net.set(name, Answer::Hang);
    }
    fixture.connect();
    fixture.resolver.set_endpoints(endpoints(&names.join(" ")));
    fixture.run();
    assert_eq!(fixture.env.net.dials(), (64, 64));
    fixture.pass(0.999);
    assert_eq!(fixture.env.net.dials(), (64, 64));
    fixture.pass(0.001);
    assert_eq!(
        fixture.env.net.dials(),
        (128, 128),
        "after a second they do not count"
    );
    // One that ends makes room at once.
    fixture.answer("h70", Answer::Accept);
    assert_eq!(fixture.env.net.dials(), (128, 128));
    assert_eq!(fixture.env.net.requests().len(), 129);
    fixture.pass(1.0);
    assert_eq!(fixture.env.net.dials(), (149, 149));
    assert_eq!(fixture.rpc().outcome(), "h70");
}

/// More black holes than can be dialled in the time that connecting to one may take.
#[test]
fn nobody_runs_out_of_time_while_waiting_for_a_turn() {
    let names: Vec<String> = (0..100).map(|n| format!("h{n}")).collect();
    let fixture = Fixture::unresolved_with(|settings| settings.max_connecting = 4);
    for name in &names {
        fixture.env.net.set(name, Answer::Hang);
    }
    fixture.connect();
    fixture.resolver.set_endpoints(endpoints(&names.join(" ")));
    fixture.run();
    for second in 1..=25 {
        fixture.pass(1.0);
        let sub_conns = fixture.core.snapshot().sub_conns;
        let failed = sub_conns.iter().filter(|it| it.last_error.is_some());
        let dialled_long_ago = if second < 20 { 0 } else { 4 * (second - 19) };
        assert_eq!(failed.count(), dialled_long_ago, "after {second} s");
    }
}

#[test]
fn a_limit_of_no_dials_still_allows_one() {
    let fixture = Fixture::with("x y", |settings| settings.max_connecting = 0);
    fixture.connect();
    assert_eq!(fixture.state(), State::Ready);
    assert_eq!(fixture.env.net.dials(), (0, 1));
}

#[test]
fn a_connector_that_panics_is_a_failed_attempt() {
    let fixture = Fixture::new("x");
    fixture.answer("x", Answer::Panic).connect();
    assert_eq!(
        fixture.rpc().outcome(),
        "unavailable: the connector panicked: no such network"
    );
    fixture.answer("x", Answer::Accept).pass(1.0);
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn too_many_pings_means_fewer_pings_from_then_on() {
    let fixture = Fixture::new("x");
    fixture.connect();
    for _ in 0..2 {
        fixture.pass(2.0);
        fixture.wire("x").too_many_pings();
        fixture.run();
    }
    assert_eq!(doublings(&fixture), [0, 1, 2]);
}

#[test]
fn a_sub_conn_that_is_made_later_has_heard_of_too_many_pings() {
    let fixture = Fixture::new("x");
    fixture.connect().pass(2.0);
    fixture.wire("x").too_many_pings();
    fixture.run().pass(2.0);
    fixture.core.enter_idle();
    fixture.run();
    assert_eq!(fixture.rpc().outcome(), "x");
    assert_eq!(doublings(&fixture), [0, 1, 1]);
}

#[test]
fn peers_that_complain_of_the_same_time_have_it_doubled_once() {
    let fixture = Fixture::new("x y");
    fixture.connect().pass(2.0);
    let (x, y) = (fixture.wire("x"), fixture.wire("y"));
    x.too_many_pings();
    y.too_many_pings();
    fixture.run();
    assert_eq!(doublings(&fixture), [0, 0, 1, 1]);
}

/// How often the time between pings was doubled, for each dial in turn.
fn doublings(fixture: &Fixture) -> Vec<u32> {
    let requests = fixture.env.net.requests();
    let doublings = requests.iter().map(|request| request.keepalive_doublings);
    doublings.collect()
}

#[test]
fn reset_backoff_redials_at_once() {
    let fixture = Fixture::new("x");
    fixture.answer("x", Answer::Refuse).connect();
    for _ in 0..6 {
        fixture.pass(20.0);
    }
    fixture.answer("x", Answer::Accept);
    assert_eq!(fixture.state(), State::TransientFailure);
    fixture.core.reset_backoff();
    fixture.run();
    assert_eq!(fixture.state(), State::Ready);
}

#[test]
fn a_subconn_made_while_its_policy_is_closed_is_not_left_behind() {
    // On another thread, its announcement is still in the queue when the policy is closed.
    let fixture = manual();
    let stage = fixture.a.stage();
    fixture.core.enter_idle();
    stage.make("x", Reconnect::WhenAsked).connect();
    fixture.run();
    assert_eq!(fixture.core.snapshot().sub_conns.len(), 0);
    fixture.pass(100.0);
    assert_eq!(fixture.log.take(), ["a1: close", "a1: drop"], "nor dialled");
}

#[test]
fn nothing_is_told_of_a_subconn_that_was_never_connected() {
    let fixture = manual();
    let stage = fixture.a.stage();
    let sub_conn = stage.make("x", Reconnect::Immediately);
    sub_conn.update_addresses(vec![Address::new("y")]);
    fixture.core.reset_backoff();
    fixture.pass(1_000.0);
    assert_eq!(fixture.log.take(), [""; 0]);
    let published = PickError::NoSubConnAvailable;
    stage.publish(State::Idle, move |_| Err(published.clone()));
    fixture.core.close();
    fixture.run();
    assert_eq!(fixture.log.take(), ["a1: close", "a1: drop"]);
}
