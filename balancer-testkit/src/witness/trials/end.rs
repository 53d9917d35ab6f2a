//! The end of a policy, and of the channel.

use balancer_api::{Address, Code, ConnectivityState as State, NewSubConnError, NewSubConnOptions};

use crate::witness::{
    puppet::Answer,
    stage::{Check, Stage, must},
    under_test::Peer,
};

pub(super) fn closed_refuses(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.close();
    let late = vec![Address::new("late")];
    let made = me.cc.new_sub_conn(late, NewSubConnOptions::new());
    must!(
        matches!(made, Err(NewSubConnError::Closed)),
        "a policy that is closed must be refused a SubConn as closed, not given {made:?}"
    );
    Ok(())
}

pub(super) fn closed_is_deaf(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let a = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "old", Answer::Pick(a));
    stage.resolve_with(&["b"], &[("second", "{}")]);
    let next = stage.second.instance()?;
    let b = stage.ready(&next, &["b"])?;
    stage.publish(&next, State::Ready, "new", Answer::Pick(b));
    must!(me.is_closed(), "the old policy must be closed");
    let ghost = Answer::Failed("a ghost");
    stage.publish(&me, State::TransientFailure, "ghost", ghost);
    let state = stage.state();
    must!(
        state == State::Ready,
        "a closed policy's word must not count; the channel is {state}"
    );
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "by the new policy")?;
    stage.must_ask("ghost", 0, "since its policy is closed")
}

pub(super) fn close_cancels(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.publish(&me, State::Connecting, "queue", Answer::Queue);
    let (fast, waiting) = (stage.fail_fast(), stage.wait_for_ready());
    stage.close();
    let late = stage.wait_for_ready();
    for rpc in [fast, waiting, late] {
        let why = "since the channel is closed";
        stage.must_fail(rpc, Code::Cancelled, "", why)?;
    }
    Ok(())
}

pub(super) fn nothing_left(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.ready(&me, &["a"])?;
    stage.ready(&me, &["b"])?;
    stage.peer("c", Peer::hanging());
    let dialling = me.make(&["c"], NewSubConnOptions::new())?;
    dialling.connect();
    stage.run();
    let open = stage.open_connections();
    must!(open == 2, "there must be two connections, not {open}");
    stage.close();
    stage.peer("c", Peer::good());
    stage.pass(10.0);
    let open = stage.open_connections();
    must!(
        open == 0,
        "a closed channel must leave no connection; there are {open}"
    );
    let state = stage.state();
    must!(
        state == State::Shutdown,
        "a closed channel is SHUTDOWN, not {state}"
    );
    Ok(())
}
