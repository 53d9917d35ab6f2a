//! Step 7: a story for each end of an RPC and for each timer.

use std::time::Duration;

use balancer_api::{Code, Status};
use balancer_guide::{cautious, least_request};
use balancer_testkit::{Script, Setup};

#[test]
fn the_busy_backend_is_passed_over_until_its_rpc_ends() {
    let mut conn = Script::start(least_request::builder(), ["a", "b"]);
    conn.ready("a").ready("b");
    // Each pick draws two backends: here first a, then b.
    conn.random([0, 1]);
    let long = conn.rpc();
    assert_eq!(*long.outcome(), "a", "none is busy: the first one drawn");

    conn.random([0, 1, 0, 1]);
    assert_eq!(conn.picks(2), ["b", "b"], "a has an RPC in flight");

    long.ok();
    conn.random([0, 1]);
    assert_eq!(conn.pick(), "a", "must count down when an RPC ends");
}

#[test]
fn every_end_of_an_rpc_gives_the_backend_back() {
    let mut conn = Script::start(least_request::builder(), ["a", "b"]);
    conn.ready("a").ready("b");
    let ends: [fn(balancer_testkit::Rpc); 4] = [
        |rpc| rpc.ok(),
        |rpc| rpc.fail(&Status::unavailable("reset")),
        |rpc| rpc.not_sent(),
        |rpc| drop(rpc),
    ];
    for end in ends {
        conn.random([0, 1]);
        let rpc = conn.rpc();
        assert_eq!(*rpc.outcome(), "a", "must not count RPCs that have ended");
        end(rpc);
    }
}

/// A story with two backends that are READY, one failure being too many.
fn strict() -> Script {
    let setup = Setup::new().config(r#"{"failuresInARow":1,"timeOut":"10s"}"#);
    let mut conn = Script::with(cautious::builder(), setup);
    conn.update(["a", "b"]).ready("a").ready("b");
    conn
}

/// An RPC to `a` fails with `code`.
fn fail(conn: &mut Script, code: Code) {
    conn.random([0, 0]);
    let rpc = conn.rpc();
    assert_eq!(*rpc.outcome(), "a");
    rpc.fail(&Status::new(code, "a story"));
    conn.catch_up();
}

#[test]
fn a_failing_backend_is_put_aside_and_taken_back_by_a_timer() {
    let mut conn = strict();
    fail(&mut conn, Code::Unavailable);
    conn.seed(1);
    assert_eq!(conn.timers(), 1, "must set a timer to take it back");
    assert_eq!(conn.picks(4), ["b", "b", "b", "b"], "must put a aside");

    conn.advance(Duration::from_secs(9));
    assert_eq!(conn.picks(2), ["b", "b"], "must keep it aside for 10 s");

    conn.advance(Duration::from_secs(1));
    conn.random([0, 0]);
    assert_eq!(conn.pick(), "a", "must take it back");
    assert_eq!(conn.timers(), 0);
}

#[test]
fn an_rpc_that_is_to_blame_itself_harms_no_backend() {
    let mut conn = strict();
    fail(&mut conn, Code::InvalidArgument);
    fail(&mut conn, Code::Cancelled);
    assert_eq!(conn.timers(), 0, "must not put a aside");
}

#[test]
fn when_all_are_aside_all_are_used() {
    let mut conn = strict();
    fail(&mut conn, Code::Unavailable);
    conn.random([0, 0]);
    let rpc = conn.rpc();
    assert_eq!(*rpc.outcome(), "b");
    rpc.fail(&Status::unavailable("a story"));

    conn.random([0, 0, 1, 1]);
    assert_eq!(
        conn.picks(2),
        ["a", "b"],
        "must not leave RPCs without a backend"
    );
}

#[test]
fn a_new_connection_is_a_new_chance() {
    let mut conn = strict();
    fail(&mut conn, Code::Unavailable);
    conn.lost("a");
    assert_eq!(conn.timers(), 0, "must cancel the timer of what is gone");
    conn.ready("a").random([0, 0]);
    assert_eq!(conn.pick(), "a");
}
