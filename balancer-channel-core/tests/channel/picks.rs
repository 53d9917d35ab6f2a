//! The pick loop: what each answer of a picker means for an RPC.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use balancer_api::{
    Code, ConnectivityState as State, DoneInfo, Pick, PickError, PickOptions, Reconnect, Status,
};
use balancer_channel_core::{Core, PickOutcome};
use futures_util::StreamExt;

use crate::support::{Answer, Event, Fixture, Flow, SimEnv, unread};

/// A channel whose policy publishes nothing by itself.
fn quiet(names: &str) -> Fixture {
    let fixture = Fixture::new(names);
    fixture.a.hook(|_, _| Flow::Done);
    fixture.connect();
    fixture
}

#[test]
fn without_a_picker_rpcs_wait() {
    let fixture = quiet("x");
    let (fast, patient) = (fixture.rpc(), fixture.wait_for_ready());
    fixture.pass(1_000.0);
    assert_eq!(
        (fast.outcome(), patient.outcome()),
        ("waits".into(), "waits".into())
    );
    assert_eq!(fast.looks(), 1, "must not spin");
}

#[test]
fn before_the_resolver_has_answered_rpcs_wait() {
    let fixture = Fixture::unresolved();
    let rpc = fixture.rpc();
    assert_eq!(rpc.outcome(), "waits");
    assert_eq!(
        fixture.state(),
        State::Connecting,
        "an RPC wakes the channel"
    );
    fixture.resolve("x");
    assert_eq!(rpc.outcome(), "x");
}

#[test]
fn a_ready_pick_is_sent_on_its_connection() {
    let fixture = Fixture::new("x y");
    fixture.connect();
    let picked: Vec<_> = (0..4).map(|_| fixture.rpc().outcome()).collect();
    assert_eq!(picked, ["x", "y", "x", "y"]);
    assert_eq!((fixture.a.picked(), fixture.a.done()), (4, 4));
}

#[test]
fn each_rpc_asks_a_picker_once() {
    let fixture = quiet("x");
    let stage = fixture.a.stage();
    let asked = Arc::new(AtomicUsize::new(0));
    let rpcs: Vec<_> = (0..5).map(|_| fixture.rpc()).collect();
    for generation in 1..=3 {
        let counted = asked.clone();
        stage.publish(State::Connecting, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Err(PickError::NoSubConnAvailable)
        });
        fixture.run();
        assert_eq!(
            asked.load(Ordering::SeqCst),
            5 * generation,
            "the same state with a new picker wakes everybody, once"
        );
    }
    assert!(rpcs.iter().all(|rpc| rpc.outcome() == "waits"));
}

/// What becomes of a fail-fast and of a wait-for-ready RPC.
fn meets(error: PickError) -> [String; 2] {
    let fixture = quiet("x");
    fixture
        .a
        .stage()
        .publish(State::TransientFailure, move |_| Err(error.clone()));
    fixture.run();
    [fixture.rpc().outcome(), fixture.wait_for_ready().outcome()]
}

#[test]
fn what_each_refusal_means() {
    assert_eq!(meets(PickError::NoSubConnAvailable), ["waits", "waits"]);
    assert_eq!(
        meets(PickError::transient_failure("all refused")),
        ["unavailable: all refused", "waits"]
    );
    assert_eq!(
        meets(PickError::failed("no such shard")),
        ["failed: no such shard", "failed: no such shard"]
    );
    let status = Status::new(Code::ResourceExhausted, "throttled");
    let dropped = "drop RESOURCE_EXHAUSTED: throttled";
    assert_eq!(meets(PickError::drop(status)), [dropped, dropped]);
}

#[test]
fn a_waiting_rpc_goes_on_with_the_next_picker() {
    let fixture = Fixture::new("x");
    fixture.answer("x", Answer::Refuse).connect();
    let (fast, patient) = (fixture.rpc(), fixture.wait_for_ready());
    assert_eq!(fast.outcome(), "unavailable: x: connection refused");
    assert_eq!(patient.outcome(), "waits");
    fixture.answer("x", Answer::Accept).pass(1.0);
    assert_eq!(patient.outcome(), "x");
}

