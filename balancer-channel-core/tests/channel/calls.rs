//! What a policy may ask besides SubConns: timers, calls, look-aside connections.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{CallEvent, CallId, CallRequest, Code, Reconnect, Status, TimerId};
use bytes::Bytes;
use http::HeaderMap;

use crate::support::{CallState, Event, Fixture, Flow};

/// A channel with one READY SubConn, made by hand.
fn connected() -> Fixture {
    let fixture = Fixture::new("unused");
    fixture.a.hook(|_, _| Flow::Done);
    fixture.connect();
    fixture.a.stage().make("x", Reconnect::WhenAsked).connect();
    fixture.run();
    fixture.log.take();
    fixture
}

fn end(code: Code) -> CallEvent {
    CallEvent::End {
        status: Status::new(code, "bye"),
        trailers: HeaderMap::new(),
    }
}

#[test]
fn timers_fire_once_in_order_of_time() {
    let fixture = connected();
    let fired: Arc<Mutex<Vec<TimerId>>> = Arc::default();
    let noted = fired.clone();
    fixture.a.hook(move |_, event| {
        if let Event::Timer(id) = event {
            noted.lock().unwrap().push(*id);
        }
        Flow::Done
    });
    let stage = fixture.a.stage();
    let [late, early, middle] = [3, 1, 2].map(|s| stage.cc.set_timer(Duration::from_secs(s)));
    let never = stage.cc.set_timer(Duration::from_secs(2));
    stage.cc.cancel_timer(never);
    stage.cc.cancel_timer(never);
    let tomorrow = stage.cc.set_timer(Duration::from_secs(86_400));
    stage.cc.cancel_timer(tomorrow);
    fixture.run().pass(0.999);
    assert_eq!(*fired.lock().unwrap(), []);
    fixture.pass(100.0);
    assert_eq!(*fired.lock().unwrap(), [early, middle, late]);
    stage.cc.cancel_timer(early);
    fixture.run();
    assert_eq!(fixture.sim.sleepers(), 0, "what was cancelled wakes nobody");
}

#[test]
fn the_timers_of_a_policy_that_is_closed_wake_nobody() {
    let fixture = connected();
    let stage = fixture.a.stage();
    stage.cc.set_timer(Duration::from_secs(86_400));
    fixture.run();
    assert_eq!(fixture.sim.sleepers(), 1);
    fixture.core.enter_idle();
    fixture.run();
    assert_eq!(fixture.sim.sleepers(), 0, "nobody is there to be woken");
}

#[test]
fn a_timer_cancelled_in_a_callback_is_not_delivered_even_when_due() {
    let fixture = connected();
    let ids: Arc<Mutex<Vec<TimerId>>> = Arc::default();
    let others = ids.clone();
    fixture.a.hook(move |stage, event| {
        if let Event::Timer(_) = event {
            for id in others.lock().unwrap().drain(..) {
                stage.cc.cancel_timer(id);
            }
        }
        Flow::Done
    });
    let stage = fixture.a.stage();
    for _ in 0..5 {
        let id = stage.cc.set_timer(Duration::from_secs(1));
        ids.lock().unwrap().push(id);
    }
    fixture.run().pass(2.0);
    assert_eq!(fixture.log.take(), ["a1: timer"], "the first cancels all");
}

#[test]
fn a_timer_may_set_the_next() {
    let fixture = connected();
    fixture.a.hook(|stage, event| {
        if let Event::Timer(_) = event {
            stage.cc.set_timer(Duration::from_secs(10));
        }
        Flow::Done
    });
    fixture.a.stage().cc.set_timer(Duration::from_secs(10));
    fixture.run().pass(100.0);
    assert_eq!(fixture.log.take(), vec!["a1: timer"; 10]);
}

#[test]
fn a_call_runs_on_the_subconns_own_connection() {
    let fixture = connected();
    let stage = fixture.a.stage();
    stage.make("y", Reconnect::WhenAsked).connect();
    fixture.run();
    fixture.log.take();
    let request = CallRequest::new("/grpc.health.v1.Health/Watch").with_first_message(&b"hi"[..]);
    let id = stage.cc.start_call(&stage.sub("y"), request);
    stage.cc.send_call_message(id, Bytes::from_static(b"more"));
    stage.cc.close_call_send(id);
    stage
        .cc
        .send_call_message(id, Bytes::from_static(b"too late"));
    fixture.run();
    assert_eq!(fixture.wire("x").calls().len(), 0, "ready as well");
    let call = fixture.wire("y").calls()[0].clone();
    {
        let seen = call.lock().unwrap();
        assert_eq!(
            &*seen.request.as_ref().unwrap().method,
            "/grpc.health.v1.Health/Watch"
        );
        assert_eq!((seen.sent.len(), seen.half_closed), (1, true));
    }
    CallState::serve(&call, CallEvent::Headers(HeaderMap::new()));
    CallState::serve(&call, CallEvent::Message(Bytes::from_static(b"one")));
    CallState::serve(&call, end(Code::Ok));
    fixture.run();
    assert_eq!(
        fixture.log.take(),
        [
            "a1: call headers",
            "a1: call message one",
            "a1: call end OK: bye"
        ]
    );
    assert!(!call.lock().unwrap().cancelled);
    stage.cc.cancel_call(id);
    fixture.pass(1_000.0);
    assert_eq!(fixture.log.take(), [""; 0], "the id is not heard of again");
}

