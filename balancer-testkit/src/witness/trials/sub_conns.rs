//! SubConns: how they move, and what becomes of what runs on them.

use std::{sync::Arc, time::Duration};

use balancer_api::{Address, ConnectivityState as State, NewSubConnOptions, Reconnect, SubConn};

use crate::witness::{
    puppet::{Answer, Instance, Told},
    stage::{Check, OWN, Stage, must},
    under_test::{Ending, Peer, Serve},
};

/// So long does a slow peer take to answer.
const SLOW: Duration = Duration::from_secs(10);

/// A day with the witness's own policy, which knows what it asked.
pub(super) fn life(stage: &mut Stage) -> Check {
    let own: &[(&str, &str)] = &[(OWN, "{}")];
    stage.peer("b", Peer::refusing());
    stage.resolve_with(&["a", "b", "never"], own);
    stage.fail_fast();
    stage.pass(3.0);
    stage.end("a", Ending::Goaway);
    stage.fail_fast();
    stage.peer("b", Peer::good());
    stage.pass(10.0);
    stage.resolve_with(&["b", "c", "never"], own);
    stage.fail_fast();
    stage.pass(3.0);
    stage.end("b", Ending::Reset);
    stage.pass(3.0);
    stage.resolver_fails("the name server is down");
    stage.end("c", Ending::Reset);
    stage.pass(3.0);
    let seen = stage.witness.callbacks();
    must!(
        seen > 10,
        "a policy that connects to all it hears of must be told more than {seen} things"
    );
    Ok(())
}

pub(super) fn shutdown_once(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let gone = stage.ready(&me, &["a"])?;
    stage.peer("b", Peer::hanging());
    let dialling = me.make(&["b"], NewSubConnOptions::new())?;
    dialling.connect();
    stage.run();
    for sub_conn in [&gone, &dialling] {
        me.cc.remove_sub_conn(sub_conn);
        stage.run();
        me.cc.remove_sub_conn(sub_conn);
        stage.run();
    }
    stage.end("a", Ending::Reset);
    stage.peer("b", Peer::good());
    stage.pass(10.0);
    for sub_conn in [&gone, &dialling] {
        let states = me.states(sub_conn);
        let shut = states.iter().filter(|s| **s == State::Shutdown).count();
        must!(
            shut == 1 && states.last() == Some(&State::Shutdown),
            "a SubConn that is removed must be told SHUTDOWN once, and nothing then: {states:?}"
        );
    }
    Ok(())
}

pub(super) fn own_sub_conns(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let mine = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "old", Answer::Pick(mine.clone()));
    stage.resolve_with(&["a"], &[("second", "{}")]);
    let next = stage.second.instance()?;
    let hers = stage.ready(&next, &["b"])?;
    stage.pass(2.0);
    stage.end("a", Ending::Reset);
    stage.end("b", Ending::Reset);
    for (instance, own, other) in [(&me, &mine, &hers), (&next, &hers, &mine)] {
        let states = instance.states(own);
        must!(
            states == [State::Connecting, State::Ready, State::Idle],
            "a policy must hear of its SubConn, also while the channel switches: {states:?}"
        );
        let others = instance.states(other);
        must!(
            others.is_empty(),
            "a policy must not hear of the other's SubConn: {others:?}"
        );
    }
    Ok(())
}

pub(super) fn connect_when_idle(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.peer("a", Peer::hanging());
    let sub_conn = me.make(&["a"], when_asked())?;
    for _ in 0..3 {
        sub_conn.connect();
        stage.run();
    }
    stage.peer("a", Peer::good());
    for _ in 0..3 {
        sub_conn.connect();
        stage.run();
    }
    let states = me.states(&sub_conn);
    must!(
        states == [State::Connecting, State::Ready],
        "connect on a SubConn that is not IDLE must do nothing: {states:?}"
    );
    let open = stage.open_connections();
    must!(open == 1, "there must be one connection, not {open}");
    Ok(())
}

pub(super) fn reconnect_mode(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let lazy = stage.ready(&me, &["a"])?;
    let eager = me.make(&["b"], NewSubConnOptions::new())?;
    eager.connect();
    stage.run();
    stage.pass(2.0);
    me.forget();
    stage.end("a", Ending::Reset);
    stage.end("b", Ending::Reset);
    stage.pass(5.0);
    let states = me.states(&lazy);
    must!(
        states == [State::Idle],
        "a SubConn that reconnects when asked must become IDLE at a loss, and stay so: {states:?}"
    );
    let states = me.states(&eager);
    must!(
        states == [State::Connecting, State::Ready],
        "a SubConn that reconnects by itself must become CONNECTING at a loss, then READY: {states:?}"
    );
    Ok(())
}