#[test]
fn a_pick_that_is_not_ready_waits_for_a_newer_picker() {
    let fixture = quiet("x");
    fixture.answer("x", Answer::Hang);
    let stage = fixture.a.stage();
    let sub_conn = stage.make("x", Reconnect::WhenAsked);
    sub_conn.connect();
    let (asked, dones) = (Arc::new(AtomicUsize::new(0)), fixture.a.dones.clone());
    let counted = asked.clone();
    stage.publish(State::Ready, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Pick::owned(sub_conn.clone()).on_done(dones.clone(), 0))
    });
    fixture.run();

    let rpc = fixture.rpc();
    assert_eq!(rpc.outcome(), "waits", "never a failure of the RPC");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "and no spinning");
    assert_eq!(
        *fixture.a.dones.log.lock().unwrap(),
        ["ok"],
        "done, nothing sent"
    );

    // READY alone wakes nobody: the policy has to say so with a picker.
    fixture.answer("x", Answer::Accept);
    assert_eq!(rpc.outcome(), "waits");
    let sub_conn = stage.sub("x");
    stage.publish(State::Ready, move |_| Ok(Pick::owned(sub_conn.clone())));
    fixture.run();
    assert_eq!(rpc.outcome(), "x");
}

#[test]
fn a_pick_of_an_idle_subconn_starts_it() {
    let fixture = quiet("x");
    let stage = fixture.a.stage();
    let sub_conn = stage.make("x", Reconnect::WhenAsked);
    stage.publish(State::Idle, move |_| Ok(Pick::owned(sub_conn.clone())));
    fixture.run();
    fixture.log.take();
    let rpc = fixture.rpc();
    assert_eq!(rpc.outcome(), "waits");
    assert_eq!(
        fixture.log.take(),
        ["a1: x CONNECTING", "dial x", "a1: x READY"],
        "as the page's own pick_first needs it"
    );
}

#[test]
fn a_removed_subconn_is_waited_out() {
    let fixture = quiet("x");
    let stage = fixture.a.stage();
    let sub_conn = stage.make("x", Reconnect::WhenAsked);
    sub_conn.connect();
    fixture.run();
    let (picked, dones) = (sub_conn.clone(), fixture.a.dones.clone());
    stage.publish(State::Ready, move |_| {
        Ok(Pick::owned(picked.clone()).on_done(dones.clone(), 0))
    });
    fixture.run();
    stage.cc.remove_sub_conn(&sub_conn);
    fixture.run();
    fixture.log.take();
    let rpc = fixture.rpc();
    fixture.pass(1_000.0);
    assert_eq!(rpc.outcome(), "waits");
    assert_eq!((rpc.looks(), fixture.a.done()), (1, 1));
    assert_eq!(fixture.log.take(), [""; 0], "and is not dialled again");
}

#[test]
fn a_subconn_of_nobody_fails_the_rpc() {
    #[derive(Debug)]
    struct MadeUp;
    impl balancer_api::SubConnHandle for MadeUp {
        fn connect(&self) {}
        fn update_addresses(&self, _: Vec<balancer_api::Address>) {}
    }
    let other = Fixture::new("x");
    other.connect();
    let fixture = quiet("x");
    let stage = fixture.a.stage();
    let lookaside = stage.cc.new_lookaside("balancer:1", None, None).unwrap();
    let foreign = [
        balancer_api::SubConn::new(Arc::new(MadeUp)),
        other.a.stage().sub("x"),
        lookaside,
    ];
    for (n, sub_conn) in foreign.into_iter().enumerate() {
        let dones = fixture.a.dones.clone();
        stage.publish(State::Ready, move |_| {
            Ok(Pick::owned(sub_conn.clone()).on_done(dones.clone(), 0))
        });
        fixture.run();
        let text =
            "drop INTERNAL: LB policy \"a\" picked a SubConn that is no backend of this channel";
        assert_eq!(fixture.rpc().outcome(), text);
        assert_eq!(fixture.wait_for_ready().outcome(), text);
        assert_eq!(fixture.a.done(), 2 * (n + 1), "done is told");
    }
}

