//! When a policy is called, and when not.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use balancer_api::{ConnectivityState as State, NewSubConnOptions};

use crate::witness::{
    lock,
    puppet::{Answer, Told},
    stage::{Check, OWN, Stage, must},
    under_test::Ending,
};

/// Nothing is tried; the witness looks on.
pub(super) fn look_on(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.ready(&me, &["a"])?;
    stage.pass(2.0);
    stage.end("a", Ending::Reset);
    Ok(())
}

pub(super) fn inline_build(stage: &mut Stage) -> Check {
    let made = Arc::new(Mutex::new(None));
    let keep = made.clone();
    stage.first.on(move |me, told| {
        if let Told::Built = told
            && let Ok(sub_conn) = me.make(&["a"], NewSubConnOptions::new())
        {
            sub_conn.connect();
            me.cc.set_timer(Duration::from_secs(1));
            me.publish(State::TransientFailure, "inline", Answer::Fail("not yet"));
            *lock(&keep) = Some(sub_conn);
        }
    });
    let me = stage.begin()?;
    let made = lock(&made).clone();
    let sub_conn = made.ok_or("a SubConn must be made during build")?;
    let states = me.states(&sub_conn);
    must!(
        states == [State::Connecting, State::Ready],
        "a SubConn that is told to connect during build must become READY, not {states:?}"
    );
    let state = stage.state();
    must!(
        state == State::TransientFailure,
        "what is published during build must be the channel's state, not {state}"
    );
    stage.pass(1.5);
    let fired = me.count(|told| matches!(told, Told::Timer(_)));
    must!(
        fired == 1,
        "a timer that is set during build must fire once, not {fired} times"
    );
    Ok(())
}

pub(super) fn silent_after_close(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.ready(&me, &["a"])?;
    me.cc.set_timer(Duration::from_secs(5));
    stage.run();
    stage.close();
    let waker = me.cc.clone();
    let woken = thread::spawn(move || waker.wake());
    must!(woken.join().is_ok(), "wake must not panic");
    stage.end("a", Ending::Reset);
    stage.pass(200.0);
    must!(me.is_closed(), "the policy must be told to close");
    Ok(())
}

pub(super) fn silent_after_switch(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.ready(&me, &["a"])?;
    me.cc.set_timer(Duration::from_secs(5));
    stage.run();
    stage.resolve_with(&["a"], &[("second", "{}")]);
    let next = stage.second.instance()?;
    stage.publish(&next, State::TransientFailure, "next", Answer::Fail("so"));
    must!(me.is_closed(), "the old policy must be told to close");
    me.cc.wake();
    stage.end("a", Ending::Reset);
    stage.resolve_with(&["b"], &[("second", "{}")]);
    stage.pass(200.0);
    Ok(())
}

pub(super) fn settle_follows(stage: &mut Stage) -> Check {
    let addresses: Vec<String> = (0..200).map(|n| format!("a{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    stage.resolve_with(&addresses, &[(OWN, "{}")]);
    stage.pass(10.0);
    let seen = stage.witness.callbacks();
    must!(
        seen > 400,
        "two hundred SubConns must become CONNECTING and READY, but there were {seen} callbacks"
    );
    Ok(())
}

pub(super) fn wake_settles(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    me.forget();
    let waker = me.cc.clone();
    let woken = thread::spawn(move || waker.wake());
    must!(woken.join().is_ok(), "wake must not panic");
    stage.run();
    let settled = me.count(|told| matches!(told, Told::Settle));
    must!(settled > 0, "settle must follow a wake");
    Ok(())
}

pub(super) fn resolver_heard(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.resolve(&["a"]);
    stage.resolver_fails("the name server is down");
    stage.resolve(&[]);
    stage.resolve(&["b", "c"]);
    let heard: Vec<String> = me
        .told()
        .into_iter()
        .filter_map(|told| match told {
            Told::Addresses(list, _) => Some(format!("[{}]", list.join(", "))),
            Told::ResolverError(message) => Some(message),
            _ => None,
        })
        .collect();
    let all = ["[a]", "[a]", "the name server is down", "[]", "[b, c]"];
    must!(heard == all, "the policy must hear {all:?}, not {heard:?}");
    Ok(())
}
