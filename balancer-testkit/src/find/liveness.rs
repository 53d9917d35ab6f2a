//! The world turns good: whatever happened before, a policy must find its way to READY.

use std::sync::Arc;

use balancer_api::{Address, ConnectivityState as State, Reconnect};

use crate::{
    Event, List, Move, Profile, SubId, World,
    bench::varied,
    oracle::{Probe, probe},
    profile::Spread,
};

/// How many rounds a policy has; in each, whatever can move for the better does.
const ROUNDS: usize = 60;

/// How many times its calls are answered.
const ANSWERS: usize = 12;

/// Whether the policy becomes READY and picks every good endpoint, once every connection works,
/// every timer fires, RPCs come and the resolver has a good list.
pub(crate) fn turn_good(world: &mut World, profile: &Arc<Profile>) -> Result<(), String> {
    world.release();
    let _ = world.apply(&Event::Update(good_list()));
    let mut missed = None;
    let found = in_rounds(world, improve, |world| {
        if world.state() != Some(State::Ready) || !serves(world, profile) {
            return None;
        }
        match picks_all(world, profile) {
            // The claim is of a time, which has passed: no later round makes it good.
            Ok(()) => Some(uses_the_left_out(world, profile)),
            // It may be about to try again.
            Err(message) => {
                missed = Some(message);
                None
            }
        }
    });
    if let Some(found) = found {
        return found;
    }
    if let Some(message) = missed {
        return Err(message);
    }
    let state = world
        .state()
        .map_or_else(|| "nothing".to_owned(), |state| state.to_string());
    Err(format!(
        "the resolver has a good list, every connection can be made, and the policy reports {state}"
    ))
}

/// Lets the world move with `step` for as long as it can, then answers calls, and asks `is_over`;
/// then RPCs come, the application asks to connect, and the next timer fires. Until it is over, or
/// nothing is left that could happen.
pub(super) fn in_rounds(
    world: &mut World,
    mut step: impl FnMut(&mut World) -> bool,
    mut is_over: impl FnMut(&mut World) -> Option<Result<(), String>>,
) -> Option<Result<(), String>> {
    let mut answers = ANSWERS;
    let mut patience = 4;
    for _ in 0..ROUNDS {
        if world.panic_message().is_some() || world.is_restless() {
            // Another law's affair.
            return Some(Ok(()));
        }
        if step(world) {
            continue;
        }
        if answers > 0 && answer_calls(world) {
            answers -= 1;
            continue;
        }
        let over = is_over(world);
        if over.is_some() {
            return over;
        }
        // RPCs wait, and the application asks to connect.
        world.pick();
        if world.state() == Some(State::Idle) {
            let _ = world.apply(&Event::ExitIdle);
        }
        if world.next_timer().is_some() {
            let _ = world.apply(&Event::Timer);
        } else {
            patience -= 1;
            if patience == 0 {
                break;
            }
        }
    }
    None
}

thread_local! {
    /// Parsed once: this list is given at the end of every script.
    static GOOD: List = List::parse("a b c");
}

pub(super) fn good_list() -> List {
    GOOD.with(Clone::clone)
}

/// Moves every SubConn one step towards READY; whether any moved.
fn improve(world: &mut World) -> bool {
    let steps: Vec<(SubId, Move, Option<Address>)> = {
        let inner = world.shared.lock();
        let steps = inner.live.iter().filter_map(|id| {
            let sub = &inner.subs[id.index()];
            let step = match sub.state {
                State::Idle if sub.asked => Move::Connecting,
                State::Connecting => Move::Ready,
                State::TransientFailure if sub.unhealthy => Move::HealthReady,
                State::TransientFailure if sub.options.reconnect == Reconnect::WhenAsked => {
                    Move::Idle
                }
                State::TransientFailure => Move::Connecting,
                _ => return None,
            };
            Some((*id, step, None))
        });
        steps.collect()
    };
    move_all(world, steps)
}

