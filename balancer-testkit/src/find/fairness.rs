//! Who gets how much.

use std::time::Duration;

use super::{Trial, done::come_up};
use crate::{
    Event, Law, Move, Violation,
    bench::{all_ready, backend, counts, gather, number, random, varied},
    profile::Spread,
};

/// Starting values next to where counters wrap.
const EDGES: [u64; 10] = [
    0,
    1,
    u64::MAX,
    u64::MAX - 1,
    u64::MAX - 2,
    u32::MAX as u64,
    u32::MAX as u64 - 1,
    u32::MAX as u64 + 1,
    1 << 63,
    (1 << 63) - 1,
];

/// The laws of fairness that the profile claims; the number of picks that were made.
pub(crate) fn fairness(trial: &Trial, seed: u64) -> Result<usize, Violation> {
    let spread = trial.profile.spread;
    let mut picks = 0;
    if spread == Spread::Sticks || trial.profile.selective {
        return Ok(0);
    }
    let broken = |law: Law| move |message: String| Violation { law, message };
    if spread == Spread::Exact && trial.laws.has(Law::ExactCycles) {
        picks += exact(trial).map_err(broken(Law::ExactCycles))?;
    }
    if matches!(spread, Spread::Exact | Spread::Even) {
        if trial.laws.has(Law::FairAcrossPickers) {
            picks += across_pickers(trial, seed).map_err(broken(Law::FairAcrossPickers))?;
        }
        if trial.laws.has(Law::EvenShare) && spread == Spread::Even {
            picks += even(trial, seed).map_err(broken(Law::EvenShare))?;
        }
    }
    if trial.laws.has(Law::EvenShare) && spread == Spread::Some {
        picks += everyone(trial, seed).map_err(broken(Law::EvenShare))?;
    }
    if let Some(longest) = trial.profile.warms_up
        && trial.laws.has(Law::EvenShare)
    {
        picks += newcomer(trial, seed, longest).map_err(broken(Law::EvenShare))?;
    }
    Ok(picks)
}

/// Exact cycles, from starts next to where counters wrap.
fn exact(trial: &Trial) -> Result<usize, String> {
    let mut picks = 0;
    for edge in EDGES {
        for count in [1, 2, 3, 5, 7] {
            let mut edged = trial.clone();
            edged.setup.seed = None;
            edged.setup.random = vec![edge; 64];
            let world = all_ready(&edged, count)?;
            // Each cycle on its own: a slip in one that another makes good is a slip.
            for cycle in 0..4 {
                let mut counts = counts(&world, count)?;
                counts.resize(count, 0);
                picks += count;
                if counts.iter().any(|times| *times != 1) {
                    return Err(format!(
                        "with random numbers that begin at {edge}, cycle {cycle} of {count} backends was {counts:?}"
                    ));
                }
            }
        }
    }
    Ok(picks)
}

/// One backend flaps, so that there is a new picker for every other RPC.
fn across_pickers(trial: &Trial, seed: u64) -> Result<usize, String> {
    const ROUNDS: usize = 600;
    let count = 4;
    let trial = trial.seeded(seed);
    let mut world = all_ready(&trial, count)?;
    let steady = count - 1;
    let flapper = backend(steady);
    let mut got = vec![0usize; count];
    let mut picks = 0;
    for round in 0..ROUNDS {
        let counts = counts(&world, 1 + (random(&world) % 2) as usize)?;
        for (backend, times) in counts.iter().enumerate() {
            if backend < count {
                got[backend] += times;
            }
            picks += times;
        }
        let steps: &[Move] = match round % 2 {
            0 => &[Move::Lost],
            _ => &[Move::Connecting, Move::Ready],
        };
        for step in steps {
            let _ = world.apply(&Event::step(*step, flapper.as_str()));
        }
    }
    // The flapper was there half of the time; the others share the rest. By chance alone a share
    // of `expected` varies by about its root; twice as much again is far outside of it.
    let steady_picks: usize = got[..steady].iter().sum();
    let expected = steady_picks as f64 / steady as f64;
    let slack = 6.0 * expected.sqrt();
    for (backend, times) in got[..steady].iter().enumerate() {
        if (*times as f64 - expected).abs() > slack {
            return Err(format!(
                "while pickers were replaced {ROUNDS} times, backend {backend} got {times} picks of an even share of {expected:.0}: {got:?} (the last one flapped)"
            ));
        }
    }
    Ok(picks)
}

