//! RPCs on many threads while pickers come and go: nothing is lost, nothing is asked twice.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use balancer_api::{ConnectivityState as State, DoneInfo, Pick, PickError, PickOptions};
use balancer_channel_core::{Core, PickOutcome};

use crate::support::{Fixture, Flow, SimEnv, block_on};

/// An RPC on a thread of its own; answers its generations, each of which it may ask once.
fn rpc(core: &Core<SimEnv>) -> Result<(), PickError> {
    let mut last = None;
    loop {
        let options = PickOptions::new("/s/m").with_source(core.source());
        match core.current().pick(&options) {
            PickOutcome::Complete(attempt) => {
                attempt.done.complete(&DoneInfo::new());
                return Ok(());
            }
            PickOutcome::Wait { generation, .. } => {
                assert!(last < Some(generation), "generation {generation} twice");
                last = Some(generation);
                block_on(core.next_picker(generation)).expect("a place");
            }
            PickOutcome::Fail(error) => return Err(error),
            PickOutcome::Closed(status) => panic!("closed: {status}"),
        }
    }
}

#[test]
fn no_wake_up_is_lost() {
    let fixture = Fixture::new("x");
    fixture.a.hook(|_, _| Flow::Done);
    fixture.connect();
    let stage = fixture.a.stage();
    let sub_conn = stage.make("x", balancer_api::Reconnect::WhenAsked);
    sub_conn.connect();
    fixture.run();
    let (running, finished) = (AtomicUsize::new(4), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let core = fixture.core.clone();
            let (running, finished) = (&running, &finished);
            scope.spawn(move || {
                for _ in 0..2_000 {
                    rpc(&core).expect("waits or is served");
                    finished.fetch_add(1, Ordering::Relaxed);
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        // Each second picker serves; between them everybody has to park.
        let started = Instant::now();
        let mut turn = 0_u64;
        while running.load(Ordering::SeqCst) > 0 {
            turn += 1;
            let picked = sub_conn.clone();
            stage.publish(State::Ready, move |_| {
                if turn.is_multiple_of(2) {
                    Ok(Pick::owned(picked.clone()))
                } else {
                    Err(PickError::NoSubConnAvailable)
                }
            });
            fixture.run();
            // Leave the last serving picker long enough for a lost wake-up to show.
            if turn.is_multiple_of(2) {
                std::thread::yield_now();
            }
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "stuck after {} RPCs",
                finished.load(Ordering::Relaxed)
            );
        }
    });
    assert_eq!(fixture.core.snapshot().waiting, 0);
}

#[test]
fn the_last_picker_wakes_everybody() {
    // One publication, many that park at the same moment: none may sleep on.
    for round in 0..200 {
        let fixture = Fixture::new("x");
        fixture.a.hook(|_, _| Flow::Done);
        fixture.connect();
        let stage = fixture.a.stage();
        let go = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let (core, go) = (fixture.core.clone(), &go);
                    scope.spawn(move || {
                        while !go.load(Ordering::SeqCst) {
                            std::hint::spin_loop();
                        }
                        rpc(&core)
                    })
                })
                .collect();
            go.store(true, Ordering::SeqCst);
            for _ in 0..round % 50 {
                std::hint::spin_loop();
            }
            stage.publish(State::Ready, |_| Err(PickError::failed("served")));
            fixture.run();
            for thread in waiting {
                let served = thread.join().expect("no panic");
                assert_eq!(served, Err(PickError::failed("served")), "round {round}");
            }
        });
    }
}

#[test]
fn policies_on_other_threads_stay_in_order() {
    let fixture = Fixture::new("x");
    fixture.a.hook(|_, _| Flow::Done);
    fixture.connect();
    let stage = fixture.a.stage();
    let busy = AtomicUsize::new(2);
    let failures: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (stage, busy, failures) = (stage.clone(), &busy, &failures);
            scope.spawn(move || {
                for n in 0..500 {
                    let name = format!("t{thread}-{n}");
                    let sub_conn = stage.make(&name, balancer_api::Reconnect::WhenAsked);
                    sub_conn.connect();
                    let timer = stage.cc.set_timer(Duration::from_secs(1));
                    stage.publish(State::Connecting, |_| Err(PickError::NoSubConnAvailable));
                    stage.cc.wake();
                    stage.cc.cancel_timer(timer);
                    stage.cc.remove_sub_conn(&sub_conn);
                    if format!("{sub_conn:?}").is_empty() {
                        failures.lock().unwrap().push(name);
                    }
                }
                busy.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while busy.load(Ordering::SeqCst) > 0 {
            fixture.run();
        }
    });
    fixture.run();
    assert!(failures.lock().unwrap().is_empty());
    assert_eq!(fixture.core.snapshot().sub_conns.len(), 0);
    assert_eq!(fixture.env.net.held(), 0);
    let told = fixture.told();
    for thread in 0..2 {
        for n in 0..500 {
            let end = format!("a1: t{thread}-{n} SHUTDOWN");
            let times = told.iter().filter(|line| **line == end).count();
            assert_eq!(times, 1, "{end}");
        }
    }
}

#[test]
fn old_pickers_stay_callable_on_other_threads() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (core, stop) = (fixture.core.clone(), stop.clone());
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    if let PickOutcome::Complete(attempt) =
                        core.current().pick(&PickOptions::new("/s/m"))
                    {
                        attempt.done.complete(&DoneInfo::new());
                    }
                }
            });
        }
        for round in 0..300 {
            fixture.resolve(["x y", "y z", "z x"][round % 3]);
            if round % 20 == 7 {
                fixture.core.enter_idle();
                fixture.run();
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    fixture.run();
    assert_eq!(
        fixture.a.picked(),
        fixture.a.done(),
        "picks and dones agree"
    );
}
