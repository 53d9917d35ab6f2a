//! The models: two or three threads, a few operations each.

use std::{future::poll_fn, sync::Arc, task::Poll};

use loom::{future::block_on, thread};

use crate::{
    admission::{Admission, Admit, Ticket},
    explore::model,
};

fn admission(limit: usize) -> Arc<Admission> {
    let admission = Arc::new(Admission::new());
    admission.set_limit(limit);
    admission
}

/// As an RPC does it: at once where that is possible, else in the queue.
fn admitted(admission: &Admission) -> Admit {
    match admission.try_admit() {
        Admit::Full => {}
        answer => return answer,
    }
    let mut ticket = None;
    block_on(poll_fn(|cx| admission.poll_admit(&mut ticket, cx)))
}

/// One stream may be open, and two RPCs want one: both get it, one after the other.
#[test]
fn an_end_admits_the_next() {
    model("release / admit", || {
        let admission = admission(1);
        let other = admission.clone();
        let rpc = thread::spawn(move || {
            assert_eq!(admitted(&other), Admit::Granted);
            other.release();
        });
        assert_eq!(admitted(&admission), Admit::Granted);
        admission.release();
        rpc.join().expect("ends");
        assert_eq!((admission.open(), admission.waiting()), (0, 0));
    });
}

/// Two wait while one stream is open: its end and theirs admit them all.
#[test]
fn two_wait_for_one() {
    model("two wait / one release", || {
        let admission = admission(1);
        assert_eq!(admission.try_admit(), Admit::Granted);
        let rpcs = [(); 2].map(|()| {
            let admission = admission.clone();
            thread::spawn(move || {
                assert_eq!(admitted(&admission), Admit::Granted);
                admission.release();
            })
        });
        admission.release();
        for rpc in rpcs {
            rpc.join().expect("ends");
        }
        assert_eq!((admission.open(), admission.waiting()), (0, 0));
    });
}

/// The peer raises its limit while an RPC comes to wait.
#[test]
fn a_limit_that_is_raised() {
    model("limit / admit", || {
        let admission = admission(0);
        let other = admission.clone();
        let rpc = thread::spawn(move || {
            assert_eq!(admitted(&other), Admit::Granted);
            other.release();
        });
        admission.set_limit(1);
        rpc.join().expect("ends");
        assert_eq!(admission.open(), 0);
    });
}

/// The connection is drained while one stream ends and an RPC waits: it is sent away or gets the
/// stream, and never waits for ever.
#[test]
fn admit_release_and_goaway() {
    model("admit / release / goaway", || {
        let admission = admission(1);
        assert_eq!(admission.try_admit(), Admit::Granted);
        let other = admission.clone();
        let rpc = thread::spawn(move || {
            let admit = admitted(&other);
            if admit == Admit::Granted {
                other.release();
            }
            admit
        });
        let closing = admission.clone();
        let goaway = thread::spawn(move || closing.close());
        admission.release();
        goaway.join().expect("ends");
        assert_ne!(rpc.join().expect("ends"), Admit::Full);
        assert_eq!((admission.open(), admission.waiting()), (0, 0));
    });
}

/// An RPC is cancelled while the stream that it waits for becomes free: the next one gets it.
#[test]
fn a_place_that_is_given_up() {
    model("release / cancel / admit", || {
        let admission = admission(1);
        assert_eq!(admission.try_admit(), Admit::Granted);
        // The first in the queue looks once, and is dropped whatever became of it.
        let mut ticket: Option<Ticket> = None;
        let first = block_on(poll_fn(|cx| {
            Poll::Ready(admission.poll_admit(&mut ticket, cx))
        }));
        assert!(first.is_pending());
        let second = {
            let admission = admission.clone();
            thread::spawn(move || {
                assert_eq!(admitted(&admission), Admit::Granted);
                admission.release();
            })
        };
        let ends = {
            let admission = admission.clone();
            thread::spawn(move || admission.release())
        };
        if let Some(ticket) = &ticket {
            admission.forget(ticket);
        }
        ends.join().expect("ends");
        second.join().expect("ends");
        assert_eq!((admission.open(), admission.waiting()), (0, 0));
    });
}
