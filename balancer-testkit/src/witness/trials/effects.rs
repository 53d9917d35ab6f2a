//! The clock, timers, and calls of policies.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{CallEvent, CallId, CallRequest, Code, NewSubConnOptions, TimerId, Timestamp};

use crate::witness::{
    lock,
    puppet::{Instance, Told},
    stage::{Check, Stage, must},
    under_test::{Ending, Peer, Serve},
};

/// So long does a slow peer take to answer.
const SLOW: Duration = Duration::from_secs(10);

pub(super) fn clock_forward(stage: &mut Stage) -> Check {
    let read: Arc<Mutex<Vec<Timestamp>>> = Arc::default();
    let keep = read.clone();
    stage.first.on(move |me, _| lock(&keep).push(me.cc.now()));
    let me = stage.begin()?;
    stage.ready(&me, &["a"])?;
    stage.pass(2.0);
    stage.end("a", Ending::Reset);
    stage.pass(2.0);
    stage.resolve(&["b"]);
    let read = lock(&read).clone();
    let (first, last) = (read.first().copied(), read.last().copied());
    let passed = last.unwrap_or_default() - first.unwrap_or_default();
    must!(
        passed >= Duration::from_secs(4),
        "4 s have passed, but the clock says {passed:?}"
    );
    Ok(())
}

pub(super) fn timers_on_time(stage: &mut Stage) -> Check {
    // Two that are due together, of which the first cancels the other; one that is cancelled at
    // once; one that just fires.
    let twins: Arc<Mutex<Vec<TimerId>>> = Arc::default();
    stage.first.on(move |me, told| match told {
        Told::Addresses(..) => {
            let set = |seconds| me.cc.set_timer(Duration::from_secs(seconds));
            let pair = vec![set(2), set(2)];
            let (spare, _) = (set(5), set(60));
            me.cc.cancel_timer(spare);
            *lock(&twins) = pair;
        }
        Told::Timer(id) => {
            let twins = lock(&twins).clone();
            if twins.contains(id) {
                for other in twins.iter().filter(|other| *other != id) {
                    me.cc.cancel_timer(*other);
                }
            }
        }
        _ => {}
    });
    let me = stage.begin()?;
    for (seconds, fired) in [(1.9, 0), (0.2, 1), (10.0, 1), (60.0, 2), (100.0, 2)] {
        stage.pass(seconds);
        let seen = me.count(|told| matches!(told, Told::Timer(_)));
        must!(
            seen == fired,
            "after {seconds} s more, {fired} timers must have fired, not {seen}"
        );
    }
    Ok(())
}

pub(super) fn call_in_order(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let sub_conn = stage.ready(&me, &["a"])?;
    let call = me.cc.start_call(&sub_conn, probe());
    stage.run();
    let events = events(&me, call);
    must!(
        events == ["headers", "message", "end OK"],
        "a call that is answered must have headers, a message and its end, not {events:?}"
    );
    Ok(())
}

pub(super) fn cancelled_call(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.peer("a", Peer::serving(Serve::AnswerAfter(SLOW)));
    let sub_conn = stage.ready(&me, &["a"])?;
    let [early, late] = [(); 2].map(|()| me.cc.start_call(&sub_conn, probe()));
    stage.run();
    // In callbacks: one well before its answer, the other at the moment when the answer comes.
    let [soon, then] = [SLOW / 5, SLOW].map(|after| me.cc.set_timer(after));
    stage.first.on(move |me, told| match told {
        Told::Timer(id) if *id == soon => me.cc.cancel_call(early),
        Told::Timer(id) if *id == then => me.cc.cancel_call(late),
        _ => {}
    });
    stage.pass(5.0);
    must!(events(&me, late).is_empty(), "nothing was answered yet");
    stage.pass(30.0);
    let fired = me.count(|told| matches!(told, Told::Timer(_)));
    must!(fired == 2, "two timers must fire, not {fired}");
    let events = events(&me, early);
    must!(
        events.is_empty(),
        "a call that was cancelled before it was answered must have no events, not {events:?}"
    );
    // Of the other nothing after the timer, whatever came before: the witness has heard.
    Ok(())
}

pub(super) fn lost_call(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.peer("a", Peer::serving(Serve::AnswerAfter(SLOW)));
    let sub_conn = stage.ready(&me, &["a"])?;
    let call = me.cc.start_call(&sub_conn, probe());
    stage.run();
    stage.end("a", Ending::Reset);
    stage.pass(30.0);
    let events = events(&me, call);
    must!(
        events == ["end UNAVAILABLE"],
        "a call whose connection is lost must have one end, UNAVAILABLE, not {events:?}"
    );
    Ok(())
}

pub(super) fn dead_calls_end(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let idle = me.make(&["a"], NewSubConnOptions::new())?;
    let gone = stage.ready(&me, &["b"])?;
    me.cc.remove_sub_conn(&gone);
    stage.run();
    for (sub_conn, what) in [(&idle, "IDLE"), (&gone, "removed")] {
        let call = me.cc.start_call(sub_conn, probe());
        stage.pass(5.0);
        let events = events(&me, call);
        must!(
            events == ["end UNAVAILABLE"],
            "a call on a SubConn that is {what} must have one end, UNAVAILABLE, not {events:?}"
        );
    }
    Ok(())
}

fn probe() -> CallRequest {
    CallRequest::new("/suite.Suite/Probe")
        .with_first_message(&b"probe"[..])
        .with_half_close(true)
}

/// What was told of a call.
fn events(me: &Arc<Instance>, call: CallId) -> Vec<String> {
    let word = |told| match told {
        Told::Call(id, event) if id == call => Some(match event {
            CallEvent::Headers(_) => "headers".to_owned(),
            CallEvent::Message(_) => "message".to_owned(),
            CallEvent::End { status, .. } => match status.code() {
                Code::Ok => "end OK".to_owned(),
                code => format!("end {code}"),
            },
        }),
        _ => None,
    };
    me.told().into_iter().filter_map(word).collect()
}
