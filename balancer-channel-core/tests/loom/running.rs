//! Models of a whole channel. The thread of the model runs the balancer's task and whatever else the
//! channel has spawned; the others are RPCs, those who cancel them, and the network.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
};

use balancer_api::{DoneInfo, PickOptions};
use loom::{future::block_on, thread};

use crate::{
    core::Core,
    explore::model,
    rpc::{Attempt, PickOutcome},
    sync::{Mutex, lock, this_thread},
    world::{Line, Losing, Stage, Wire, World, endpoints},
};

/// The pick of an RPC that waits for ready: the library's own, and the wait for the next picker.
async fn picked(core: &Core<World>) -> Attempt<Line> {
    let mut asked = 0;
    loop {
        let options = PickOptions::new("/s/m")
            .with_wait_for_ready(true)
            .with_source(core.source());
        let outcome = core.current().pick(&options);
        match outcome {
            PickOutcome::Complete(attempt) => return attempt,
            PickOutcome::Wait { generation, .. } => {
                assert!(
                    generation == 0 || asked < generation,
                    "picker {generation} was asked twice"
                );
                asked = generation;
                core.next_picker(generation).await.expect("room to wait");
            }
            PickOutcome::Fail(error) => panic!("no RPC fails here: {error}"),
            PickOutcome::Closed(why) => panic!("whoever has an RPC holds the channel: {why}"),
        }
    }
}

/// A whole RPC, on a thread of its own; who served it.
fn served(core: &Core<World>) -> Arc<Wire> {
    let attempt = block_on(picked(core));
    attempt.done.complete(&DoneInfo::new());
    attempt.connection.0.clone()
}

/// The channel wakes, resolves, connects and publishes while its first RPC comes: the connection must
/// be there before the picker that leads to it.
#[test]
fn the_first_rpc_and_the_first_connection() {
    model("the first RPC and the first connection", || {
        let stage = Stage::asleep("a");
        let core = stage.core.clone();
        let rpc = thread::spawn(move || served(&core).address.clone());
        let witness = stage.run();
        assert_eq!(rpc.join().unwrap(), "a");
        assert_eq!(witness.picks(), 1);
    });
}

/// The state cell of a SubConn, ready and at GOAWAY: the balancer's task takes the connection away,
/// tells the policy, and puts a new one in its place, while an RPC picks by the old picker, by none or
/// by the new one. The RPC is served, and by no connection that was given up before it looked.
#[test]
fn state_cell_ready_and_goaway() {
    model("state cell: ready / goaway", || {
        let stage = Stage::ready("a");
        let (core, first) = (stage.core.clone(), stage.wire("a"));
        let rpc = {
            let first = first.clone();
            thread::spawn(move || {
                let too_late = first.is_given_up();
                let wire = served(&core);
                assert!(
                    !(too_late && Arc::ptr_eq(&wire, &first)),
                    "an RPC was given a connection that is no more"
                );
            })
        };
        let peer = thread::spawn(move || first.lose());
        stage.run();
        peer.join().unwrap();
        rpc.join().unwrap();
    });
}

/// A backend leaves the list, and its SubConn is removed, while an RPC picks it: the RPC is on the
/// connection already, or waits for the picker of those that stay.
#[test]
fn remove_and_pick() {
    model("remove / pick", || {
        let stage = Stage::ready("a b");
        let (core, removed) = (stage.core.clone(), stage.wire("a"));
        let resolver = stage.resolver.clone();
        let rpc = thread::spawn(move || {
            let too_late = removed.is_given_up();
            let wire = served(&core);
            let by_removed = Arc::ptr_eq(&wire, &removed);
            assert!(
                !(too_late && by_removed),
                "an RPC was given a removed SubConn"
            );
            assert!(by_removed || wire.address == "b");
        });
        resolver.set_endpoints(endpoints("b"));
        let witness = stage.run();
        rpc.join().unwrap();
        // A pick whose SubConn was gone is one more, and was told its end like any other.
        assert!(matches!(witness.picks(), 1 | 2));
    });
}

/// An RPC is dropped with its pick, or while it waits, at the moment when its connection is lost.
///
/// A [`Done`](balancer_api::Done) has one owner, so no two threads ever tell the same one. But the
/// pick that it comes with may turn out to lead nowhere, which is told on the spot; and the observer
/// belongs to a picker that the balancer's task replaces meanwhile.
#[test]
fn done_and_drop() {
    model("done / drop", || {
        let stage = Stage::ready("a");
        let (core, first) = (stage.core.clone(), stage.wire("a"));
        let rpc = thread::spawn(move || {
            let mut rpc = pin!(picked(&core));
            // Dropped with what it has: a connection, a place in the queue, or neither.
            let _ = rpc.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        });
        first.lose();
        let witness = stage.run();
        rpc.join().unwrap();
        witness.picks();
    });
}

/// An RPC ends on one thread, since its connection does, while another thread cancels it: whichever
/// has the future tells the end, and the other finds nothing left to tell.
#[test]
fn done_complete_and_cancel() {
    model("done / complete / cancel", || {
        let stage = Stage::ready("a");
        let (core, first) = (stage.core.clone(), stage.wire("a"));
        let attempt = block_on(picked(&core));
        drop(core);
        let task = Arc::new(Task::new(async move {
            Losing(attempt.connection.0.clone()).await;
            attempt.done.complete(&DoneInfo::new());
        }));
        let worker = {
            let task = task.clone();
            thread::spawn(move || block_on(poll_fn(|cx| task.poll(cx))))
        };
        let caller = thread::spawn(move || task.cancel());
        first.lose();
        let witness = stage.run();
        worker.join().unwrap();
        caller.join().unwrap();
        assert_eq!(witness.picks(), 1);
    });
}

/// The balancer's task replaces a picker that an RPC is reading: the picker is dropped when nobody
/// reads it any more, and by the balancer's task: the Drop of a large one is no RPC's work.
#[test]
fn retire_picker_and_last_reader() {
    model("retire picker / last reader", || {
        let mut stage = Stage::ready("a");
        let core = stage.core.clone();
        let rpc = thread::spawn(move || {
            let reader = core.current();
            let outcome = reader.pick(&PickOptions::new("/s/m"));
            drop(reader);
            drop(outcome);
        });
        stage.resolver.set_endpoints(endpoints("a b"));
        let witness = stage.witness.clone();
        let before = witness.pickers.load(Relaxed);
        stage.work(|_| witness.pickers.load(Relaxed) > before);
        stage.run();
        rpc.join().unwrap();
        let here = this_thread();
        let drops = witness.drops();
        assert!(drops.len() > 1, "a picker was replaced");
        assert!(
            drops.iter().all(|thread| *thread == here),
            "dropped by an RPC"
        );
    });
}

/// A task as an executor has it: a worker polls it, and anybody may cancel it.
struct Task(Mutex<TaskState>);

struct TaskState {
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    worker: Option<Waker>,
}

impl Task {
    fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Mutex::new(TaskState {
            future: Some(Box::pin(future)),
            worker: None,
        }))
    }

    /// Ready when the task has ended or was cancelled.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut task = lock(&self.0);
        let running = task.future.as_mut();
        if running.is_some_and(|future| future.as_mut().poll(cx).is_pending()) {
            task.worker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        task.future = None;
        Poll::Ready(())
    }

    fn cancel(&self) {
        let (cancelled, worker) = {
            let mut task = lock(&self.0);
            (task.future.take(), task.worker.take())
        };
        drop(cancelled);
        worker.into_iter().for_each(Waker::wake);
    }
}
