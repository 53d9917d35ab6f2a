//! Client-side health checking (gRFC A17): what the backend says, and what the policy is told.

use std::sync::{Arc, Mutex};

use balancer_api::{CallEvent, Code, ConnectivityState as State, Reconnect, Status};
use bytes::Bytes;
use http::HeaderMap;

use crate::support::{Answer, CallState, Fixture};

const SERVING: &[u8] = &[8, 1];
const NOT_SERVING: &[u8] = &[8, 2];
const SERVICE_UNKNOWN: &[u8] = &[8, 3];

/// A channel to `names` whose service config asks for the health of "svc".
fn checked(names: &str) -> Fixture {
    let fixture = Fixture::unresolved();
    fixture.connect();
    fixture.resolve_with(names, "a/health=svc");
    fixture.log.take();
    fixture
}

/// The newest watch over the backend at `address`.
fn watch(fixture: &Fixture, address: &str) -> Arc<Mutex<CallState>> {
    let calls = fixture.wire(address).calls();
    calls.last().expect("a call that asks for health").clone()
}

fn says(fixture: &Fixture, address: &str, message: &'static [u8]) -> Vec<String> {
    let message = Bytes::from_static(message);
    CallState::serve(&watch(fixture, address), CallEvent::Message(message));
    fixture.run();
    fixture.told()
}

fn ends(fixture: &Fixture, address: &str, code: Code) -> Vec<String> {
    let end = CallEvent::End {
        status: Status::new(code, "bye"),
        trailers: HeaderMap::new(),
    };
    CallState::serve(&watch(fixture, address), end);
    fixture.run();
    fixture.told()
}

fn watches(fixture: &Fixture, address: &str) -> usize {
    fixture.wire(address).calls().len()
}

fn cancelled(fixture: &Fixture, address: &str) -> bool {
    watch(fixture, address).lock().unwrap().cancelled
}

#[test]
fn ready_is_told_when_the_backend_serves_and_health_moves_without_a_redial() {
    let fixture = checked("x");
    assert_eq!(fixture.state(), State::Connecting, "connected, not healthy");
    {
        let call = watch(&fixture, "x");
        let seen = call.lock().unwrap();
        let request = seen.request.as_ref().unwrap();
        assert_eq!(&*request.method, "/grpc.health.v1.Health/Watch");
        assert_eq!(request.first_message.as_deref(), Some(&b"\n\x03svc"[..]));
        assert!(request.half_close);
    }
    let waiting = fixture.rpc();
    assert_eq!(waiting.outcome(), "waits", "nothing is READY");
    assert_eq!(says(&fixture, "x", SERVING), ["a1: x READY"]);
    assert_eq!(fixture.a.picked(), 1);
    assert_eq!(
        says(&fixture, "x", NOT_SERVING),
        ["a1: x TRANSIENT_FAILURE (x: not healthy: svc says NOT_SERVING) by health"]
    );
    assert_eq!(fixture.state(), State::TransientFailure);
    assert_eq!(says(&fixture, "x", NOT_SERVING), [""; 0], "said already");
    assert_eq!(says(&fixture, "x", SERVING), ["a1: x READY by health"]);
    assert_eq!(says(&fixture, "x", SERVING), [""; 0], "said already");
    assert_eq!(fixture.env.net.requests().len(), 1, "one dial, ever");
}

#[test]
fn a_backend_that_does_not_serve_fails_instead_of_becoming_ready() {
    for (message, name) in [
        (NOT_SERVING, "NOT_SERVING"),
        (SERVICE_UNKNOWN, "SERVICE_UNKNOWN"),
        (&[], "UNKNOWN"),
        (&[8, 9], "9, which is no status"),
        (&[0xff], "something that is no HealthCheckResponse"),
    ] {
        let fixture = checked("x");
        let told = format!("a1: x TRANSIENT_FAILURE (x: not healthy: svc says {name}) by health");
        assert_eq!(says(&fixture, "x", message), [told]);
        let outcome = fixture.rpc().outcome();
        assert!(outcome.contains(name), "{outcome}");
    }
}

#[test]
fn a_server_without_the_method_is_healthy_for_ever() {
    let fixture = checked("x");
    assert_eq!(
        ends(&fixture, "x", Code::Unimplemented),
        ["a1: x READY"],
        "it cannot say otherwise"
    );
    fixture.pass(1_000.0);
    assert_eq!(watches(&fixture, "x"), 1, "and is not asked again");
    assert_eq!(fixture.state(), State::Ready);
}

