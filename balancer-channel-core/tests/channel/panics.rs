//! Policies that panic, everywhere that they can.

use std::{
    panic::panic_any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use balancer_api::{
    ConnectivityState as State, DoneInfo, OnDone, Pick, PickError, PickOptions, Picker, Reconnect,
};
use balancer_channel_core::PickOutcome;

use crate::support::{Answer, Event, Fixture, Flow, unread};

/// Panics when it is dropped: as a payload, as a picker, as an observer.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("boom");
        }
    }
}

impl Picker for Bomb {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Err(PickError::NoSubConnAvailable)
    }
}

impl OnDone for Bomb {
    fn on_done(&self, _: u64, _: &DoneInfo<'_>) {
        panic!("done for");
    }
}

/// A channel whose policy panics, while `when`, on the event that `on` says.
fn panicking(on: fn(&Event<'_>) -> bool) -> Fixture {
    let fixture = Fixture::new("x");
    fixture.a.hook(move |_, event| {
        assert!(!on(event), "oh no");
        Flow::Default
    });
    fixture.connect();
    fixture
}

#[test]
fn a_panic_fails_rpcs_until_the_policy_is_back() {
    type On = fn(&Event<'_>) -> bool;
    let places: [(&str, On); 4] = [
        ("build", |event| matches!(event, Event::Build)),
        ("addrs", |event| matches!(event, Event::Addrs(_))),
        ("state", |event| {
            matches!(event, Event::State(_, State::Ready))
        }),
        ("settle", |event| matches!(event, Event::Settle)),
    ];
    for (place, on) in places {
        let fixture = panicking(on);
        let text = "drop INTERNAL: LB policy \"a\" panicked: oh no";
        assert_eq!(fixture.rpc().outcome(), text, "in {place}");
        assert_eq!(
            fixture.wait_for_ready().outcome(),
            text,
            "in {place}, WFR too"
        );
        assert_eq!(fixture.state(), State::TransientFailure, "{place}");
        assert_eq!(
            fixture.core.snapshot().sub_conns.len(),
            0,
            "{place}: all is taken back"
        );
        assert_eq!(fixture.env.net.held(), 0, "{place}");
        fixture.a.unhook();
        fixture.pass(0.79);
        assert_eq!(fixture.a.built(), 1, "{place}: not before the wait is over");
        fixture.pass(0.41);
        assert_eq!(fixture.a.built(), 2, "{place}");
        assert_eq!(fixture.rpc().outcome(), "x", "{place}: with the last list");
    }
}

#[test]
fn a_waiting_rpc_hears_of_the_panic() {
    let fixture = Fixture::unresolved();
    fixture.a.hook(|_, event| match event {
        Event::Addrs(_) => panic!("oh no"),
        _ => Flow::Default,
    });
    let patient = fixture.wait_for_ready();
    fixture.resolve("x");
    assert_eq!(
        patient.outcome(),
        "drop INTERNAL: LB policy \"a\" panicked: oh no"
    );
}

#[test]
fn other_callbacks_may_panic_too() {
    // A timer, a call's event, exit_idle, a resolver error.
    for n in 0..4 {
        let fixture = Fixture::new("x");
        fixture.connect();
        let stage = fixture.a.stage();
        fixture.a.hook(|_, event| match event {
            Event::Timer(_) | Event::Call(..) | Event::ExitIdle | Event::Addrs(Err(_)) => {
                panic!("oh no")
            }
            _ => Flow::Default,
        });
        match n {
            0 => {
                stage.cc.set_timer(std::time::Duration::ZERO);
            }
            1 => {
                let idle = stage.make("y", Reconnect::WhenAsked);
                stage
                    .cc
                    .start_call(&idle, balancer_api::CallRequest::new("/s/m"));
            }
            2 => {
                stage.publish(State::Idle, |_| Err(PickError::NoSubConnAvailable));
                fixture.run();
                fixture.core.connect();
            }
            _ => {
                fixture.resolve_error("e");
            }
        }
        fixture.run();
        let outcome = fixture.rpc().outcome();
        assert_eq!(
            outcome, "drop INTERNAL: LB policy \"a\" panicked: oh no",
            "case {n}"
        );
        fixture.a.unhook();
        fixture.pass(1.2);
        fixture.resolve("x");
        assert_eq!(fixture.rpc().outcome(), "x", "case {n}");
    }
}

#[test]
fn a_panicking_callback_has_asked_for_nothing() {
    let fixture = Fixture::new("x");
    fixture.a.hook(|stage, event| {
        if matches!(event, Event::Addrs(_)) {
            stage.make("y", Reconnect::WhenAsked).connect();
            stage.publish(State::Ready, |_| Err(PickError::failed("half done")));
            stage.cc.wake();
            panic!("oh no");
        }
        Flow::Default
    });
    fixture.connect();
    assert_eq!(
        fixture.log.take(),
        ["a1: build", "a1: addrs [x]", "a1: drop"],
        "no dial"
    );
    assert!(fixture.rpc().outcome().contains("panicked"));
    // And a wake of the next instance is not lost in the one that was taken back.
    fixture.a.unhook();
    fixture.pass(1.2);
    fixture.a.log_settles.store(true, Ordering::SeqCst);
    fixture.log.take();
    fixture.a.stage().cc.wake();
    fixture.run();
    assert_eq!(fixture.log.take(), ["a2: settle"]);
    // Nor for what its SubConns would have seen before they were taken back.
    fixture.a.hook(|stage, event| {
        if matches!(event, Event::Timer(_)) {
            let request = balancer_api::CallRequest::new("/s/m");
            stage.cc.start_call(&stage.sub("x"), request);
            panic!("oh no");
        }
        Flow::Default
    });
    fixture.a.stage().cc.set_timer(std::time::Duration::ZERO);
    fixture.run();
    assert!(fixture.rpc().outcome().contains("panicked"));
    assert_eq!(fixture.wire("x").calls().len(), 0, "no server was asked");
}

#[test]
fn what_another_thread_made_for_a_build_that_panicked_is_not_left_behind() {
    // Its announcement is in the queue, not among what the panicking callback asked for.
    let fixture = Fixture::new("x");
    fixture.a.hook(|stage, event| {
        if matches!(event, Event::Build) {
            std::thread::scope(|scope| {
                scope.spawn(|| stage.make("y", Reconnect::WhenAsked).connect());
            });
            panic!("oh no");
        }
        Flow::Default
    });
    fixture.connect();
    assert_eq!(fixture.core.snapshot().sub_conns.len(), 0);
    assert_eq!(fixture.log.take(), ["a1: build", "a1: drop"], "nor dialled");
}

#[test]
fn the_waits_grow_and_ten_calm_seconds_end_that() {
    let fixture = panicking(|event| matches!(event, Event::Addrs(_)));
    let mut gaps = Vec::new();
    let mut last = fixture.sim.now();
    while gaps.len() < 8 {
        let before = fixture.a.built();
        while fixture.a.built() == before {
            fixture.pass(0.1);
        }
        gaps.push((fixture.sim.now() - last).as_secs_f64());
        last = fixture.sim.now();
    }
    let mut expected = 1.0_f64;
    for (n, gap) in gaps.iter().enumerate() {
        let range = expected * 0.8..=expected * 1.2 + 0.11;
        assert!(range.contains(gap), "wait {n}: {gap}, all: {gaps:?}");
        expected *= 1.6;
    }
    // Heals for ten seconds, then panics again: the first wait again.
    fixture.a.unhook();
    fixture.pass(60.0);
    assert_eq!(fixture.rpc().outcome(), "x");
    let built = fixture.a.built();
    let once = AtomicUsize::new(0);
    fixture.a.hook(move |_, event| {
        if matches!(event, Event::Addrs(_)) {
            assert!(once.fetch_add(1, Ordering::SeqCst) > 0, "again");
        }
        Flow::Default
    });
    fixture.resolve("x");
    assert!(fixture.rpc().outcome().contains("again"));
    fixture.pass(1.21);
    assert_eq!(fixture.a.built(), built + 1);
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn reset_backoff_rebuilds_at_once() {
    let fixture = panicking(|event| matches!(event, Event::Addrs(_)));
    fixture.a.unhook();
    fixture.core.reset_backoff();
    fixture.run();
    assert_eq!(fixture.rpc().outcome(), "x");
    fixture.pass(100.0);
    assert_eq!(fixture.a.built(), 2, "once");
}

#[test]
fn close_and_drop_may_panic() {
    for on_close in [true, false] {
        let fixture = Fixture::new("x y");
        fixture.connect();
        fixture.a.hook(move |_, event| match event {
            Event::Close if on_close => panic!("not closing"),
            Event::Drop if !on_close => panic!("not dropping"),
            _ => Flow::Default,
        });
        fixture.core.enter_idle();
        fixture.run();
        assert_eq!(fixture.core.snapshot().sub_conns.len(), 0);
        assert_eq!(fixture.env.net.held(), 0, "all is taken back");
        assert_eq!(fixture.rpc().outcome(), "x", "and the channel works");
        fixture.core.close();
        fixture.run();
        assert_eq!((fixture.state(), fixture.sim.tasks()), (State::Shutdown, 0));
        fixture.a.unhook();
    }
}

#[test]
fn a_drop_after_a_panic_may_panic() {
    let fixture = Fixture::new("x");
    fixture.a.hook(|_, event| match event {
        Event::State(_, State::Ready) => panic!("first"),
        Event::Drop => panic!("second"),
        _ => Flow::Default,
    });
    fixture.connect();
    assert_eq!(
        fixture.rpc().outcome(),
        "drop INTERNAL: LB policy \"a\" panicked: first",
        "the second must not hide the first"
    );
    assert_eq!(fixture.core.snapshot().sub_conns.len(), 0);
    fixture.a.unhook();
    fixture.pass(1.2);
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn what_a_panic_carries_may_panic_when_dropped() {
    let fixture = Fixture::new("x");
    fixture.a.hook(|_, event| match event {
        Event::Addrs(_) => panic_any(Bomb),
        _ => Flow::Default,
    });
    fixture.connect();
    assert_eq!(
        fixture.rpc().outcome(),
        "drop INTERNAL: LB policy \"a\" panicked: (no message)"
    );
    fixture.a.unhook();
    fixture.pass(1.2);
    fixture.a.stage().publish(State::Ready, |_| panic_any(Bomb));
    fixture.run();
    assert!(fixture.rpc().outcome().contains("(no message)"));
    fixture.resolve("x y");
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn pickers_may_panic_when_dropped() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let stage = fixture.a.stage();
    for state in [State::Ready, State::Connecting, State::Ready] {
        stage.cc.update_balancer_state(state, Arc::new(Bomb));
        fixture.run();
    }
    // From one that is published to one that is not, to a policy that goes.
    fixture.a.hook(|stage, event| {
        if let Event::Addrs(Err(_)) = event {
            stage.cc.update_balancer_state(State::Ready, Arc::new(Bomb));
            panic!("oh no");
        }
        Flow::Default
    });
    fixture.resolve_error("e");
    assert!(fixture.rpc().outcome().contains("oh no"));
    fixture.a.unhook();
    fixture.pass(1.2);
    assert_eq!(fixture.rpc().outcome(), "x");
    let stage = fixture.a.stage();
    stage.cc.update_balancer_state(State::Ready, Arc::new(Bomb));
    fixture.run();
    fixture.core.close();
    fixture.run();
    assert_eq!((fixture.state(), fixture.sim.tasks()), (State::Shutdown, 0));
}

#[test]
fn a_picker_that_panics_is_asked_three_times() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let stage = fixture.a.stage();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    stage.publish(State::Ready, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        panic!("unlucky")
    });
    fixture.run();
    let mut states = fixture.core.states();
    for _ in 0..10 {
        let text = "drop INTERNAL: picker of LB policy \"a\" panicked: unlucky";
        assert_eq!(fixture.rpc().outcome(), text);
        assert_eq!(fixture.wait_for_ready().outcome(), text);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert_eq!(
        unread(&mut states),
        [State::Ready],
        "the policy's state stays"
    );
    // The next picker has its own three.
    fixture.resolve("x y");
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn a_picker_that_panicked_gets_another_chance_without_its_policy() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let stage = fixture.a.stage();
    let (asked, sub_conn) = (AtomicUsize::new(0), stage.sub("x"));
    stage.publish(State::Ready, move |_| {
        assert!(asked.fetch_add(1, Ordering::SeqCst) >= 5, "unlucky");
        Ok(Pick::owned(sub_conn.clone()))
    });
    fixture.run();
    for _ in 0..3 {
        fixture.rpc();
    }
    // A stable policy has no reason to publish again: the channel itself asks again, backing off.
    let failed = || fixture.rpc().outcome().contains("panicked");
    assert!(failed());
    fixture.pass(0.7);
    assert!(failed(), "not before the back-off");
    fixture.pass(0.6);
    assert!(failed() && failed(), "asked, and panics twice more");
    assert_eq!(fixture.rpc().outcome(), "x");
    assert_eq!(fixture.state(), State::Ready);
    assert_eq!(fixture.a.built(), 1, "and its connections are kept");
}

#[test]
fn a_new_picker_is_not_replaced_by_one_that_panicked() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let stage = fixture.a.stage();
    stage.publish(State::Ready, |_| panic!("unlucky"));
    fixture.run();
    for _ in 0..3 {
        fixture.rpc();
    }
    stage.publish(State::Ready, |_| Err(PickError::failed("the next one")));
    fixture.run();
    assert_eq!(fixture.sim.sleepers(), 0, "nobody asks it again");
    fixture.pass(5.0);
    assert_eq!(fixture.rpc().outcome(), "failed: the next one");

    // RPCs that have seen an old one still may panic when the next is there already.
    stage.publish(State::Ready, |_| panic!("unlucky"));
    fixture.run();
    let late = fixture.core.current();
    stage.publish(State::Ready, |_| Err(PickError::failed("the next one")));
    fixture.run();
    for _ in 0..3 {
        let picked = late.pick(&PickOptions::new("/s/m"));
        assert!(format!("{picked:?}").contains("unlucky"), "{picked:?}");
    }
    fixture.run();
    assert_eq!(fixture.rpc().outcome(), "failed: the next one");
}

#[test]
fn three_panics_spread_over_pickers_replace_none() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let stage = fixture.a.stage();
    let asked = Arc::new(AtomicUsize::new(0));
    for n in 1..=5 {
        let counted = asked.clone();
        stage.publish(State::Ready, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("unlucky")
        });
        fixture.run();
        fixture.rpc();
        fixture.rpc();
        assert_eq!(asked.load(Ordering::SeqCst), 2 * n, "each is asked, twice");
    }
    let sub_conn = stage.sub("x");
    stage.publish(State::Ready, move |_| Ok(Pick::owned(sub_conn.clone())));
    fixture.run();
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn an_observer_that_panics_changes_no_rpc() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let stage = fixture.a.stage();
    let sub_conn = stage.sub("x");
    stage.publish(State::Ready, move |_| {
        let observer = Arc::new(Bomb);
        Ok(Pick::owned(sub_conn.clone()).on_done(observer, 0))
    });
    fixture.run();
    assert_eq!(fixture.rpc().outcome(), "x");
    // Also where the channel itself says done.
    fixture.answer("x", Answer::Hang).lose("x");
    fixture.a.hook(|_, _| Flow::Done);
    let sub_conn = stage.sub("x");
    stage.publish(State::Ready, move |_| {
        let observer = Arc::new(Bomb);
        Ok(Pick::owned(sub_conn.clone()).on_done(observer, 0))
    });
    fixture.run();
    assert_eq!(fixture.rpc().outcome(), "waits");
}

