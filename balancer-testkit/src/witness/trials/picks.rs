//! The pick loop: what follows each answer of a picker.

use std::{sync::Arc, time::Duration};

use balancer_api::{
    Address, Code, ConnectivityState as State, NewSubConnOptions, SubConn, SubConnHandle,
};

use crate::witness::{
    puppet::{Answer, Ended},
    stage::{Check, Stage, must},
    under_test::{Peer, RpcOptions},
};

/// Codes that only servers may give (gRFC A54).
const SERVERS_OWN: [Code; 7] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::DataLoss,
];

/// A SubConn that no channel has made.
struct MadeUp;

pub(super) fn once_per_picker(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let sub_conn = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Connecting, "one", Answer::Queue);
    let rpcs: Vec<usize> = (0..5).map(|_| stage.fail_fast()).collect();
    stage.pass(5.0);
    stage.must_ask("one", 5, "once by each RPC")?;
    stage.publish(&me, State::Ready, "two", Answer::Pick(sub_conn));
    stage.must_ask("two", 5, "once by each RPC")?;
    for rpc in rpcs {
        stage.must_be_answered(rpc, "by the second picker")?;
    }
    Ok(())
}

pub(super) fn not_ready_waits(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.peer("a", Peer::hanging());
    let sub_conn = me.make(&["a"], NewSubConnOptions::new())?;
    sub_conn.connect();
    stage.run();
    let early = Answer::Pick(sub_conn.clone());
    stage.publish(&me, State::Connecting, "early", early);
    let rpcs = [stage.fail_fast(), stage.wait_for_ready()];
    for rpc in rpcs {
        stage.must_wait(rpc, "since its pick is CONNECTING")?;
    }
    told_of_nothing(stage, "early", 2)?;
    stage.peer("a", Peer::good());
    stage.publish(&me, State::Ready, "late", Answer::Pick(sub_conn));
    for rpc in rpcs {
        stage.must_be_answered(rpc, "once its pick is READY")?;
    }
    Ok(())
}

pub(super) fn removed_waits(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let (gone, good) = (stage.ready(&me, &["a"])?, stage.ready(&me, &["b"])?);
    me.cc.remove_sub_conn(&gone);
    stage.run();
    stage.publish(&me, State::Connecting, "stale", Answer::Pick(gone));
    let rpcs = [stage.fail_fast(), stage.wait_for_ready()];
    for rpc in rpcs {
        stage.must_wait(rpc, "since its pick was removed")?;
    }
    told_of_nothing(stage, "stale", 2)?;
    stage.publish(&me, State::Ready, "fresh", Answer::Pick(good));
    for rpc in rpcs {
        stage.must_be_answered(rpc, "by the next picker's pick")?;
    }
    Ok(())
}

/// Each pick's observers have heard that nothing was sent, and of no error.
fn told_of_nothing(stage: &Stage, picker: &str, times: usize) -> Check {
    let nothing = Ended {
        error: None,
        sent: false,
    };
    let ended = stage.book.ended(picker);
    must!(
        ended == vec![nothing; times],
        "the observers of each pick must be told at once, with nothing sent and no error, not {ended:?}"
    );
    Ok(())
}

pub(super) fn strange_sub_conns(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let strange = SubConn::new(Arc::new(MadeUp));
    stage.publish(&me, State::Ready, "strange", Answer::Pick(strange));
    for rpc in [stage.fail_fast(), stage.wait_for_ready()] {
        let why = "since its pick is no SubConn of this channel, and name the policy";
        stage.must_fail(rpc, Code::Internal, "first", why)?;
    }
    Ok(())
}

pub(super) fn fail_fast(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let outage = Answer::Fail("the house is on fire");
    stage.publish(&me, State::TransientFailure, "outage", outage);
    let rpc = stage.fail_fast();
    let why = "since it fails fast";
    stage.must_fail(rpc, Code::Unavailable, "the house is on fire", why)
}

pub(super) fn wait_for_ready(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let sub_conn = stage.ready(&me, &["a"])?;
    let outage = Answer::Fail("the house is on fire");
    stage.publish(&me, State::TransientFailure, "outage", outage);
    let rpc = stage.wait_for_ready();
    stage.must_wait(rpc, "since it waits for ready")?;
    stage.publish(&me, State::Ready, "good", Answer::Pick(sub_conn));
    stage.must_be_answered(rpc, "once there is something READY")
}

pub(super) fn failed_fails_all(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let failed = Answer::Failed("there is no such thing");
    stage.publish(&me, State::TransientFailure, "failed", failed);
    for rpc in [stage.fail_fast(), stage.wait_for_ready()] {
        let why = "since the policy says that waiting is of no use";
        stage.must_fail(rpc, Code::Unavailable, "there is no such thing", why)?;
    }
    Ok(())
}

pub(super) fn drop_is_final(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let drop = Answer::Drop(Code::ResourceExhausted, "too much");
    stage.publish(&me, State::Ready, "drop", drop);
    for rpc in [stage.fail_fast(), stage.wait_for_ready()] {
        let why = "since it was dropped";
        stage.must_fail(rpc, Code::ResourceExhausted, "too much", why)?;
    }
    stage.must_ask("drop", 2, "since a drop is not tried again")
}

pub(super) fn control_plane_codes(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    for code in SERVERS_OWN {
        let name = format!("drop {code}");
        stage.publish(&me, State::Ready, &name, Answer::Drop(code, "so there"));
        let rpc = stage.fail_fast();
        let why = "since only servers may give the code that the policy gave";
        stage.must_fail(rpc, Code::Internal, "so there", why)?;
    }
    let allowed = Code::PermissionDenied;
    stage.publish(&me, State::Ready, "allowed", Answer::Drop(allowed, "no"));
    let rpc = stage.fail_fast();
    stage.must_fail(rpc, allowed, "no", "since a policy may give that code")
}

pub(super) fn deadline_first(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    let sub_conn = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "picker", Answer::Pick(sub_conn));
    let rpc = stage.rpc(RpcOptions::fail_fast().with_timeout(Duration::ZERO));
    let why = "since its deadline had passed before it began";
    stage.must_fail(rpc, Code::DeadlineExceeded, "", why)?;
    stage.must_ask("picker", 0, "since the RPC was over already")
}

pub(super) fn deadline_ends(stage: &mut Stage) -> Check {
    let me = stage.begin()?;
    stage.publish(&me, State::Connecting, "queue", Answer::Queue);
    let second = Duration::from_secs(1);
    let rpcs = [
        stage.rpc(RpcOptions::fail_fast().with_timeout(second)),
        stage.rpc(RpcOptions::wait_for_ready().with_timeout(second)),
    ];
    stage.pass(0.9);
    for rpc in rpcs {
        stage.must_wait(rpc, "since it has time left")?;
    }
    stage.pass(0.2);
    for rpc in rpcs {
        stage.must_fail(rpc, Code::DeadlineExceeded, "", "since its time is over")?;
    }
    Ok(())
}

// === impl MadeUp ===

impl SubConnHandle for MadeUp {
    fn connect(&self) {}
    fn update_addresses(&self, _: Vec<Address>) {}
}
