//! Models of the picker cell alone: two or three threads, a few operations each.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::{Context, Waker},
};

use balancer_api::{Code, ConnectivityState as State, QueuePicker, Status};
use loom::{future::block_on, sync::Notify, thread};

use crate::{
    explore::model,
    picker_cell::{PickerCell, Published},
    sync::{AtomicBool, AtomicU32, AtomicUsize},
};

type Cell = PickerCell<()>;

/// What an RPC found when it stopped waiting.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Picker(u64),
    Closed,
}

/// The cell of a channel that is awake.
fn cell(limit: usize) -> Arc<Cell> {
    let cell = Arc::new(Cell::new(limit));
    assert!(cell.leave_idle());
    cell
}

fn publish(cell: &Cell) {
    let before = cell.publish(Published {
        generation: 0,
        state: State::Ready,
        picker: Arc::new(QueuePicker),
        policy: "p".into(),
        config: Arc::new(()),
        panics: AtomicU32::new(0),
        kicked: AtomicBool::new(false),
    });
    drop(before);
}

fn close(cell: &Cell) {
    drop(cell.close(Status::new(Code::Cancelled, "closing")));
}

/// The pick loop of an RPC that is served by generation `serving` or a later one; as the library
/// has it in `rpc.rs`. `asleep` is called whenever it finds the channel idle.
fn rpc(cell: &Cell, serving: u64, mut asleep: impl FnMut()) -> Found {
    let mut asked = 0;
    loop {
        let seen = cell.generation();
        let loaded = cell.load();
        let wait = match &*loaded {
            Some(published) => {
                let generation = published.generation;
                assert!(generation > asked, "a picker was asked twice");
                asked = generation;
                if generation >= serving {
                    return Found::Picker(generation);
                }
                generation
            }
            None => {
                if cell.closed().is_some() {
                    return Found::Closed;
                }
                if cell.is_idle() {
                    asleep();
                }
                seen
            }
        };
        drop(loaded);
        block_on(cell.next(wait)).expect("a place");
    }
}

fn awake() {
    panic!("the channel is awake");
}

#[test]
fn publish_and_park() {
    model("publish / park", || {
        let cell = cell(2);
        let waiter = {
            let cell = cell.clone();
            thread::spawn(move || rpc(&cell, 1, awake))
        };
        publish(&cell);
        assert_eq!(waiter.join().unwrap(), Found::Picker(1));
        assert_eq!(cell.waiting(), 0);
    });
}

#[test]
fn two_publications_and_one_waiter() {
    model("two publishes / one waiter", || {
        let cell = cell(2);
        let waiter = {
            let cell = cell.clone();
            thread::spawn(move || rpc(&cell, 2, awake))
        };
        publish(&cell);
        publish(&cell);
        assert_eq!(waiter.join().unwrap(), Found::Picker(2));
        assert_eq!(cell.waiting(), 0);
    });
}

#[test]
fn one_publication_and_two_waiters() {
    model("one publish / two waiters", || {
        let cell = cell(2);
        let waiters = [(), ()].map(|()| {
            let cell = cell.clone();
            thread::spawn(move || rpc(&cell, 1, awake))
        });
        publish(&cell);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Found::Picker(1));
        }
        assert_eq!(cell.waiting(), 0);
    });
}

#[test]
fn park_publish_and_cancel() {
    model("park / publish / cancel", || {
        let cell = cell(2);
        let cancelled = {
            let cell = cell.clone();
            thread::spawn(move || {
                let mut next = pin!(cell.next(0));
                let cx = &mut Context::from_waker(Waker::noop());
                let _ = next.as_mut().poll(cx);
                // Dropped here, registered or woken or neither.
            })
        };
        let waiter = {
            let cell = cell.clone();
            thread::spawn(move || rpc(&cell, 1, awake))
        };
        publish(&cell);
        cancelled.join().unwrap();
        assert_eq!(waiter.join().unwrap(), Found::Picker(1));
        assert_eq!(cell.waiting(), 0, "every place was given back");
    });
}