#[test]
fn a_watch_that_ends_is_made_again_after_a_back_off_that_an_answer_resets() {
    let fixture = checked("x");
    let lost = [
        "a1: x TRANSIENT_FAILURE (x: not healthy: the watch over svc ended: UNAVAILABLE: bye) by health",
    ];
    assert_eq!(ends(&fixture, "x", Code::Unavailable), lost);
    fixture.pass(0.79);
    assert_eq!(watches(&fixture, "x"), 1, "1 s less 20 % at the soonest");
    fixture.pass(0.42);
    assert_eq!(watches(&fixture, "x"), 2, "1 s and 20 % at the latest");
    assert_eq!(
        ends(&fixture, "x", Code::Unavailable),
        [""; 0],
        "TF already"
    );
    fixture.pass(1.27);
    assert_eq!(watches(&fixture, "x"), 2, "the second wait is 1.6 s");
    fixture.pass(0.66);
    assert_eq!(watches(&fixture, "x"), 3);

    // An answer, and no pause once it has lasted.
    assert_eq!(says(&fixture, "x", SERVING), ["a1: x READY by health"]);
    fixture.pass(1.0);
    assert_eq!(ends(&fixture, "x", Code::Unavailable), lost);
    assert_eq!(watches(&fixture, "x"), 4, "at once");
    // One that answers and ends at once is not asked in a loop.
    assert_eq!(says(&fixture, "x", SERVING), ["a1: x READY by health"]);
    assert_eq!(ends(&fixture, "x", Code::Ok).len(), 1);
    fixture.pass(0.79);
    assert_eq!(watches(&fixture, "x"), 4);
    fixture.pass(0.42);
    assert_eq!(watches(&fixture, "x"), 5);
}

#[test]
fn a_connection_lost_before_its_health_is_known_was_never_ready() {
    let fixture = checked("x");
    fixture.lose("x");
    assert_eq!(
        fixture.told()[..2],
        ["a1: x IDLE (reset)", "a1: x CONNECTING"]
    );

    let fixture = Fixture::unresolved();
    *fixture.a.reconnect.lock().unwrap() = Reconnect::Immediately;
    fixture.connect();
    fixture.resolve_with("x", "a/health=svc").pass(2.0);
    fixture.log.take();
    let first = watch(&fixture, "x");
    fixture.answer_later("x", Answer::Hang);
    fixture.lose("x");
    let moves: Vec<_> = fixture.told();
    assert!(
        !moves.iter().any(|line| line.contains("a1: x")),
        "CONNECTING before and after: {moves:?}"
    );
    assert!(
        first.lock().unwrap().cancelled,
        "nobody listens to the old watch"
    );
    fixture.answer("x", Answer::Accept);
    assert_eq!(says(&fixture, "x", SERVING), ["a1: x READY"]);
    fixture.pass(2.0).lose("x");
    assert_eq!(fixture.told()[..1], ["a1: x CONNECTING (reset)"]);
}

#[test]
fn a_connection_lost_while_unhealthy_moves_as_any_other() {
    let fixture = checked("x");
    says(&fixture, "x", NOT_SERVING);
    fixture.pass(2.0).lose("x");
    let told = fixture.told();
    assert_eq!(told[..2], ["a1: x IDLE (reset)", "a1: x CONNECTING"]);
    assert_eq!(
        says(&fixture, "x", SERVING),
        ["a1: x READY"],
        "the new connection's watch"
    );
}

#[test]
fn another_service_config_changes_what_is_asked() {
    let fixture = checked("x");
    says(&fixture, "x", NOT_SERVING);
    let first = watch(&fixture, "x");
    fixture.resolve_with("x", "a/health=other");
    assert!(first.lock().unwrap().cancelled);
    assert_eq!(watches(&fixture, "x"), 2);
    fixture.log.take();
    assert_eq!(says(&fixture, "x", SERVING), ["a1: x READY by health"]);
    says(&fixture, "x", NOT_SERVING);
    fixture.resolve_with("x", "a");
    assert!(
        fixture.told().contains(&"a1: x READY by health".to_owned()),
        "nobody asks any more"
    );
    assert!(cancelled(&fixture, "x"));
    fixture.resolve_with("x", "a/health=svc");
    fixture.log.take();
    assert_eq!(fixture.state(), State::Ready, "until the first answer");
    assert_eq!(says(&fixture, "x", NOT_SERVING).len(), 1);
}

#[test]
fn health_is_asked_only_where_application_and_policy_want_it() {
    let fixture = Fixture::unresolved_with(|settings| settings.health_checks = false);
    fixture.connect();
    fixture.resolve_with("x", "a/health=svc");
    assert_eq!(fixture.state(), State::Ready);
    assert_eq!(watches(&fixture, "x"), 0);

    // A SubConn without the option, beside one that has it.
    let fixture = checked("x");
    let options = balancer_api::NewSubConnOptions::new();
    let address = vec![balancer_api::Address::new("y")];
    let plain = fixture.a.stage().cc.new_sub_conn(address, options);
    let plain = plain.expect("a SubConn");
    fixture.a.stage().remember("y", &plain);
    plain.connect();
    fixture.run();
    assert!(fixture.told().contains(&"a1: y READY".to_owned()));
    assert_eq!(watches(&fixture, "y"), 0);
}

#[test]
fn nothing_is_left_of_a_watch_when_its_subconn_is_removed() {
    let fixture = checked("x y");
    says(&fixture, "y", SERVING);
    ends(&fixture, "x", Code::Unavailable);
    fixture.resolve_with("y", "a/health=svc");
    assert_eq!(fixture.sim.sleepers(), 0, "its timer is gone, too");
    fixture.pass(100.0);
    assert_eq!(watches(&fixture, "x"), 1);
    let open = watch(&fixture, "y");
    fixture.core.close();
    fixture.run();
    assert!(open.lock().unwrap().cancelled);
    assert_eq!(fixture.sim.sleepers(), 0);
}
