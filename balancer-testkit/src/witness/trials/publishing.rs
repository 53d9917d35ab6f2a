//! From the policy's word to the RPCs that wait for it.

use std::sync::{Arc, Mutex};

use balancer_api::ConnectivityState as State;

use crate::witness::{
    lock,
    puppet::Answer,
    stage::{Check, Stage, must},
    under_test::RpcOptions,
};

pub(super) fn published_together(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let sub_conn = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Connecting, "before", Answer::Queue);
    let state = stage.state();
    must!(
        state == State::Connecting,
        "what the policy reports must be the channel's state, not {state}"
    );
    let waiting = stage.fail_fast();
    stage.must_wait(waiting, "since its picker told it so")?;
    let asked = stage.book.asked("before");
    let rpc = stage.rpc(RpcOptions::fail_fast().with_when(State::Ready));
    stage.must_wait(rpc, "until the channel is READY")?;
    let (seen, reader) = (Arc::new(Mutex::new(Vec::new())), stage.state_reader());
    let keep = seen.clone();
    let look = Arc::new(move || {
        let state = reader();
        lock(&keep).push(state);
        format!("the channel is {state}")
    });
    me.publish_looking(State::Ready, "good", Answer::Pick(sub_conn), Some(look));
    stage.run();
    stage.must_be_answered(
        rpc,
        "since it has seen READY and must meet the picker of it",
    )?;
    stage.must_be_answered(waiting, "by the picker that came with READY")?;
    stage.must_ask("before", asked, "as before READY and never again")?;
    let seen = lock(&seen).clone();
    must!(
        seen == [State::Ready, State::Ready],
        "who is asked as a picker of READY must find the channel READY, not {seen:?}"
    );
    Ok(())
}

pub(super) fn picker_wakes(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let sub_conn = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Connecting, "one", Answer::Queue);
    let rpcs = [stage.fail_fast(), stage.wait_for_ready(), stage.fail_fast()];
    for rpc in rpcs {
        stage.must_wait(rpc, "since its picker told it so")?;
    }
    stage.publish(&me, State::Connecting, "two", Answer::Queue);
    stage.must_ask("two", 3, "since it is new, though the state is the same")?;
    stage.publish(&me, State::Ready, "three", Answer::Pick(sub_conn));
    for rpc in rpcs {
        stage.must_be_answered(rpc, "once there is a picker that has something")?;
    }
    Ok(())
}

pub(super) fn shutdown_ignored(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let sub_conn = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "good", Answer::Pick(sub_conn));
    stage.publish(&me, State::Shutdown, "bad", Answer::Failed("shut down"));
    let state = stage.state();
    must!(
        state == State::Ready,
        "a policy must not shut the channel down; it is {state}"
    );
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "by the picker that counts")?;
    stage.must_ask("bad", 0, "since it came with SHUTDOWN")
}
