//! RPCs on many threads while pickers come and go: nothing is lost, nothing is asked twice.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use balancer_api::{ConnectivityState as State, DoneInfo, Pick, PickError, PickOptions};
use balancer_channel_core::{Core, Current, PickOutcome};

use crate::support::{Fixture, Flow, SimEnv, block_on};

/// Who is not woken in so long has been forgotten.
const STUCK: Duration = Duration::from_secs(10);

/// Waits for other threads.
fn until(happened: impl Fn() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < STUCK, "somebody sleeps on");
        std::thread::yield_now();
    }
}

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
    // Not scoped: who slept on would be waited for without end.
    let finished = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (core, finished) = (fixture.core.clone(), finished.clone());
            std::thread::spawn(move || {
                for _ in 0..2_000 {
                    rpc(&core).expect("waits or is served");
                    finished.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let over = || threads.iter().all(JoinHandle::is_finished);
    let waiting = || fixture.core.snapshot().waiting;
    let ended = || threads.iter().filter(|thread| thread.is_finished()).count();
    for round in 0_u32.. {
        if over() {
            break;
        }
        // Between two pickers that serve somebody has to park, and others are about to; now and then
        // everybody has.
        stage.publish(State::Ready, |_| Err(PickError::NoSubConnAvailable));
        fixture.run();
        match round % 8 {
            0 => until(|| waiting() + ended() >= threads.len()),
            _ => until(|| waiting() > 0 || over()),
        }
        let picked = sub_conn.clone();
        stage.publish(State::Ready, move |_| Ok(Pick::owned(picked.clone())));
        fixture.run();
        until(|| waiting() == 0);
    }
    assert_eq!(finished.load(Ordering::Relaxed), 8_000);
    for thread in threads {
        thread.join().expect("no panic");
    }
}

#[test]
fn the_last_picker_wakes_everybody() {
    // One publication, many that park at the same moment: none may sleep on.
    for round in 0..200 {
        let fixture = Fixture::new("x");
        fixture.a.hook(|_, _| Flow::Done);
        fixture.connect();
        let stage = fixture.a.stage();
        let (told, ends) = mpsc::channel();
        for _ in 0..3 {
            let (core, told) = (fixture.core.clone(), told.clone());
            std::thread::spawn(move || told.send(rpc(&core)));
        }
        // Some have parked, others do so now or find the picker.
        until(|| fixture.core.snapshot().waiting >= round % 4);
        stage.publish(State::Ready, |_| Err(PickError::failed("served")));
        fixture.run();
        for _ in 0..3 {
            let served = ends.recv_timeout(STUCK).expect("nobody sleeps on");
            assert_eq!(served, Err(PickError::failed("served")), "round {round}");
        }
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
    for thread in ["t0", "t1"] {
        let gone = told.iter().filter_map(|line| {
            let line = line.strip_prefix("a1: ")?.strip_suffix(" SHUTDOWN")?;
            line.strip_prefix(thread)?.strip_prefix('-')?.parse().ok()
        });
        let gone: Vec<usize> = gone.collect();
        assert_eq!(gone, Vec::from_iter(0..500), "each once, in order");
    }
}

/// Picks, and never fails.
fn call(current: &Current<'_, SimEnv>) {
    match current.pick(&PickOptions::new("/s/m")) {
        PickOutcome::Complete(attempt) => {
            attempt.done.complete(&DoneInfo::new());
        }
        PickOutcome::Wait { .. } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn old_pickers_stay_callable_on_other_threads() {
    let fixture = Fixture::new("x");
    fixture.connect();
    let stop = Arc::new(AtomicBool::new(false));
    let threads = [(); 2].map(|()| {
        let (core, stop) = (fixture.core.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                call(&core.current());
            }
        })
    });
    for round in 0..300 {
        let old = fixture.core.current();
        fixture.resolve(["x y", "y z", "z x"][round % 3]);
        // One of its two SubConns is gone.
        call(&old);
        call(&old);
        if round % 20 == 7 {
            fixture.core.enter_idle();
            fixture.run();
        }
    }
    stop.store(true, Ordering::SeqCst);
    for thread in threads {
        thread.join().expect("no panic");
    }
    fixture.run();
    assert_eq!(
        fixture.a.picked(),
        fixture.a.done(),
        "picks and dones agree"
    );
}
