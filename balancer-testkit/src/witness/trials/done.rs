//! The observers of a pick: told once, in time, and the truth.

use std::time::Duration;

use balancer_api::{ConnectivityState as State, NewSubConnOptions};

use crate::witness::{
    puppet::{Answer, Ended},
    stage::{Check, Stage, must},
    under_test::{Ending, Peer, RpcOptions, Serve},
};

const SLOW: Duration = Duration::from_secs(10);

/// The count is taken when the channel has been closed.
pub(super) fn once(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let sub_conn = stage.ready(&me, &["a"])?;
    let idle = me.make(&["b"], NewSubConnOptions::new())?;
    stage.publish(&me, State::Ready, "good", Answer::Pick(sub_conn.clone()));
    for _ in 0..3 {
        stage.fail_fast();
    }
    stage.must_ask("good", 3, "once by each RPC")?;
    me.cc.remove_sub_conn(&idle);
    stage.run();
    stage.publish(&me, State::Ready, "stale", Answer::Pick(idle));
    stage.wait_for_ready();
    let cancelled = stage.fail_fast();
    stage.cancel(cancelled);
    stage.publish(&me, State::Ready, "again", Answer::Pick(sub_conn));
    Ok(())
}

pub(super) fn once_however(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let slow = Peer::serving(Serve::AnswerAfter(SLOW));
    for address in ["a", "b", "c"] {
        stage.peer(address, slow);
    }
    let a = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "slow", Answer::Pick(a.clone()));
    let cancelled = stage.fail_fast();
    stage.rpc(RpcOptions::fail_fast().with_timeout(Duration::from_secs(1)));
    stage.fail_fast();
    stage.cancel(cancelled);
    stage.pass(20.0);
    stage.must_ask("slow", 3, "once by each RPC")?;
    for serve in [Serve::Refuse, Serve::BreakAfterHeaders] {
        stage.peer("a", Peer::serving(serve));
        stage.fail_fast();
        stage.pass(1.0);
    }
    stage.peer("a", Peer::serving(Serve::NoStream));
    stage.peer("b", Peer::serving(Serve::NoStream));
    let b = stage.ready(&me, &["b"])?;
    stage.publish(&me, State::Ready, "full", Answer::Pick(b));
    let unopened = stage.fail_fast();
    stage.pass(1.0);
    stage.must_wait(unopened, "for a stream")?;
    stage.end("b", Ending::Reset);
    let c = stage.ready(&me, &["c"])?;
    stage.publish(&me, State::Ready, "slow too", Answer::Pick(c));
    stage.fail_fast();
    stage.pass(1.0);
    // One is in flight when the channel is closed.
    Ok(())
}

pub(super) fn in_time(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.peer("a", Peer::serving(Serve::NoStream));
    let (a, b) = (stage.ready(&me, &["a"])?, stage.ready(&me, &["b"])?);
    let turns = Answer::InTurn(vec![a, b]);
    stage.publish(&me, State::Ready, "turns", turns);
    let rpc = stage.fail_fast();
    stage.must_wait(rpc, "for a stream")?;
    stage.pass(2.0);
    stage.end("a", Ending::Reset);
    stage.pass(1.0);
    let order = stage.book.order();
    let right = ["asks turns", "done turns", "asks turns"];
    must!(
        order.len() >= 3 && order[..3] == right,
        "the observers must be told of the first attempt before the second pick: {order:?}"
    );
    Ok(())
}

pub(super) fn says_true(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let a = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "good", Answer::Pick(a));
    stage.fail_fast();
    let right = Ended {
        error: None,
        sent: true,
    };
    let ended = stage.book.ended("good");
    must!(
        ended == [right],
        "an RPC that was answered was sent and has no error: {ended:?}"
    );
    stage.peer("b", Peer::serving(Serve::NoStream));
    stage.peer("c", Peer::serving(Serve::AnswerAfter(SLOW)));
    let (b, c) = (stage.ready(&me, &["b"])?, stage.ready(&me, &["c"])?);
    stage.publish(&me, State::Ready, "unsent", Answer::Pick(b));
    stage.fail_fast();
    stage.publish(&me, State::Ready, "lost", Answer::Pick(c));
    stage.fail_fast();
    stage.pass(2.0);
    stage.end("b", Ending::Reset);
    stage.end("c", Ending::Reset);
    for (picker, sent) in [("unsent", false), ("lost", true)] {
        let ended = stage.book.ended(picker);
        let first = ended.first();
        must!(
            first.is_some_and(|ended| ended.error.is_some() && ended.sent == sent),
            "an RPC whose connection broke failed, and was {}sent: {ended:?}",
            if sent { "" } else { "not " }
        );
    }
    Ok(())
}
