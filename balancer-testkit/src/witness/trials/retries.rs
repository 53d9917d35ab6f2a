//! What is tried again, and what must not be.

use std::time::Duration;

use balancer_api::{Code, ConnectivityState as State};

use crate::witness::{
    puppet::Answer,
    stage::{Check, Stage, must},
    under_test::{Ending, Peer, Serve, words},
};

pub(super) fn unsent_retried(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    for address in ["a", "b"] {
        stage.peer(address, Peer::serving(Serve::NoStream));
    }
    let (a, b) = (stage.ready(&me, &["a"])?, stage.ready(&me, &["b"])?);
    let c = stage.ready(&me, &["c"])?;
    let turns = Answer::InTurn(vec![a, b, c]);
    stage.publish(&me, State::Ready, "turns", turns);
    let rpc = stage.fail_fast();
    stage.pass(2.0);
    for address in ["a", "b"] {
        stage.must_wait(rpc, "for a stream")?;
        stage.end(address, Ending::Reset);
        stage.pass(1.0);
    }
    stage.must_be_answered(rpc, "since it had not left before the third attempt")
}

pub(super) fn refused_once(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    for address in ["a", "b"] {
        stage.peer(address, Peer::serving(Serve::Refuse));
    }
    let (a, b) = (stage.ready(&me, &["a"])?, stage.ready(&me, &["b"])?);
    let c = stage.ready(&me, &["c"])?;
    let turns = Answer::InTurn(vec![a.clone(), c.clone()]);
    stage.publish(&me, State::Ready, "kind", turns);
    let rpc = stage.fail_fast();
    stage.pass(1.0);
    stage.must_be_answered(rpc, "by the second server, since the first had refused it")?;
    let turns = Answer::InTurn(vec![a, b, c]);
    stage.publish(&me, State::Ready, "harsh", turns);
    let rpc = stage.fail_fast();
    stage.pass(1.0);
    let why = "since it was refused twice";
    stage.must_fail(rpc, Code::Unavailable, "", why)?;
    stage.must_ask("harsh", 2, "since there is one second chance")
}

pub(super) fn not_after_headers(stage: &mut Stage) -> Check {
    not_again(stage, Serve::BreakAfterHeaders, None)
}

pub(super) fn not_when_it_may_have_run(stage: &mut Stage) -> Check {
    let hour = Duration::from_secs(3_600);
    not_again(stage, Serve::AnswerAfter(hour), Some(Ending::Reset))
}

fn not_again(stage: &mut Stage, serve: Serve, ending: Option<Ending>) -> Check {
    let me = stage.begin()?;
    stage.peer("a", Peer::serving(serve));
    let (a, b) = (stage.ready(&me, &["a"])?, stage.ready(&me, &["b"])?);
    let turns = Answer::InTurn(vec![a, b]);
    stage.publish(&me, State::Ready, "turns", turns);
    let rpc = stage.fail_fast();
    stage.pass(2.0);
    if let Some(how) = ending {
        stage.end("a", how);
    }
    stage.pass(2.0);
    stage.must_ask("turns", 1, "since the server's application may have run it")?;
    let outcome = stage.outcome(rpc);
    must!(
        matches!(outcome, Some(Err(_))),
        "the RPC must fail; it {}",
        words(&outcome)
    );
    Ok(())
}