#[test]
fn an_rpc_that_is_cancelled_gives_its_place_up() {
    let fixture = Fixture::unresolved_with(|settings| settings.max_waiting = 2);
    let (first, second) = (fixture.rpc(), fixture.rpc());
    assert_eq!(fixture.core.snapshot().waiting, 2);
    let third = fixture.rpc();
    assert_eq!(third.outcome(), "too many RPCs wait for a connection");
    first.cancel();
    fixture.run();
    assert_eq!(fixture.core.snapshot().waiting, 1);
    let fourth = fixture.rpc();
    fixture.resolve("x");
    assert_eq!(
        (second.outcome(), fourth.outcome()),
        ("x".into(), "x".into())
    );
    assert_eq!(fixture.core.snapshot().waiting, 0);
}

#[test]
fn watchers_see_every_state_also_of_one_callback() {
    let fixture = quiet("x");
    let mut states = fixture.core.states();
    assert_eq!(unread(&mut states), [State::Connecting]);
    fixture.a.hook(|stage, event| {
        if matches!(event, Event::ExitIdle | Event::Settle) {
            use State::{Connecting, Idle, Ready, TransientFailure};
            for state in [
                Ready,
                Idle,
                Idle,
                Connecting,
                TransientFailure,
                Connecting,
                Ready,
            ] {
                stage.publish(state, |_| Err(PickError::NoSubConnAvailable));
            }
            // Not a policy's to say.
            stage.publish(State::Shutdown, |_| Err(PickError::NoSubConnAvailable));
        }
        Flow::Done
    });
    fixture.a.stage().cc.wake();
    fixture.run();
    use State::{Connecting, Idle, Ready, TransientFailure};
    assert_eq!(
        unread(&mut states),
        [Ready, Idle, Connecting, TransientFailure, Connecting, Ready],
        "in order, without repetitions"
    );
    assert!(!states.lagged());
}

#[test]
fn a_slow_watcher_loses_the_oldest_and_is_told() {
    let fixture = quiet("x");
    let mut states = fixture.core.states();
    for n in 0..100 {
        let state = [State::Ready, State::Connecting][n % 2];
        fixture
            .a
            .stage()
            .publish(state, |_| Err(PickError::NoSubConnAvailable));
        fixture.run();
    }
    assert!(states.lagged());
    assert!(!states.lagged(), "told once");
    let seen = unread(&mut states);
    assert_eq!(seen.len(), 64);
    assert_eq!(seen.last(), Some(&State::Connecting), "the newest is kept");
}

/// Picks at the very moment when it is woken.
struct Eager {
    core: Core<SimEnv>,
    met: Mutex<Vec<String>>,
}

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        let outcome = match self.core.current().pick(&PickOptions::new("/s/m")) {
            PickOutcome::Complete(attempt) => {
                attempt.done.complete(&DoneInfo::new());
                attempt.connection.wire().address.clone()
            }
            other => format!("{other:?}"),
        };
        self.met.lock().unwrap().push(outcome);
    }
}

#[test]
fn who_is_told_ready_meets_the_picker_that_is() {
    let fixture = Fixture::new("x");
    fixture.answer("x", Answer::Hang).connect();
    let eager = Arc::new(Eager {
        core: fixture.core.clone(),
        met: Mutex::default(),
    });
    let waker = Waker::from(eager.clone());
    let mut cx = Context::from_waker(&waker);
    let mut states = fixture.core.states();
    let now = states.poll_next_unpin(&mut cx);
    assert_eq!(now, Poll::Ready(Some(State::Connecting)));
    assert_eq!(states.poll_next_unpin(&mut cx), Poll::Pending);
    fixture.answer("x", Answer::Accept);
    let next = states.poll_next_unpin(&mut cx);
    assert_eq!(next, Poll::Ready(Some(State::Ready)));
    assert_eq!(*eager.met.lock().unwrap(), ["x"], "woken by READY");
}
