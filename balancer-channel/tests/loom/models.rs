//! The models: two or three threads, a few operations each.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
};

use loom::{future::block_on, thread};

use crate::{
    admission::Admission,
    explore::model,
    line::{Admit, Line, Ticket},
};

/// Which of the connections, by its number.
type Connection = Admission<usize>;

const GRANTED: Answer = Answer::Stream(0);

/// How an RPC's wait ended.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It has a stream of the connection with this number.
    Stream(usize),
    Closed,
}

fn beside(first: &Connection, number: usize, limit: usize) -> Arc<Connection> {
    let admission = Admission::new(first.line().clone());
    admission.set_limit(limit);
    admission.enter(number);
    Arc::new(admission)
}

fn admission(limit: usize) -> Arc<Connection> {
    let admission = Admission::new(Arc::new(Line::default()));
    admission.set_limit(limit);
    admission.enter(0);
    Arc::new(admission)
}

/// As an RPC does it that was given the first connection: at once where that is possible, else in the
/// queue.
fn admitted(admission: &Connection) -> Answer {
    if admission.try_admit() {
        return GRANTED;
    }
    let mut ticket = None;
    let answer = block_on(poll_fn(|cx| admission.poll_admit(false, &mut ticket, cx)));
    match answer {
        Admit::Granted => GRANTED,
        Admit::Elsewhere(grant) => Answer::Stream(grant.whose),
        Admit::Closed => Answer::Closed,
    }
}

/// One stream may be open, and two RPCs want one: both get it, one after the other.
#[test]
fn an_end_admits_the_next() {
    model("release / admit", || {
        let admission = admission(1);
        let other = admission.clone();
        let rpc = thread::spawn(move || {
            assert_eq!(admitted(&other), GRANTED);
            other.release();
        });
        assert_eq!(admitted(&admission), GRANTED);
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
        assert!(admission.try_admit());
        let rpcs = [(); 2].map(|()| {
            let admission = admission.clone();
            thread::spawn(move || {
                assert_eq!(admitted(&admission), GRANTED);
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
            assert_eq!(admitted(&other), GRANTED);
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
        assert!(admission.try_admit());
        let other = admission.clone();
        let rpc = thread::spawn(move || {
            let admit = admitted(&other);
            if admit == GRANTED {
                other.release();
            }
            admit
        });
        let closing = admission.clone();
        let goaway = thread::spawn(move || closing.close());
        admission.release();
        goaway.join().expect("ends");
        rpc.join().expect("ends");
        assert_eq!((admission.open(), admission.waiting()), (0, 0));
    });
}

/// An RPC is cancelled while the stream that it waits for becomes free: the next one gets it.
#[test]
fn a_place_that_is_given_up() {
    model("release / cancel / admit", || {
        let admission = admission(1);
        assert!(admission.try_admit());
        // The first in the queue looks once, and is dropped whatever became of it.
        let mut ticket: Option<Ticket> = None;
        let first = block_on(poll_fn(|cx| {
            Poll::Ready(admission.poll_admit(false, &mut ticket, cx))
        }));
        assert!(first.is_pending());
        let second = {
            let admission = admission.clone();
            thread::spawn(move || {
                assert_eq!(admitted(&admission), GRANTED);
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

/// Two connections allow one stream each, and an RPC waits: whichever ends first, it gets that one.
#[test]
fn the_end_of_a_stream_on_either_connection_admits() {
    model("a stream of the second / admit", || {
        let connections = {
            let first = admission(1);
            let second = beside(&first, 1, 1);
            [first, second]
        };
        assert!(connections.iter().all(|it| it.try_admit()));
        let rpc = {
            let connections = connections.clone();
            thread::spawn(move || match admitted(&connections[0]) {
                Answer::Stream(number) => connections[number].release(),
                Answer::Closed => panic!("both are open"),
            })
        };
        // On the connection that the RPC was not given.
        connections[1].release();
        rpc.join().expect("ends");
        connections[0].release();
        for connection in connections {
            assert_eq!((connection.open(), connection.waiting()), (0, 0));
        }
    });
}

/// A connection comes to the help of another while an RPC comes to wait there.
#[test]
fn another_connection_is_there_for_who_comes_to_wait() {
    model("another enters / admit", || {
        let first = admission(1);
        assert!(first.try_admit());
        let rpc = {
            let first = first.clone();
            thread::spawn(move || admitted(&first))
        };
        let second = beside(&first, 1, 1);
        assert_eq!(rpc.join().expect("ends"), Answer::Stream(1));
        second.release();
        first.release();
        assert_eq!((first.open(), second.open()), (0, 0));
    });
}

/// A connection is drained while the other's stream ends: who waits before the first is served by
/// the second, and never sent away.
#[test]
fn who_waits_before_one_that_is_drained_goes_to_the_other() {
    model("two / goaway of one / admit", || {
        let first = admission(1);
        let second = beside(&first, 1, 1);
        assert!(first.try_admit() && second.try_admit());
        let rpc = {
            let first = first.clone();
            thread::spawn(move || admitted(&first))
        };
        let drained = {
            let first = first.clone();
            thread::spawn(move || first.close())
        };
        second.release();
        let answer = rpc.join().expect("ends");
        drained.join().expect("ends");
        assert_eq!(answer, Answer::Stream(1));
        second.release();
        assert_eq!((second.open(), second.waiting()), (0, 0));
    });
}

/// Both are lost while an RPC comes to wait: it is sent away, or has a stream of before.
#[test]
fn who_waits_when_the_last_is_lost_is_sent_away() {
    model("both lost / admit", || {
        let connections = {
            let first = admission(0);
            let second = beside(&first, 1, 0);
            [first, second]
        };
        let lost = connections
            .clone()
            .map(|connection| thread::spawn(move || connection.close()));
        assert_eq!(admitted(&connections[0]), Answer::Closed);
        for lost in lost {
            lost.join().expect("ends");
        }
    });
}

/// Somebody asks to be told of RPCs that wait, while one comes: it is told, once.
#[test]
fn news_of_a_crowd_is_not_lost() {
    model("asked for news / admit", || {
        let admission = admission(1);
        assert!(admission.try_admit());
        let rpc = {
            let admission = admission.clone();
            thread::spawn(move || assert_eq!(admitted(&admission), GRANTED))
        };
        let told = Arc::new(AtomicUsize::new(0));
        let news = {
            let (told, admission) = (told.clone(), admission.clone());
            // As another connection would.
            move || {
                told.fetch_add(1, SeqCst);
                admission.release();
            }
        };
        admission.when_crowded(Box::new(news));
        rpc.join().expect("ends");
        assert_eq!(told.load(SeqCst), 1);
        admission.release();
        assert_eq!((admission.open(), admission.waiting()), (0, 0));
    });
}
