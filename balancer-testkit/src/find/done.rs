//! Books that drift: RPCs that end in every possible way, and then a count of who is picked.

use super::{Trial, answer_calls};
use crate::{
    End, Event, Law, Move, Outcome, Violation,
    bench::{all_ready, backend, gather, number, varied},
};

/// How many RPCs end in the same way at one backend.
const TIMES: usize = 100;

/// How many backends there are.
const COUNT: usize = 3;

/// How many RPCs may be open at the others before one must come to it. By chance alone a backend
/// with a tenth of the load is passed over so often once in a billion.
const PASSED_OVER: usize = 200;

/// How many RPCs are open before nobody is expected to make one wait.
const CROWD: usize = 1_000;

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
    for end in [End::NotSent, End::Dropped, End::Error, End::Ok] {
        picks += one_backend(trial, seed, end).map_err(broken)?;
    }
    picks += waiting(trial, seed).map_err(broken)?;
    picks += late(trial, seed).map_err(broken)?;
    picks += later_still(trial, seed).map_err(broken)?;
    picks += joined(trial, seed).map_err(broken)?;
    picks += crowded(trial, seed).map_err(broken)?;
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

/// RPCs to one backend end after another was lost, so that the picker that they came from is old,
/// and what it knew of places in it is no longer so.
fn late(trial: &Trial, seed: u64) -> Result<usize, String> {
    if trial.profile.sticks_to_one() || trial.profile.lazy {
        return Ok(0);
    }
    let count = 3;
    let mut world = all_ready(&trial.seeded(seed), count)?;
    let (first, victim) = (backend(0), backend(count - 1));
    let mut picks = 0;
    for _ in 0..TIMES {
        let picker = world.picker();
        let mut others = Vec::new();
        let mut found = None;
        while found.is_none() && others.len() < PASSED_OVER {
            let rpc = varied(picks, |options| world.pick_from(picker.as_deref(), options));
            picks += 1;
            match *rpc.outcome() == victim {
                true => found = Some(rpc),
                false => others.push(rpc),
            }
        }
        end_all(others);
        let _ = world.apply(&Event::step(Move::Lost, first.as_str()));
        end_all(found);
        world.catch_up();
        if !come_back(&mut world, &first) {
            return Ok(picks);
        }
    }
    let after = format!("{TIMES} RPCs at one backend ended while another was away");
    picks += used_alike(&mut world, trial, count, &after)?;
    Ok(picks)
}

/// As [`late`], with many RPCs at once, which see a backend lost.
fn later_still(trial: &Trial, seed: u64) -> Result<usize, String> {
    // The last one only: books that are lost for all alike look right again.
    let last = backend(COUNT - 1);
    while_many_are_open(
        trial,
        seed,
        "a backend was lost and came back",
        COUNT,
        |world| {
            let _ = world.apply(&Event::step(Move::Lost, last.as_str()));
            come_back(world, &last)
        },
    )
}

/// As [`later_still`], and what changes meanwhile is that another backend joins: nothing else does
/// between the ends and the count.
fn joined(trial: &Trial, seed: u64) -> Result<usize, String> {
    let names: Vec<String> = (0..=COUNT).map(backend).collect();
    while_many_are_open(trial, seed, "another backend joined", COUNT + 1, |world| {
        let _ = world.apply(&Event::Update(crate::List::named(&names)));
        come_back(world, &names[COUNT])
    })
}

/// RPCs are open at every backend while `change` happens; then they end, and those that go on must
/// use each of so many. Nothing is judged when `change` did not come about.
fn while_many_are_open(
    trial: &Trial,
    seed: u64,
    what: &str,
    then: usize,
    change: impl FnOnce(&mut crate::World) -> bool,
) -> Result<usize, String> {
    if trial.profile.sticks_to_one() || trial.profile.lazy {
        return Ok(0);
    }
    let mut world = all_ready(&trial.seeded(seed), COUNT)?;
    let picker = world.picker();
    let total = TIMES * COUNT;
    let open: Vec<_> = (0..total)
        .map(|n| varied(n, |options| world.pick_from(picker.as_deref(), options)))
        .collect();
    drop(picker);
    let has_changed = change(&mut world);
    end_all(open);
    world.catch_up();
    if !has_changed {
        return Ok(total);
    }
    let after = format!("{total} RPCs ended after {what}");
    Ok(total + used_alike(&mut world, trial, then, &after)?)
}

fn end_all(rpcs: impl IntoIterator<Item = crate::Rpc>) {
    for rpc in rpcs {
        rpc.end(End::Ok);
    }
}

/// Whether the backend is READY again, and used as far as answers and near timers decide it.
fn come_back(world: &mut crate::World, name: &str) -> bool {
    let is_ready = come_up(world, name);
    if is_ready {
        // A policy may want answers before it uses a backend, and gather news.
        answer_calls(world);
        gather(world);
    }
    is_ready
}

/// Whether the backend is READY.
pub(super) fn come_up(world: &mut crate::World, name: &str) -> bool {
    for _ in 0..4 {
        world.catch_up();
        for step in [Move::Connecting, Move::Ready] {
            // A policy may make a new SubConn, or take its time.
            let _ = world.apply(&Event::step(step, name));
        }
        let steps = world.legal_steps();
        if steps
            .iter()
            .any(|(of, step)| **of == *name && *step == Move::Lost)
        {
            return true;
        }
        let _ = world.apply(&Event::Wake);
    }
    false
}

/// An RPC that waits because all are busy is picked again when they are no longer.
fn crowded(trial: &Trial, seed: u64) -> Result<usize, String> {
    let count = if trial.profile.sticks_to_one() { 1 } else { 3 };
    let mut world = all_ready(&trial.seeded(seed), count)?;
    let mut open = Vec::new();
    let picker = world.picker();
    for n in 0..CROWD {
        let rpc = varied(n, |options| world.pick_from(picker.as_deref(), options));
        let picked = matches!(rpc.outcome(), Outcome::SubConn { .. });
        let waits = matches!(rpc.outcome(), Outcome::Queue);
        if picked {
            open.push(rpc);
        }
        if waits {
            break;
        }
    }
    let picks = open.len();
    if picks == 0 || picks == CROWD {
        return Ok(picks);
    }
    end_all(open);
    world.catch_up();
    let same = match (&picker, world.picker()) {
        (Some(old), Some(new)) => std::sync::Arc::ptr_eq(old, &new),
        _ => false,
    };
    // What waits is picked by the next picker, and by no other.
    if same && world.next_timer().is_none() {
        return Err(format!(
            "with {picks} RPCs open one more waits; they have ended, and no picker was published for it"
        ));
    }
    Ok(picks)
}

fn used_alike(
    world: &mut crate::World,
    trial: &Trial,
    count: usize,
    after: &str,
) -> Result<usize, String> {
    gather(world);
    if let Some(longest) = trial.profile.warms_up {
        let _ = world.apply(&Event::Advance(longest));
    }
    // It may hold back what is new until a timer says otherwise.
    let mut timers = if trial.profile.may_hold_all { 8 } else { 0 };
    while timers > 0 && world.apply(&Event::Timer).is_ok() {
        timers -= 1;
    }
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
