//! Picks from several threads, against pickers that are replaced.

use std::sync::{
    Arc, Barrier, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use balancer_api::Picker;

use super::Trial;
use crate::{
    Event, Law, Move, SubId, Violation,
    bench::{all_ready, backend, picker},
    oracle::{Probe, probe},
    profile::Spread,
};

const THREADS: usize = 4;

/// The picker of the moment, with what was READY when it was published.
type Current = Mutex<(Arc<dyn Picker>, Vec<SubId>)>;

/// Whether picks from many threads are as right as picks from one; the number that were made.
pub(crate) fn threads_agree(trial: &Trial, seed: u64) -> Result<usize, Violation> {
    if !trial.laws.has(Law::ThreadsAgree) {
        return Ok(0);
    }
    let broken = |message: String| Violation {
        law: Law::ThreadsAgree,
        message,
    };
    let mut picks = 0;
    if trial.profile.spread == Spread::Exact {
        picks += exact(trial, seed).map_err(broken)?;
    }
    picks += against_rebuilds(trial, seed).map_err(broken)?;
    Ok(picks)
}

/// On one picker every cycle is exact, however many threads pick.
fn exact(trial: &Trial, seed: u64) -> Result<usize, String> {
    let count = 3;
    let world = all_ready(&trial.seeded(seed), count)?;
    let picker = picker(&world)?;
    let mut made = 0;
    for _ in 0..8 {
        // Not whole cycles for each thread, but for all of them together: threads that get the same
        // turns in step would share evenly, too.
        let picks = [400, 400, 400, 399];
        let together = Barrier::new(picks.len());
        let got: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let (shared, picker, together, counts) = (&world.shared, &*picker, &together, &got);
        std::thread::scope(|scope| {
            for each in picks {
                scope.spawn(move || {
                    together.wait();
                    for _ in 0..each {
                        if let Probe::Sub(id) = probe(shared, picker)
                            && let Some(count) = counts.get(id.index())
                        {
                            count.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        let got: Vec<usize> = got.into_iter().map(AtomicUsize::into_inner).collect();
        let total: usize = picks.iter().sum();
        made += total;
        if got.iter().any(|times| *times != total / count) {
            return Err(format!(
                "{} threads made {total} picks, and the shares are {got:?}",
                picks.len()
            ));
        }
    }
    Ok(made)
}

/// While backends come and go, each pick is of one that was READY when its picker was published.
fn against_rebuilds(trial: &Trial, seed: u64) -> Result<usize, String> {
    let count = 3;
    let mut world = all_ready(&trial.seeded(seed), count)?;
    let ready = |world: &crate::World| -> Vec<SubId> {
        let inner = world.shared.lock();
        let ready = inner
            .live
            .iter()
            .filter(|id| inner.subs[id.index()].state == balancer_api::ConnectivityState::Ready);
        ready.copied().collect()
    };
    let current: Current = Mutex::new((picker(&world)?, ready(&world)));
    let stop = AtomicBool::new(false);
    let made = AtomicUsize::new(0);
    let wrong: Mutex<Option<String>> = Mutex::new(None);
    let lazy = trial.profile.lazy;
    let shared = world.shared.clone();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let (picker, ready) = current
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone();
                    for _ in 0..4 {
                        made.fetch_add(1, Relaxed);
                        let message = match probe(&shared, &*picker) {
                            Probe::Sub(id) if !ready.contains(&id) && !lazy => {
                                format!("{} was picked, and was not READY", shared.name_of(id))
                            }
                            Probe::Stranger => "a SubConn of another channel was picked".to_owned(),
                            Probe::Panicked(text) => format!("a pick panicked: {text}"),
                            _ => continue,
                        };
                        wrong
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(message);
                        return;
                    }
                    std::thread::yield_now();
                }
            });
        }
        for round in 0..300 {
            let name = backend(round % count);
            let steps: &[Move] = match (round / count) % 2 {
                0 => &[Move::Lost],
                _ => &[Move::Connecting, Move::Ready],
            };
            for step in steps {
                // What cannot happen now does not: a lazy policy waits for a pick, say.
                let _ = world.apply(&Event::step(*step, name.as_str()));
            }
            if round % 50 == 49 {
                let _ = world.apply(&Event::Again);
            }
            if let Some(picker) = world.picker() {
                let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
                *current = (picker, ready(&world));
            }
        }
        stop.store(true, Relaxed);
    });
    if let Some(message) = world.panic_message() {
        return Err(format!("the policy panicked: {message}"));
    }
    match wrong.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(message) => Err(message),
        None => Ok(made.into_inner()),
    }
}