/// χ² over picks of one picker, at several sizes.
fn even(trial: &Trial, seed: u64) -> Result<usize, String> {
    let mut picks = 0;
    for count in [2usize, 3, 7] {
        let total = 600 * count;
        let world = all_ready(&trial.seeded(seed), count)?;
        let mut counts = counts(&world, total)?;
        counts.resize(counts.len().max(count), 0);
        picks += total;
        let expected = total as f64 / count as f64;
        let chi: f64 = counts
            .iter()
            .map(|times| (*times as f64 - expected).powi(2) / expected)
            .sum();
        // Wilson and Hilferty's approximation of the quantile at one in ten million (z = 5.2).
        let freedom = (count - 1) as f64;
        let spread = 2.0 / (9.0 * freedom);
        let limit = freedom * (1.0 - spread + 5.2 * spread.sqrt()).powi(3);
        if chi > limit {
            return Err(format!(
                "seed {seed}: {total} picks went {counts:?}: χ² is {chi:.1}, and {limit:.1} would come once in ten million"
            ));
        }
    }
    Ok(picks)
}

/// Nobody gets nothing, with RPCs that go on.
fn everyone(trial: &Trial, seed: u64) -> Result<usize, String> {
    let count = 5;
    let world = all_ready(&trial.seeded(seed), count)?;
    let picker = world.picker();
    let mut got = vec![0usize; count];
    let mut open = Vec::new();
    let total = 200 * count;
    for n in 0..total {
        let rpc = varied(n, |options| world.pick_from(picker.as_deref(), options));
        let backend = rpc.sub().and_then(|sub| number(&world.shared, sub));
        if let Some(times) = backend.and_then(|backend| got.get_mut(backend)) {
            *times += 1;
        }
        open.push(rpc);
    }
    for rpc in open {
        rpc.end(crate::End::Ok);
    }
    match got.iter().position(|times| *times == 0) {
        Some(backend) => Err(format!(
            "seed {seed}: of {total} RPCs that go on, backend {backend} of {count} got none: {got:?}"
        )),
        None => Ok(total),
    }
}

/// A backend that joins others gets less than its share at first, and its share when it is warm.
fn newcomer(trial: &Trial, seed: u64, longest: Duration) -> Result<usize, String> {
    const TOTAL: usize = 900;
    if trial.profile.lazy {
        return Ok(0);
    }
    let count = 3;
    let mut world = all_ready(&trial.seeded(seed), count - 1)?;
    let _ = world.apply(&Event::Advance(longest));
    let names: Vec<String> = (0..count).map(backend).collect();
    let refused = |refused: crate::Refused| refused.to_string();
    world
        .apply(&Event::Update(crate::List::named(&names)))
        .map_err(refused)?;
    if !come_up(&mut world, &backend(count - 1)) {
        return Err("a backend that joins others is not connected".to_owned());
    }
    let shares = |world: &mut crate::World| {
        let mut got = vec![0usize; count];
        for n in 0..TOTAL {
            let picker = world.picker();
            let rpc = varied(n, |options| world.pick_from(picker.as_deref(), options));
            let backend = rpc.sub().and_then(|sub| number(&world.shared, sub));
            if let Some(times) = backend.and_then(|backend| got.get_mut(backend)) {
                *times += 1;
            }
            rpc.end(crate::End::Ok);
            world.catch_up();
        }
        got
    };
    let fair = TOTAL / count;
    let at_first = shares(&mut world);
    // Nine tenths: by chance alone an even share of 300 is not below 270 more than once in fifty, and
    // one that warms up is far below.
    if at_first[count - 1] * 10 > fair * 9 {
        return Err(format!(
            "seed {seed}: the last of {count} backends has just become READY, and RPCs went {at_first:?}"
        ));
    }
    let _ = world.apply(&Event::Advance(longest));
    gather(&mut world);
    let warm = shares(&mut world);
    if warm[count - 1] * 10 < fair * 7 {
        return Err(format!(
            "seed {seed}: the last of {count} backends has been READY for {longest:?}, and RPCs went {warm:?}"
        ));
    }
    Ok(2 * TOTAL)
}
