//! Benches in the old sense: a policy fixed in place, with n backends READY, to be measured at.

use std::sync::Arc;

use balancer_api::{Picker, Source};

use crate::{
    Event, Move, SubId, World,
    conn::Shared,
    find::{Trial, answer_calls},
    oracle::{Probe, probe},
};

/// A world with `count` backends READY, or why there is none.
pub(crate) fn all_ready(trial: &Trial, count: usize) -> Result<World, String> {
    let names: Vec<String> = (0..count).map(backend).collect();
    let (mut world, _) = trial.world();
    world.watcher = None;
    let list = crate::List::named(&names);
    let refused = |refused: crate::Refused| refused.to_string();
    world.apply(&Event::Update(list)).map_err(refused)?;
    for _ in 0..8 {
        let steps: Vec<Event> = {
            let steps = world.legal_steps().into_iter();
            let good = steps.filter(|(_, step)| matches!(step, Move::Connecting | Move::Ready));
            good.map(|(name, step)| Event::Step(step, name, None))
                .collect()
        };
        // A policy may want answers before it uses a backend.
        if steps.is_empty() && !answer_calls(&mut world) {
            break;
        }
        for step in steps {
            // A policy that sticks to one may have removed this SubConn meanwhile.
            let _ = world.apply(&step);
        }
    }
    Ok(world)
}

/// The name of backend `n`.
pub(crate) fn backend(n: usize) -> String {
    format!("s{n}")
}

/// Which backend a SubConn is for, by its name: SubConns may be made in any order.
pub(crate) fn number(shared: &Shared, id: SubId) -> Option<usize> {
    shared.name_of(id).strip_prefix('s')?.parse().ok()
}

/// The current picker.
pub(crate) fn picker(world: &World) -> Result<Arc<dyn Picker>, String> {
    world
        .picker()
        .ok_or_else(|| "nothing was published".to_owned())
}

/// Where `picks` picks go, by backend; `Err` for one that goes nowhere.
pub(crate) fn counts(world: &World, picks: usize) -> Result<Vec<usize>, String> {
    let picker = picker(world)?;
    let mut counts = Vec::new();
    for _ in 0..picks {
        match probe(&world.shared, &*picker) {
            Probe::Sub(id) => {
                let backend = number(&world.shared, id).unwrap_or(0);
                if counts.len() <= backend {
                    counts.resize(backend + 1, 0);
                }
                counts[backend] += 1;
            }
            Probe::Drop => {}
            other => return Err(format!("all are READY and a pick says {other:?}")),
        }
    }
    Ok(counts)
}

/// A number from the world's own source.
pub(crate) fn random(world: &World) -> u64 {
    world.shared.clock.random()
}
