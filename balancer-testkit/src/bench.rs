//! Benches in the old sense: a policy fixed in place, with n backends READY, to be measured at.

use std::{sync::Arc, time::Duration};

use balancer_api::{ConnectivityState as State, PickOptions, Picker, Source};
use http::{HeaderMap, HeaderValue};

use crate::{
    Event, Move, SubId, World,
    conn::Shared,
    find::{Trial, answer_calls},
    oracle::{Probe, probe},
};

/// How long a policy may gather news.
const SOON: Duration = Duration::from_secs(1);

/// A world with `count` backends READY, or why there is none.
pub(crate) fn all_ready(trial: &Trial, count: usize) -> Result<World, String> {
    let names: Vec<String> = (0..count).map(backend).collect();
    let (mut world, _) = trial.world();
    world.watcher = None;
    let list = crate::List::named(&names);
    let refused = |refused: crate::Refused| refused.to_string();
    world.apply(&Event::Update(list)).map_err(refused)?;
    let mut nudged = false;
    for _ in 0..16 {
        let steps: Vec<Event> = {
            let steps = world.legal_steps().into_iter();
            let good = steps.filter(|(_, step)| matches!(step, Move::Connecting | Move::Ready));
            good.map(|(name, step)| Event::Step(step, name, None))
                .collect()
        };
        if !steps.is_empty() {
            nudged = false;
        } else if !answer_calls(&mut world) {
            // A policy may want answers before it uses a backend, or an RPC before it connects.
            if std::mem::replace(&mut nudged, true) {
                break;
            }
            world.pick();
            if world.state() == Some(State::Idle) {
                let _ = world.apply(&Event::ExitIdle);
            }
        }
        for step in steps {
            // A policy that sticks to one may have removed this SubConn meanwhile.
            let _ = world.apply(&step);
        }
    }
    gather(&mut world);
    Ok(world)
}

/// Lets the timers fire that are near: a policy may gather news before it publishes.
pub(crate) fn gather(world: &mut World) {
    for _ in 0..4 {
        let soon = world.now() + SOON;
        if world.next_timer().is_none_or(|at| at > soon) || world.apply(&Event::Timer).is_err() {
            break;
        }
    }
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

/// RPCs that differ in what a policy may look at: the method, and a header `session`.
pub(crate) fn varied<R>(n: usize, pick: impl FnOnce(&PickOptions<'_>) -> R) -> R {
    let method = format!("/kit.Varied/Call{n}");
    let mut headers = HeaderMap::new();
    headers.insert("session", HeaderValue::from(n));
    pick(&PickOptions::new(&method).with_headers(&headers))
}

/// A number from the world's own source.
pub(crate) fn random(world: &World) -> u64 {
    world.shared.clock.random()
}