#[test]
fn a_place_that_was_given_up_is_another_waiters() {
    model("a place that was given up", || {
        let cell = cell(2);
        {
            let mut next = pin!(cell.next(0));
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(next.as_mut().poll(cx).is_pending());
        }
        let waiter = {
            let cell = cell.clone();
            thread::spawn(move || rpc(&cell, 1, awake))
        };
        publish(&cell);
        assert_eq!(waiter.join().unwrap(), Found::Picker(1));
        assert_eq!(cell.waiting(), 0);
    });
}

#[test]
fn park_and_close() {
    model("park / close", || {
        let cell = cell(2);
        let waiter = {
            let cell = cell.clone();
            thread::spawn(move || rpc(&cell, 1, awake))
        };
        close(&cell);
        assert_eq!(waiter.join().unwrap(), Found::Closed);
        assert_eq!(cell.waiting(), 0);
    });
}

#[test]
fn publish_and_close() {
    model("publish / close", || {
        let cell = cell(2);
        let waiter = {
            let cell = cell.clone();
            thread::spawn(move || rpc(&cell, 1, awake))
        };
        publish(&cell);
        close(&cell);
        publish(&cell);
        let found = waiter.join().unwrap();
        assert!(
            matches!(found, Found::Picker(1) | Found::Closed),
            "{found:?}"
        );
        assert!(cell.load().is_none(), "nothing follows the close");
    });
}

#[test]
fn going_idle_and_an_rpc() {
    // The RPC has asked a picker that told it to wait; the channel goes to sleep. The RPC must wake
    // it, whichever comes first, and then be served.
    model("enter idle / RPC", || {
        let cell = cell(2);
        publish(&cell);
        let request = Arc::new(Notify::new());
        let waiter = {
            let (cell, request) = (cell.clone(), request.clone());
            thread::spawn(move || rpc(&cell, 3, || request.notify()))
        };
        // The balancer's task: sleeps, and wakes when it is asked to.
        assert!(cell.go_idle().is_some());
        request.wait();
        assert!(cell.leave_idle());
        publish(&cell);
        assert_eq!(waiter.join().unwrap(), Found::Picker(3));
        assert_eq!(cell.waiting(), 0);
    });
}

#[test]
fn a_sleep_that_is_over_asks_nobody() {
    // Asleep, woken, asleep again: an RPC that meets any moment of it wakes the last sleep.
    model("enter idle / leave idle / RPC", || {
        let cell = cell(2);
        let wanted = Arc::new((AtomicUsize::new(0), Notify::new()));
        let waiter = {
            let (cell, wanted) = (cell.clone(), wanted.clone());
            thread::spawn(move || {
                rpc(&cell, 3, || {
                    wanted.0.fetch_add(1, SeqCst);
                    wanted.1.notify();
                })
            })
        };
        assert!(cell.go_idle().is_some());
        assert!(cell.leave_idle());
        assert!(cell.go_idle().is_some());
        while wanted.0.load(SeqCst) == 0 {
            wanted.1.wait();
        }
        // Handled like any request in the queue; a second one finds the channel awake.
        cell.leave_idle();
        publish(&cell);
        assert_eq!(waiter.join().unwrap(), Found::Picker(3));
    });
}

#[test]
fn no_more_wait_than_may() {
    model("a queue that is full", || {
        let cell = cell(1);
        let mut first = Box::pin(cell.next(0));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(cx).is_pending());
        let other = {
            let cell = cell.clone();
            thread::spawn(move || {
                let mut second = pin!(cell.next(0));
                let cx = &mut Context::from_waker(Waker::noop());
                second.as_mut().poll(cx).map(|full| full.is_err())
            })
        };
        drop(first);
        let second = other.join().unwrap();
        assert!(second.is_pending() || second == std::task::Poll::Ready(true));
        assert_eq!(cell.waiting(), 0);
    });
}
