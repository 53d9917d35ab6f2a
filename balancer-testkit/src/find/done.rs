//! Books that drift: RPCs that end in every possible way, and then a count of who is picked.

use super::{Trial, answer_calls};
use crate::{
    End, Event, Law, Move, Outcome, Violation,
    bench::{all_ready, backend, number, varied},
};

/// How many RPCs end in the same way at one backend.
const TIMES: usize = 100;

/// How many RPCs may be open at the others before one must come to it. By chance alone a backend
/// with a tenth of the load is passed over so often once in a billion.
const PASSED_OVER: usize = 200;

/// Whether every backend keeps its share, however RPCs end; the number of picks that were made.
pub(crate) fn done_keeps_books(trial: &Trial, seed: u64) -> Result<usize, Violation> {
    if !trial.laws.has(Law::DoneKeepsBooks) {
        return Ok(0);
    }
    let broken = |message: String| Violation {
        law: Law::DoneKeepsBooks,
        message,
    };
    let mut picks = 0;
    for end in [End::NotSent, End::Dropped, End::Ok] {
        picks += one_backend(trial, seed, end).map_err(broken)?;
    }
    picks += waiting(trial, seed).map_err(broken)?;
    Ok(picks)
}

/// RPCs to one backend end as `end`, all others with OK; then RPCs that go on must use them all.
fn one_backend(trial: &Trial, seed: u64, end: End) -> Result<usize, String> {
    let count = if trial.profile.sticks_to_one() { 1 } else { 3 };
    let mut world = all_ready(&trial.seeded(seed), count)?;
    let mut picks = 0;
    let victim = backend(0);
    for time in 0..TIMES {
        let picker = world.picker();
        let mut others = Vec::new();
        // Others go on meanwhile, so that a policy that looks for the least busy comes to it.
        loop {
            let rpc = varied(picks, |options| world.pick_from(picker.as_deref(), options));
            picks += 1;
            if *rpc.outcome() == victim {
                if rpc.end(end) > 0 {
                    return Err("an observer panicked".to_owned());
                }
                break;
            }
            others.push(rpc);
            if others.len() > PASSED_OVER {
                if trial.profile.selective || trial.profile.sticks_to_one() {
                    break;
                }
                return Err(format!(
                    "{time} RPCs at one backend ended as {end:?}; since then {PASSED_OVER} RPCs are open at the others and none comes to it"
                ));
            }
        }
        for rpc in others {
            rpc.end(End::Ok);
        }
        world.catch_up();
    }
    picks += used_alike(
        &mut world,
        trial,
        count,
        &format!("{TIMES} RPCs at one backend ended as {end:?}"),
    )?;
    Ok(picks)
}

/// Picks that gave no SubConn are nobody's load.
fn waiting(trial: &Trial, seed: u64) -> Result<usize, String> {
    if trial.profile.sticks_to_one() {
        return Ok(0);
    }
    let count = 3;
    let (mut world, _) = trial.seeded(seed).world();
    world.watcher = None;
    let names: Vec<String> = (0..count).map(backend).collect();
    let refused = |refused: crate::Refused| refused.to_string();
    world
        .apply(&Event::Update(crate::List::named(&names)))
        .map_err(refused)?;
    let mut picks = 0;
    let mut hammer = |world: &mut crate::World| {
        for _ in 0..TIMES {
            world.pick();
            picks += 1;
        }
    };
    hammer(&mut world);
    for name in &names {
        for step in [Move::Connecting, Move::Failed] {
            let _ = world.apply(&Event::step(step, name.as_str()));
            hammer(&mut world);
        }
    }
    for name in &names {
        for step in [Move::Idle, Move::Connecting, Move::Ready] {
            let _ = world.apply(&Event::step(step, name.as_str()));
        }
        hammer(&mut world);
    }
    // A policy may want answers before it uses a backend.
    for _ in 0..8 {
        answer_calls(&mut world);
    }
    picks += used_alike(&mut world, trial, count, "picks that waited or failed")?;
    Ok(picks)
}

fn used_alike(
    world: &mut crate::World,
    trial: &Trial,
    count: usize,
    after: &str,
) -> Result<usize, String> {
    let picker = world.picker();
    let total = 12 * count;
    let rpcs: Vec<_> = (0..total)
        .map(|n| varied(n, |options| world.pick_from(picker.as_deref(), options)))
        .collect();
    let mut got = vec![0; count];
    for rpc in &rpcs {
        match rpc.outcome() {
            Outcome::SubConn { .. } => {
                let backend = rpc.sub().and_then(|sub| number(&world.shared, sub));
                if let Some(times) = backend.and_then(|backend| got.get_mut(backend)) {
                    *times += 1;
                }
            }
            Outcome::Drop(..) if trial.profile.drops => {}
            other => return Err(format!("after {after}, a pick says {other}")),
        }
    }
    let unused = got.iter().position(|times| *times == 0);
    match unused {
        Some(backend) if !trial.profile.selective && !trial.profile.sticks_to_one() => {
            Err(format!(
                "after {after}, of {total} RPCs that go on backend {backend} got none: {got:?}"
            ))
        }
        _ => Ok(total),
    }
}