pub(super) fn back_off(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.peer("a", Peer::refusing());
    let eager = me.make(&["a"], NewSubConnOptions::new())?;
    let lazy = me.make(&["a"], when_asked())?;
    eager.connect();
    lazy.connect();
    stage.run();
    let pass = [State::Connecting, State::TransientFailure];
    // The first wait is exactly 1 s; the next 1.6 s, more or less 20 %.
    for (seconds, eager_says, lazy_says) in [
        (0.0, &pass[..], &pass[..]),
        (0.9, &[], &[]),
        (0.2, &pass, &[State::Idle]),
        (1.1, &[], &[]),
        (0.9, &pass, &[]),
    ] {
        stage.pass(seconds);
        let states = (me.states(&eager), me.states(&lazy));
        must!(
            states.0 == eager_says && states.1 == lazy_says,
            "after {seconds} s more, the SubConn that redials by itself must be told {eager_says:?} \
             and the other {lazy_says:?}, not {states:?}"
        );
        me.forget();
    }
    Ok(())
}

pub(super) fn listed_kept(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let sub_conn = stage.ready(&me, &["a"])?;
    stage.pass(2.0);
    me.forget();
    sub_conn.update_addresses(vec![Address::new("b"), Address::new("a")]);
    stage.run();
    stage.pass(2.0);
    let states = me.states(&sub_conn);
    must!(
        states.is_empty(),
        "a list that still has the connected address must change nothing: {states:?}"
    );
    let open = stage.open_connections();
    must!(open == 1, "there must be one connection still, not {open}");
    stage.publish(&me, State::Ready, "kept", Answer::Pick(sub_conn));
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "on the connection that was kept")
}

pub(super) fn unlisted_drained(stage: &mut Stage) -> Check {
    let (me, sub_conn, open) = in_flight(stage)?;
    sub_conn.update_addresses(vec![Address::new("b")]);
    stage.run();
    let states = me.states(&sub_conn);
    must!(
        states == [State::Connecting, State::Ready],
        "a list without the connected address must move the SubConn on: {states:?}"
    );
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "by the new address")?;
    stage.pass(11.0);
    stage.must_be_answered(open, "by the address that left the list")
}

pub(super) fn removal_drains(stage: &mut Stage) -> Check {
    let (me, sub_conn, open) = in_flight(stage)?;
    me.cc.remove_sub_conn(&sub_conn);
    stage.run();
    let told = me.count(|told| matches!(told, Told::State(_, State::Shutdown)));
    must!(told == 1, "SHUTDOWN must be told at once");
    let rpc = stage.fail_fast();
    stage.must_wait(rpc, "since its pick was removed")?;
    stage.pass(11.0);
    stage.must_be_answered(open, "since it was in flight")?;
    let open = stage.open_connections();
    must!(open == 0, "the connection must end with its last RPC");
    Ok(())
}

pub(super) fn goaway_drains(stage: &mut Stage) -> Check {
    let (me, sub_conn, open) = in_flight(stage)?;
    stage.end("a", Ending::Goaway);
    let states = me.states(&sub_conn);
    must!(
        states == [State::Idle],
        "the SubConn must leave READY at the GOAWAY: {states:?}"
    );
    let rpc = stage.fail_fast();
    stage.must_wait(rpc, "since its pick is IDLE")?;
    stage.pass(11.0);
    stage.must_be_answered(open, "since it was in flight")
}

/// A SubConn to `a`, published, with an RPC on it that takes a while.
fn in_flight(stage: &mut Stage) -> Result<(Arc<Instance>, SubConn, usize), String> {
    let me = stage.begin()?;
    stage.peer("a", Peer::serving(Serve::AnswerAfter(SLOW)));
    let sub_conn = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "picker", Answer::Pick(sub_conn.clone()));
    stage.pass(2.0);
    me.forget();
    let open = stage.fail_fast();
    stage.must_wait(open, "for a server that takes its time")?;
    Ok((me, sub_conn, open))
}

fn when_asked() -> NewSubConnOptions {
    NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked)
}