/// Makes these moves, those of them that are still legal in their turn; whether any was.
pub(super) fn move_all(world: &mut World, steps: Vec<(SubId, Move, Option<Address>)>) -> bool {
    let mut moved = false;
    for (id, step, address) in steps {
        // An earlier step may have made the policy remove this one.
        let removed = world.shared.lock().subs[id.index()].removed;
        if !removed && world.step(None, id, step, address, None).is_ok() {
            moved = true;
            world.happened += 1;
            world.catch_up();
        }
    }
    moved
}

/// Servers answer the policy's calls: headers, an empty message, OK.
pub(crate) fn answer_calls(world: &mut World) -> bool {
    let names: Vec<Arc<str>> = {
        let inner = world.shared.lock();
        let on = inner.calls.iter().filter_map(|call| call.sub);
        on.map(|sub| inner.subs[sub.index()].name.clone()).collect()
    };
    let mut answered = false;
    for name in names {
        let _ = world.apply(&Event::CallHeaders(name.clone()));
        answered |= world
            .apply(&Event::CallMessage(name.clone(), Vec::new()))
            .is_ok();
        let _ = world.apply(&Event::CallEnd(name, balancer_api::Code::Ok));
    }
    answered
}

fn serves(world: &World, profile: &Profile) -> bool {
    let Some(picker) = world.picker() else {
        return false;
    };
    // One that drops may drop this one.
    (0..16).any(|_| match probe(&world.shared, &*picker) {
        Probe::Sub(_) => true,
        Probe::Drop => profile.drops,
        _ => false,
    })
}

/// Whether READY backends that are left out come back when nothing has failed for long enough.
fn uses_the_left_out(world: &mut World, profile: &Profile) -> Result<(), String> {
    // Those that stand by are left out as long as the others serve.
    let longest = profile.leaves_out_for;
    let Some(longest) = longest.filter(|_| profile.fails_over.is_none()) else {
        return Ok(());
    };
    for n in 0..8 {
        let picker = world.picker();
        varied(n, |options| world.pick_from(picker.as_deref(), options)).end(crate::End::Ok);
    }
    let _ = world.apply(&Event::Advance(longest));
    all_are_used(world)
        .map_err(|message| format!("{message}, and for {longest:?} no RPC has failed"))
}

/// RPCs that go on until all have picked, so that a policy that looks for the least busy backend
/// must use them all.
fn picks_all(world: &mut World, profile: &Profile) -> Result<(), String> {
    if profile.sticks_to_one() || profile.selective {
        return Ok(());
    }
    if profile.spread == Spread::Exact {
        // The oracle has seen each of them in every cycle.
        let inner = world.shared.lock();
        let backends = inner.live.iter().map(|id| &inner.subs[id.index()]);
        return match backends.filter(|sub| !sub.lookaside).count() {
            3 => Ok(()),
            count => Err(format!("{count} SubConns live for a list of three")),
        };
    }
    all_are_used(world)
}

fn all_are_used(world: &mut World) -> Result<(), String> {
    let names: Vec<Arc<str>> = {
        let inner = world.shared.lock();
        let backends = inner.live.iter().map(|id| &inner.subs[id.index()]);
        let backends = backends.filter(|sub| !sub.lookaside);
        backends.map(|sub| sub.name.clone()).collect()
    };
    let picker = world.picker();
    let mut missing = names;
    let mut open = Vec::new();
    for n in 0..192 {
        let rpc = varied(n, |options| world.pick_from(picker.as_deref(), options));
        missing.retain(|name| rpc.outcome().name() != Some(name));
        open.push(rpc);
        if missing.is_empty() {
            break;
        }
    }
    for rpc in open {
        rpc.end(crate::End::Ok);
    }
    world.catch_up();
    match missing.first() {
        None => Ok(()),
        Some(name) => Err(format!("{name} is READY and not one of 192 RPCs got it")),
    }
}