#[test]
fn a_closed_channel_asked_for_in_a_panicking_callback_is_closed() {
    let fixture = Fixture::new("x");
    let core = fixture.core.clone();
    fixture.a.hook(move |_, event| {
        if matches!(event, Event::Addrs(_)) {
            core.close();
            panic!("oh no");
        }
        Flow::Default
    });
    fixture.connect();
    assert_eq!(
        fixture.state(),
        State::Shutdown,
        "that was not the policy's request"
    );
    fixture.a.unhook();
}

#[test]
fn a_policy_that_panics_in_its_close_does_not_keep_the_channel_alive() {
    let fixture = Fixture::new("x");
    fixture.connect();
    fixture.a.hook(|_, event| match event {
        Event::Close => panic!("not closing"),
        _ => Flow::Default,
    });
    fixture.core.close();
    fixture.run();
    let told = fixture.told();
    assert!(told.iter().any(|line| line == "a1: drop"), "{told:?}");
    fixture.a.unhook();
}

#[test]
fn the_resolver_is_asked_again_where_the_policy_panics_over_its_answer() {
    let fixture = Fixture::new("");
    fixture.a.hook(|_, event| match event {
        Event::Addrs(Ok(resolved)) if resolved.endpoints.is_empty() => panic!("division by zero"),
        _ => Flow::Default,
    });
    fixture.connect();
    let asked = fixture.resolver.resolutions();
    fixture.pass(1.3);
    let again = fixture.resolver.resolutions();
    assert!(
        again > asked,
        "{again}: no other list would ever be heard of"
    );
    fixture.a.unhook();
}

