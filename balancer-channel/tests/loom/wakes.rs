//! The models of a driver that is not woken for the end of a stream.
//!
//! `h2` is played by what it does under its lock: it keeps what is to be sent, counts its streams, and
//! has one waker, which the driver puts down and the first who has something for it takes.

use std::{future::poll_fn, sync::Arc, task::Poll, task::Waker};

use loom::{future::block_on, sync::Mutex, thread};

use crate::{
    explore::model,
    rouse::{Rouse, hush, unhush},
    sync::{AtomicBool, SeqCst},
};

/// A connection: what `h2` knows, and what we know beside it.
struct Connection {
    h2: Mutex<H2>,
    rouse: Rouse,
    closing: AtomicBool,
    permits: Mutex<usize>,
}

struct H2 {
    waker: Option<Waker>,
    streams: usize,
    unsent: usize,
    sent: usize,
}

impl AsRef<Rouse> for Connection {
    fn as_ref(&self) -> &Rouse {
        &self.rouse
    }
}

impl Connection {
    fn new(streams: usize) -> Arc<Self> {
        Arc::new(Self {
            h2: Mutex::new(H2 {
                waker: None,
                streams,
                unsent: 0,
                sent: 0,
            }),
            rouse: Rouse::new(),
            closing: AtomicBool::new(false),
            permits: Mutex::new(streams),
        })
    }

    /// What every use of `h2` comes to: a change under its lock, and the waker, if it is there.
    fn change(&self, change: impl FnOnce(&mut H2)) {
        let mut h2 = self.h2.lock().expect("no panic");
        change(&mut h2);
        if let Some(waker) = h2.waker.take() {
            waker.wake();
        }
    }

    /// As a response's end does it, and then its permit.
    fn end_a_stream(&self) {
        hush(|| {
            self.change(|h2| h2.streams -= 1);
            self.give_its_permit_back();
        });
    }

    fn give_its_permit_back(&self) {
        let hushed = unhush();
        assert!(hushed, "on this thread");
        *self.permits.lock().expect("no panic") -= 1;
        if self.closing.load(SeqCst) {
            self.rouse.wake();
        }
    }

    fn send(&self) {
        self.change(|h2| h2.unsent += 1);
        self.rouse.pay();
    }

    fn close(&self) {
        self.closing.store(true, SeqCst);
        self.rouse.wake();
    }

    /// The driver, until `over`.
    fn drive(self: &Arc<Self>, over: impl Fn(&H2, bool) -> bool) {
        let mut wakers = None;
        block_on(poll_fn(|cx| {
            Rouse::register(self, &mut wakers, cx.waker());
            let (_, waker) = wakers.as_ref().expect("registered");
            let mut h2 = self.h2.lock().expect("no panic");
            h2.sent += std::mem::take(&mut h2.unsent);
            h2.waker = Some(waker.clone());
            let closing = self.closing.load(SeqCst);
            if over(&h2, closing) {
                h2.waker = None;
                return Poll::Ready(());
            }
            Poll::Pending
        }));
        // The driver's waker goes with the driver.
        drop(wakers);
    }
}

/// Two requests are sent while another stream ends: both leave.
#[test]
fn what_is_sent_beside_an_end_leaves() {
    model("end / send", || {
        let connection = Connection::new(1);
        let other = connection.clone();
        let ends = thread::spawn(move || other.end_a_stream());
        let other = connection.clone();
        let driver = thread::spawn(move || other.drive(|h2, _| h2.sent == 2));
        connection.send();
        connection.send();
        ends.join().expect("ends");
        driver.join().expect("ends");
    });
}

/// Two streams end while the connection is closed: it says goodbye.
#[test]
fn a_connection_that_closes_beside_an_end_says_goodbye() {
    model("ends / close", || {
        let connection = Connection::new(2);
        let other = connection.clone();
        let ends = thread::spawn(move || {
            other.end_a_stream();
            other.end_a_stream();
        });
        let other = connection.clone();
        let driver = thread::spawn(move || other.drive(|h2, closing| closing && h2.streams == 0));
        connection.close();
        ends.join().expect("ends");
        driver.join().expect("ends");
    });
}

/// The same before a peer that takes nothing: `h2` does not say goodbye, nor does it wake anybody for the
/// end of a stream of which something is left to be sent. The driver waits for the last permit.
#[test]
fn a_connection_that_closes_beside_an_end_lingers() {
    model("permit / close", || {
        let connection = Connection::new(1);
        let other = connection.clone();
        let ends = thread::spawn(move || hush(|| other.give_its_permit_back()));
        let other = connection.clone();
        let driver = thread::spawn(move || {
            let permits = || *other.permits.lock().expect("no panic");
            other.drive(|_, closing| closing && permits() == 0);
        });
        connection.close();
        ends.join().expect("ends");
        driver.join().expect("ends");
    });
}
