//! Random scripts, each step chosen among what can happen.

use std::sync::{Arc, LazyLock};

use balancer_api::Builder;

use super::{Failure, Trial, alphabet::Letters};
use crate::{Event, LawSet, Profile, clock::mix};

/// What a random search came to.
#[derive(Debug)]
pub struct Search {
    /// How many scripts were run.
    pub scripts: usize,
    /// How many events happened in them, those that end each script included.
    pub events: usize,
    /// The first script that broke a law, with the seed that it came from.
    pub failure: Option<(u64, Failure)>,
}

/// Runs `scripts` random scripts of up to `length` events, from `seed` on, until a law is broken.
pub fn search(
    builder: Arc<dyn Builder>,
    profile: &Profile,
    laws: LawSet,
    seed: u64,
    scripts: usize,
    length: usize,
) -> Search {
    let profile = Arc::new(profile.clone());
    let mut search = Search {
        scripts: 0,
        events: 0,
        failure: None,
    };
    for setup in profile.setups() {
        let trial = Trial::new(builder.clone(), profile.clone(), setup, laws);
        for seed in seed..seed + scripts as u64 {
            search.scripts += 1;
            let trial = trial.seeded(seed);
            let (events, ending, violation) = guided(&trial, seed, length);
            search.events += events.len() + ending;
            if let Some(violation) = violation {
                search.failure = Some((seed, trial.failure(&events, violation)));
                return search;
            }
        }
    }
    search
}

/// Made once: lists are parsed.
static LETTERS: LazyLock<Letters> = LazyLock::new(Letters::new);
static STARTS: LazyLock<[Vec<Event>; 4]> = LazyLock::new(super::explore::starts);

/// One random script, run while it is made; and how many more events ended it.
pub(crate) fn guided(
    trial: &Trial,
    seed: u64,
    length: usize,
) -> (Vec<Event>, usize, Option<crate::Violation>) {
    let mut state = mix(seed ^ 0x5eed);
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(state)
    };
    let letters = &*LETTERS;
    let (mut world, verdict) = trial.world();
    let mut events = Vec::with_capacity(length);
    let mut scratch = Vec::new();
    let length = 1 + (random() % length.max(1) as u64) as usize;
    // Half of them begin with everything up.
    let start = [0, 0, 1, 3][(random() % 4) as usize];
    if start > 0 {
        for event in &STARTS[start] {
            if world.apply(event).is_ok() {
                events.push(event.clone());
            }
        }
    }
    let length = length + events.len();
    while events.len() < length && !verdict.is_broken() && world.panic_message().is_none() {
        let start = events.is_empty();
        let event = letters.choose(&world, &trial.profile, start, &mut random, &mut scratch);
        let happened = world.apply(&event);
        if happened.is_ok() || world.panic_message().is_some() {
            events.push(event);
        } else if start {
            break;
        }
    }
    let (ending, violation) = trial.finish(world, &verdict);
    (events, ending, violation)
}