#[test]
fn the_resolver_is_asked_again_where_a_rebuilt_policy_rejects_its_answer() {
    let fixture = Fixture::new("x");
    fixture.a.hook(|_, event| match event {
        Event::State(..) => panic!("once"),
        _ => Flow::Default,
    });
    fixture.connect();
    fixture.a.hook(|_, event| match event {
        Event::Addrs(_) => Flow::Reject,
        _ => Flow::Default,
    });
    let asked = fixture.resolver.resolutions();
    fixture.pass(1.2);
    assert_eq!(fixture.a.built(), 2);
    assert!(fixture.resolver.resolutions() > asked);
    fixture.a.unhook();
}

#[test]
fn a_million_pickers_are_coalesced() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let rpc = {
        let stage = fixture.a.stage();
        stage.publish(State::Connecting, |_| Err(PickError::NoSubConnAvailable));
        fixture.run();
        fixture.rpc()
    };
    let looks = rpc.looks();
    let generation = || match fixture.core.current().pick(&PickOptions::new("/s/m")) {
        PickOutcome::Wait { generation, .. } => generation,
        other => panic!("{other:?}"),
    };
    let before = generation();
    fixture.a.hook(|stage, event| {
        if matches!(event, Event::Timer(_)) {
            for _ in 0..1_000_000 {
                let picker = Arc::new(balancer_api::QueuePicker);
                stage.cc.update_balancer_state(State::Connecting, picker);
            }
        }
        Flow::Done
    });
    fixture.a.stage().cc.set_timer(std::time::Duration::ZERO);
    fixture.run();
    assert_eq!(generation(), before + 1, "one publication");
    assert_eq!(rpc.looks(), looks + 1, "one wake-up");
}
