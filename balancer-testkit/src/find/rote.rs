//! Scripts that every policy is put through: what chance comes to too seldom.

use std::sync::{Arc, LazyLock};

use balancer_api::Builder;

use super::{Failure, Trial};
use crate::{End, Event, LawSet, List, Move, Profile};

/// More endpoints than fit in a byte.
const CROWD: usize = 300;

/// How often connections come and go: more often than a policy may have timers.
const FLAPS: usize = 12;

static SCRIPTS: LazyLock<Vec<Vec<Event>>> = LazyLock::new(|| {
    vec![
        refused_at_first(),
        refused_among(),
        crowd(),
        flapping(),
        failing(),
    ]
});

/// Runs them all, until a law is broken.
pub(crate) fn by_rote(
    builder: &Arc<dyn Builder>,
    profile: &Profile,
    laws: LawSet,
) -> Option<Failure> {
    let profile = Arc::new(profile.clone());
    for setup in profile.setups() {
        let trial = Trial::new(builder.clone(), profile.clone(), setup, laws).seeded(1);
        for script in SCRIPTS.iter() {
            if let Some(violation) = trial.judge(script) {
                return Some(trial.failure(script, violation));
            }
        }
    }
    None
}

/// No SubConn is to be had for the first list.
fn refused_at_first() -> Vec<Event> {
    let mut script = vec![Event::Refuse("too many".into()); 3];
    script.extend([Event::update("a b c"), Event::Again]);
    script
}

/// One is not, and the others are.
fn refused_among() -> Vec<Event> {
    vec![
        Event::Refuse("too many".into()),
        Event::update("a b c"),
        Event::Refuse("too many".into()),
        Event::update("b c d e"),
    ]
}

fn crowd() -> Vec<Event> {
    let names: Vec<String> = (0..CROWD).map(|n| format!("n{n}")).collect();
    vec![Event::Update(List::named(&names))]
}

/// The same again and again; then there is nothing left.
fn flapping() -> Vec<Event> {
    let names = ["a", "b", "c"];
    let mut script = vec![Event::update("a b c")];
    let mut all = |step: Move| script.extend(names.map(|name| Event::step(step, name)));
    for _ in 0..FLAPS {
        [Move::Connecting, Move::Ready, Move::Lost]
            .into_iter()
            .for_each(&mut all);
    }
    for _ in 0..FLAPS {
        [Move::Connecting, Move::Failed, Move::Idle]
            .into_iter()
            .for_each(&mut all);
    }
    script.push(Event::update(""));
    script
}

/// RPCs fail, and then their backends are lost: what a policy wanted to do about them is void.
fn failing() -> Vec<Event> {
    let mut script = vec![Event::update("a b c")];
    for _ in 0..FLAPS {
        for step in [Move::Connecting, Move::Ready] {
            script.extend(["a", "b", "c"].map(|name| Event::step(step, name)));
        }
        script.extend(vec![Event::Pick(End::Error); FLAPS]);
        script.extend(["a", "b", "c"].map(|name| Event::step(Move::Lost, name)));
    }
    script.push(Event::update(""));
    script
}