#[test]
fn a_call_on_a_subconn_that_is_not_ready_ends_once() {
    let fixture = connected();
    let stage = fixture.a.stage();
    let idle = stage.make("y", Reconnect::WhenAsked);
    let removed = stage.make("z", Reconnect::WhenAsked);
    stage.cc.remove_sub_conn(&removed);
    for sub_conn in [&idle, &removed] {
        let id = stage.cc.start_call(sub_conn, CallRequest::new("/s/m"));
        stage.cc.send_call_message(id, Bytes::new());
        stage.cc.close_call_send(id);
    }
    fixture.run().pass(1_000.0);
    assert_eq!(
        fixture.log.take(),
        [
            "a1: z SHUTDOWN",
            "a1: call end UNAVAILABLE: SubConn#5 (y) is not READY",
            "a1: call end UNAVAILABLE: SubConn#6 (z) is not READY",
        ]
        .map(|line| line
            .replace("#5", &number(&idle))
            .replace("#6", &number(&removed)))
    );
}

/// The "#n" of a SubConn.
fn number(sub_conn: &balancer_api::SubConn) -> String {
    let text = format!("{sub_conn:?}");
    let digits = text.trim_start_matches("SubConn").split(' ').next();
    digits.unwrap_or_default().to_owned()
}

#[test]
fn a_call_whose_connection_ends_has_one_end() {
    let fixture = connected();
    let stage = fixture.a.stage();
    stage
        .cc
        .start_call(&stage.sub("x"), CallRequest::new("/s/m"));
    fixture.run();
    CallState::hang_up(&fixture.wire("x").calls()[0]);
    fixture.run().pass(100.0);
    assert_eq!(
        fixture.log.take(),
        ["a1: call end UNAVAILABLE: the connection ended"]
    );
}

#[test]
fn a_cancelled_call_is_silent_at_once() {
    let fixture = connected();
    fixture.a.hook(|stage, event| {
        if let Event::Call(id, CallEvent::Message(_)) = event {
            stage.cc.cancel_call(*id);
        }
        Flow::Done
    });
    let stage = fixture.a.stage();
    stage
        .cc
        .start_call(&stage.sub("x"), CallRequest::new("/s/m"));
    fixture.run();
    let call = fixture.wire("x").calls()[0].clone();
    for text in ["one", "two", "three"] {
        CallState::serve(
            &call,
            CallEvent::Message(Bytes::from_static(text.as_bytes())),
        );
    }
    fixture.run();
    assert_eq!(fixture.log.take(), ["a1: call message one"]);
    assert!(call.lock().unwrap().cancelled, "and the server is told");
}

#[test]
fn at_most_sixteen_events_wait_for_the_policy() {
    let fixture = connected();
    let stage = fixture.a.stage();
    stage
        .cc
        .start_call(&stage.sub("x"), CallRequest::new("/s/m"));
    fixture.run();
    let call = fixture.wire("x").calls()[0].clone();
    for _ in 0..100 {
        CallState::serve(&call, CallEvent::Message(Bytes::from_static(b"m")));
    }
    // The reader runs, the balancer's task does not yet.
    fixture.sim.step();
    assert_eq!(
        call.lock().unwrap().taken,
        16,
        "then the server is held back"
    );
    fixture.run();
    assert_eq!(fixture.log.take().len(), 100, "in the end all arrive");
}

#[test]
fn calls_end_with_their_policy() {
    let fixture = connected();
    let stage = fixture.a.stage();
    let ids: Vec<CallId> = (0..3)
        .map(|_| {
            stage
                .cc
                .start_call(&stage.sub("x"), CallRequest::new("/s/m"))
        })
        .collect();
    fixture.run();
    assert_eq!(ids.len(), fixture.wire("x").calls().len());
    fixture.core.enter_idle();
    fixture.run();
    for call in fixture.wire("x").calls() {
        assert!(call.lock().unwrap().cancelled);
    }
    assert_eq!(fixture.sim.tasks(), 1);
}

#[test]
fn a_lookaside_connection_is_for_calls_only_and_comes_back_by_itself() {
    let fixture = connected();
    let stage = fixture.a.stage();
    let balancer = stage.cc.new_lookaside("lb:1", None, None).unwrap();
    stage.remember("lb", &balancer);
    balancer.connect();
    fixture.run().pass(2.0);
    let requests = fixture.env.net.requests();
    let lookaside = requests
        .last()
        .unwrap()
        .lookaside
        .as_ref()
        .expect("no backend");
    assert_eq!(&*lookaside.target, "lb:1");
    stage
        .cc
        .start_call(&balancer, CallRequest::new("/lb/Balance"));
    fixture.run();
    assert_eq!(fixture.wire("lb:1").calls().len(), 1);
    fixture.log.take();
    let asked = fixture.resolver.resolutions();
    fixture.lose("lb:1");
    assert_eq!(
        fixture.log.take(),
        [
            "close lb:1",
            "a1: lb CONNECTING (reset)",
            "dial lb:1",
            "a1: lb READY"
        ]
    );
    assert_eq!(
        fixture.resolver.resolutions(),
        asked,
        "no matter of the resolver's"
    );
}
