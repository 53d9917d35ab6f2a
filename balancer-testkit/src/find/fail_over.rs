//! A world in which one backend alone is good: a policy that fails over must turn to it.

use std::{collections::BTreeSet, sync::Arc};

use balancer_api::{Address, ConnectivityState as State, Reconnect};

use super::{
    Trial,
    liveness::{good_list, in_rounds, move_all, turn_good},
};
use crate::{
    Event, Move, SubId, World,
    oracle::{Probe, probe},
    profile::FailOver,
};

/// RPCs that must all go to one backend.
const FEW: usize = 16;

/// RPCs of which each of three backends gets one, whoever chooses: by chance alone one of three is
/// passed over so often once in ten thousand million million million.
const MANY: usize = 128;

/// How the other backends fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Refuse,
    NeverAnswer,
}

/// Whether the policy becomes READY with the one backend that can be reached. Which one that is, and
/// how the others fail, differs from script to script.
pub(crate) fn turn_partly_good(world: &mut World) -> Result<(), String> {
    world.release();
    let turn = world.happened;
    let good = ["a", "b", "c"][turn % 3];
    let others = [Others::Refuse, Others::NeverAnswer][turn / 3 % 2];
    let _ = world.apply(&Event::Update(good_list()));
    let found = in_rounds(
        world,
        |world| move_on(world, good, others),
        |world| {
            let serves = world.state() == Some(State::Ready);
            let only = BTreeSet::from([good.into()]);
            (serves && picked(world, FEW) == only).then_some(Ok(()))
        },
    );
    if let Some(found) = found {
        return found;
    }
    let state = world
        .state()
        .map_or_else(|| "nothing".to_owned(), |state| state.to_string());
    let how = match others {
        Others::Refuse => "refuse",
        Others::NeverAnswer => "never answer",
    };
    Err(format!(
        "of a, b and c only {good} can be reached, the others {how}, every timer has fired, and the policy reports {state} and picks {:?}",
        picked(world, FEW)
    ))
}

/// Whether a policy that goes back has done so: in a world that has turned good it must pick what a
/// new one picks.
pub(crate) fn has_gone_back(trial: &Trial, world: &mut World) -> Result<(), String> {
    if trial.profile.fails_over != Some(FailOver::Returns) {
        return Ok(());
    }
    let preferred = trial.preferred.get_or_init(|| {
        let mut world = World::with_config(
            trial.builder.clone(),
            trial.setup.clone(),
            trial.config.clone(),
        );
        // What does not work at all is the affair of liveness.
        let _ = turn_good(&mut world, &trial.profile);
        picked(&mut world, MANY)
    });
    let mut now = picked(world, MANY);
    // It may wait a while before it trusts what is back.
    for _ in 0..8 {
        if now == *preferred || world.apply(&Event::Timer).is_err() {
            break;
        }
        let _ = turn_good(world, &trial.profile);
        now = picked(world, MANY);
    }
    if now == *preferred {
        return Ok(());
    }
    Err(format!(
        "a, b and c can be reached again, and RPCs go to {now:?}; those of a new policy go to {preferred:?}"
    ))
}

/// Where so many RPCs go.
fn picked(world: &mut World, count: usize) -> BTreeSet<Arc<str>> {
    let mut picked = BTreeSet::new();
    if let Some(picker) = world.picker() {
        for _ in 0..count {
            if let Probe::Sub(id) = probe(&world.shared, &*picker) {
                let inner = world.shared.lock();
                let sub = &inner.subs[id.index()];
                let at = sub.connected.as_ref().map(|at| at.addr());
                picked.insert(at.unwrap_or(&sub.name).into());
            }
        }
    }
    world.catch_up();
    picked
}

/// Moves every SubConn one step; whether any moved.
fn move_on(world: &mut World, good: &str, others: Others) -> bool {
    let steps: Vec<(SubId, Move, Option<Address>)> = {
        let inner = world.shared.lock();
        let steps = inner.live.iter().filter_map(|id| {
            let sub = &inner.subs[id.index()];
            let at = |address: &&Address| address.addr() == good;
            let good_address = sub.addresses.iter().find(at);
            let is_good = good_address.is_some();
            let step = match sub.state {
                State::Idle if sub.asked => Move::Connecting,
                State::Connecting if is_good => Move::Ready,
                State::Connecting if others == Others::Refuse => Move::Failed,
                State::Ready if sub.connected.as_ref() != good_address => Move::Lost,
                State::TransientFailure if sub.unhealthy && is_good => Move::HealthReady,
                State::TransientFailure if sub.unhealthy => Move::Lost,
                // The back-off of those that refuse lasts.
                State::TransientFailure if !is_good && others == Others::Refuse => return None,
                State::TransientFailure if sub.options.reconnect == Reconnect::WhenAsked => {
                    Move::Idle
                }
                State::TransientFailure => Move::Connecting,
                _ => return None,
            };
            let address = good_address.filter(|_| step == Move::Ready);
            Some((*id, step, address.cloned()))
        });
        steps.collect()
    };
    move_all(world, steps)
}
