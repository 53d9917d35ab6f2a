//! Each observer hears of its RPC exactly once, whatever happens to the RPC or to the others.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

use balancer_api::*;
use support::Recorder;

/// Writes down the token and the code that it is told, and panics over odd tokens above 100.
#[derive(Default)]
struct Witness(Mutex<Vec<(u64, Option<Code>)>>);

impl Witness {
    fn take(&self) -> Vec<(u64, Option<Code>)> {
        std::mem::take(&mut self.0.lock().expect("not held over the panic"))
    }
}

impl OnDone for Witness {
    fn on_done(&self, token: u64, info: &DoneInfo<'_>) {
        let told = (token, info.err().map(Status::code));
        self.0.lock().expect("not held over the panic").push(told);
        assert!(token < 100 || token.is_multiple_of(2), "a bad observer");
    }
}

fn done(witness: &Arc<Witness>, tokens: &[u64]) -> Done {
    let mut done = Done::none();
    for token in tokens {
        done.push(witness.clone(), *token);
    }
    done
}

#[test]
fn observers_are_told_innermost_first_and_once() {
    let witness = Arc::new(Witness::default());
    let status = Status::unavailable("reset");
    let panicked = done(&witness, &[1, 2, 3]).complete(&DoneInfo::new().with_err(&status));
    let code = Some(Code::Unavailable);
    assert_eq!(witness.take(), [(1, code), (2, code), (3, code)]);
    assert_eq!(panicked, 0);
    assert_eq!(Arc::strong_count(&witness), 1, "none is kept");
}

#[test]
fn a_dropped_rpc_is_a_cancelled_one() {
    let witness = Arc::new(Witness::default());
    drop(done(&witness, &[1, 2]));
    let code = Some(Code::Cancelled);
    assert_eq!(witness.take(), [(1, code), (2, code)]);
}

#[test]
fn a_dropped_pick_tells_its_observers() {
    let witness = Arc::new(Witness::default());
    let cc = Recorder::new();
    let sub_conn = cc
        .new_sub_conn(vec![Address::new("a:1")], NewSubConnOptions::new())
        .expect("a SubConn");
    drop(Pick::new(&sub_conn).on_done(witness.clone(), 5));
    assert_eq!(witness.take(), [(5, Some(Code::Cancelled))]);

    let (done, metadata) = Pick::new(&sub_conn)
        .on_done(witness.clone(), 6)
        .into_owned()
        .into_parts();
    assert!(metadata.is_none());
    assert_eq!(witness.take(), [], "taking it apart is not the end");
    done.complete(&DoneInfo::new());
    assert_eq!(witness.take(), [(6, None)]);
}

#[test]
fn a_panicking_observer_harms_nobody() {
    let witness = Arc::new(Witness::default());
    let panicked = done(&witness, &[1, 101, 2, 103, 3]).complete(&DoneInfo::new());
    let told: Vec<_> = witness.take().into_iter().map(|(token, _)| token).collect();
    assert_eq!(
        told,
        [1, 101, 2, 103, 3],
        "each once, and the others as well"
    );
    assert_eq!(panicked, 2);
}

#[test]
fn an_rpc_that_is_dropped_by_a_panic_tells_its_observers() {
    let witness = Arc::new(Witness::default());
    let rpc = done(&witness, &[1, 101, 2]);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _rpc = rpc;
        panic!("the application's bug");
    }));
    assert!(panicked.is_err());
    let told: Vec<_> = witness.take().into_iter().map(|(token, _)| token).collect();
    assert_eq!(told, [1, 101, 2]);
}

#[test]
fn more_observers_than_fit_inline_are_told_too() {
    let witness = Arc::new(Witness::default());
    let tokens: Vec<u64> = (0..9).collect();
    assert_eq!(done(&witness, &tokens).complete(&DoneInfo::new()), 0);
    let told: Vec<_> = witness.take().into_iter().map(|(token, _)| token).collect();
    assert_eq!(told, tokens);
}

#[test]
fn nobody_is_told_of_nothing() {
    assert!(Done::none().is_none());
    assert_eq!(Done::none().complete(&DoneInfo::new()), 0);
    let witness = Arc::new(Witness::default());
    let done = done(&witness, &[1]);
    assert!(!done.is_none());
    drop(done);
}
