//! Which policy works, and how the next one takes its place.

use std::sync::{Arc, Mutex};

use balancer_api::{Code, ConnectivityState as State};

use crate::witness::{
    lock,
    puppet::{Answer, Instance, Told},
    stage::{Check, Stage, must},
};

const SECOND: &[(&str, &str)] = &[("second", "{}")];
const INVALID: &str = r#"{"invalid":true}"#;

pub(super) fn first_known_chosen(stage: &mut Stage) -> Check {
    let config = r#"{"n":1}"#;
    let list = [("nobody", "{}"), ("second", config), ("first", INVALID)];
    stage.resolve_with(&["a"], &list);
    let second = stage.second.instance()?;
    let heard = second.count(|told| told_config(told, config));
    must!(heard == 1, "the policy must be told its config");
    let first = stage.first.built();
    must!(first == 0, "later entries must not be looked at");
    Ok(())
}

pub(super) fn first_known_decides(stage: &mut Stage) -> Check {
    let list = [("nobody", "{}"), ("second", INVALID), ("first", "{}")];
    stage.resolve_with(&["a"], &list);
    let built = (stage.first.built(), stage.second.built());
    must!(
        built == (0, 0),
        "the first known policy's config is invalid, so no policy must be built: {built:?}"
    );
    for rpc in [stage.fail_fast(), stage.wait_for_ready()] {
        let why = "since the service config is invalid";
        stage.must_fail(rpc, Code::Unavailable, "", why)?;
    }
    Ok(())
}

pub(super) fn same_policy_kept(stage: &mut Stage) -> Check {
    let configs = [r#"{"n":1}"#, r#"{"n":2}"#];
    for config in configs {
        stage.resolve_with(&["a"], &[("first", config)]);
    }
    let built = stage.first.built();
    must!(
        built == 1,
        "the policy must be built once, not {built} times"
    );
    let me = stage.first.instance()?;
    for config in configs {
        let heard = me.count(|told| told_config(told, config));
        must!(heard == 1, "the policy must be told of {config} once");
    }
    must!(!me.is_closed(), "the policy must not be closed");
    Ok(())
}

pub(super) fn bad_config_kept(stage: &mut Stage) -> Check {
    stage.resolve_with(&["a"], &[("first", "{}")]);
    let me = stage.first.instance()?;
    let a = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "good", Answer::Pick(a));
    stage.resolve_with(&["b"], &[("nobody", "{}")]);
    let heard = me.count(|told| matches!(told, Told::Addresses(list, _) if list == &["b"]));
    must!(
        heard == 1,
        "the addresses beside an invalid config must be delivered"
    );
    must!(
        stage.first.built() == 1 && !me.is_closed(),
        "the policy must go on"
    );
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "since the last good config stands")
}

pub(super) fn bad_first(stage: &mut Stage) -> Check {
    stage.resolve_with(&["a"], &[("nobody", "{}")]);
    for rpc in [stage.fail_fast(), stage.wait_for_ready()] {
        let why = "since the first service config is invalid";
        stage.must_fail(rpc, Code::Unavailable, "", why)?;
    }
    let state = stage.state();
    must!(
        state == State::TransientFailure,
        "the channel must be in TRANSIENT_FAILURE, not {state}"
    );
    stage.resolve_with(&["a"], &[("first", "{}")]);
    let me = stage.first.instance()?;
    let a = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "good", Answer::Pick(a));
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "once the config is right")
}

pub(super) fn switch_gracefully(stage: &mut Stage) -> Check {
    let (me, next) = switching(stage)?;
    must!(
        !me.is_closed(),
        "the old policy must serve until the new one can"
    );
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "by the old policy: the new one has said nothing")?;
    stage.publish(&next, State::Connecting, "not yet", Answer::Queue);
    must!(
        !me.is_closed(),
        "the old policy must serve while the new one connects"
    );
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "by the old policy: the new one is CONNECTING")?;
    stage.must_ask("not yet", 0, "since nobody may meet it yet")?;
    // When the old one is closed, the new one's word is the channel's.
    let seen: Arc<Mutex<Vec<State>>> = Arc::default();
    let (keep, reader) = (seen.clone(), stage.state_reader());
    stage.first.on(move |_, told| {
        if let Told::Close = told {
            lock(&keep).push(reader());
        }
    });
    let outage = Answer::Fail("the new one's outage");
    stage.publish(&next, State::TransientFailure, "new", outage);
    let seen = lock(&seen).clone();
    must!(
        seen == [State::TransientFailure],
        "when the old policy is closed, the new one's state must be published: {seen:?}"
    );
    let rpc = stage.fail_fast();
    let why = "since the new policy says so";
    stage.must_fail(rpc, Code::Unavailable, "", why)?;
    stage.must_ask("new", 1, why)
}

pub(super) fn switch_at_once(stage: &mut Stage) -> Check {
    let (me, next) = switching(stage)?;
    stage.publish(&next, State::Connecting, "new", Answer::Queue);
    let outage = Answer::Fail("the old one's outage");
    stage.publish(&me, State::TransientFailure, "outage", outage);
    must!(
        me.is_closed() && !next.is_closed(),
        "the new policy must take over when the old one is not READY"
    );
    let rpc = stage.fail_fast();
    stage.must_wait(rpc, "since the new policy is CONNECTING")?;
    let asked = stage.book.asked("new");
    must!(asked > 0, "the new policy's picker must be asked");
    Ok(())
}

pub(super) fn newest_hears(stage: &mut Stage) -> Check {
    let (me, next) = switching(stage)?;
    me.forget();
    next.forget();
    stage.resolve_with(&["b"], SECOND);
    stage.resolver_fails("the name server is down");
    let hears = |told: &Told| matches!(told, Told::Addresses(..) | Told::ResolverError(_));
    let heard = (me.count(hears), next.count(hears));
    must!(
        heard == (0, 2),
        "list and error must go to the new policy only: {heard:?}"
    );
    Ok(())
}

pub(super) fn pending_replaced(stage: &mut Stage) -> Check {
    let (me, next) = switching(stage)?;
    stage.resolve_with(&["a"], &[("third", "{}")]);
    let third = stage.third.instance()?;
    must!(
        next.is_closed() && !me.is_closed(),
        "a third policy must replace the second, and leave the first alone"
    );
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "by the policy at work")?;
    stage.resolve_with(&["a"], &[("first", "{}")]);
    must!(
        third.is_closed() && !me.is_closed() && stage.first.built() == 1,
        "back to the policy at work, the other must be closed and nothing built"
    );
    let rpc = stage.fail_fast();
    stage.must_be_answered(rpc, "by the policy at work")
}

/// The first policy serves with the picker `old`; the second was built and has said nothing.
fn switching(stage: &mut Stage) -> Result<(Arc<Instance>, Arc<Instance>), String> {
    let me = stage.begin()?;
    let a = stage.ready(&me, &["a"])?;
    stage.publish(&me, State::Ready, "old", Answer::Pick(a));
    stage.resolve_with(&["a"], SECOND);
    let next = stage.second.instance()?;
    Ok((me, next))
}

fn told_config(told: &Told, config: &str) -> bool {
    matches!(told, Told::Addresses(_, Some(json)) if json == config)
}
