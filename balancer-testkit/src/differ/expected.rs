//! What a model expects.

use std::collections::BTreeSet;

use balancer_api::ConnectivityState as State;

use super::{Target, canonical, listed};
use crate::Outcome;

/// What a [`Model`](crate::Model) says that must be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Any of these; none for no claim.
    states: Vec<State>,
    picks: Picks,
}

/// What a [`Model`](crate::Model) says of picks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Picks {
    /// Whatever they say; they are not made.
    Anything,
    /// They wait.
    Queue,
    /// They fail, each with this in its text.
    Fail(String),
    /// Each goes to one of these SubConns, and all of these get one.
    AllOf(BTreeSet<String>),
    /// Each goes to one of these SubConns.
    OneOf(BTreeSet<String>),
    /// They go round these SubConns in this order, from any start.
    InTurn(Vec<String>),
}

// === impl Expected ===

impl Expected {
    /// No claim.
    pub fn anything() -> Self {
        Self {
            states: Vec::new(),
            picks: Picks::Anything,
        }
    }

    /// This state.
    pub fn state(state: State) -> Self {
        Self::any_state([state])
    }

    /// Any of these states.
    pub fn any_state(states: impl IntoIterator<Item = State>) -> Self {
        Self {
            states: states.into_iter().collect(),
            picks: Picks::Anything,
        }
    }

    /// And these picks.
    #[must_use]
    pub fn picks(mut self, picks: Picks) -> Self {
        self.picks = picks;
        self
    }

    /// How many picks are to be made of the picker.
    pub(super) fn count(&self) -> usize {
        match &self.picks {
            Picks::Anything => 0,
            Picks::Queue | Picks::Fail(_) => 1,
            Picks::OneOf(_) => 2,
            Picks::InTurn(names) => 2 * names.len(),
            // Enough for a random policy to come to each, but for once in many millions.
            Picks::AllOf(names) => 2 * names.len() + if names.len() > 1 { 46 } else { 0 },
        }
    }

    pub(super) fn differs(&self, state: Option<State>, picks: &[Outcome]) -> Option<String> {
        let names: Vec<&str> = self.states.iter().map(|state| state.as_str()).collect();
        if !names.is_empty() && !state.is_some_and(|state| self.states.contains(&state)) {
            let state = state.map_or("nothing", State::as_str);
            return Some(format!(
                "the model expects {}, and {state} is published",
                names.join(" or ")
            ));
        }
        let targets: Vec<Target> = picks.iter().map(Target::of).collect();
        self.picks.differ(&targets, picks)
    }
}

// === impl Picks ===

impl Picks {
    /// Each of these gets some.
    pub fn all_of<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::AllOf(set(names))
    }

    /// Each pick goes to one of these.
    pub fn one_of<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::OneOf(set(names))
    }

    /// They go round these.
    pub fn in_turn<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter();
        Self::InTurn(names.map(|name| canonical(name.as_ref())).collect())
    }

    fn differ(&self, targets: &[Target], picks: &[Outcome]) -> Option<String> {
        let went = || listed(targets);
        let set_of = |names: &BTreeSet<String>| -> BTreeSet<Target> {
            let names = names.iter();
            names.map(|name| Target::SubConn(canonical(name))).collect()
        };
        match self {
            Self::Anything => None,
            Self::Queue => targets
                .iter()
                .any(|target| *target != Target::Queue)
                .then(|| format!("the model expects RPCs to wait, and they went: {}", went())),
            Self::Fail(text) => {
                let fails = |outcome: &Outcome| {
                    let shown = outcome.message().unwrap_or_default();
                    outcome.is_failure() && shown.contains(text.as_str())
                };
                let other = picks.iter().find(|outcome| !fails(outcome))?;
                Some(format!(
                    "the model expects RPCs to fail with `{text}`, and one came to: {other}"
                ))
            }
            Self::OneOf(names) => {
                let right = set_of(names);
                let other = targets.iter().find(|target| !right.contains(target))?;
                Some(format!(
                    "the model expects picks of {}, and one went to: {other}",
                    shown(names)
                ))
            }
            Self::AllOf(names) => {
                let went_to: BTreeSet<Target> = targets.iter().cloned().collect();
                (went_to != set_of(names)).then(|| {
                    let went_to: Vec<Target> = went_to.into_iter().collect();
                    format!(
                        "the model expects picks of each of {}, and they went to: {}",
                        shown(names),
                        listed(&went_to)
                    )
                })
            }
            Self::InTurn(names) => {
                let in_turn = |start: usize| {
                    targets.iter().enumerate().all(|(n, target)| {
                        let name = &names[(start + n) % names.len()];
                        matches!(target, Target::SubConn(to) if to == name)
                    })
                };
                let fine = (0..names.len()).any(in_turn);
                (!fine).then(|| {
                    format!(
                        "the model expects picks of {} in turn, and they went: {}",
                        names.join(" "),
                        went()
                    )
                })
            }
        }
    }
}

fn set<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> BTreeSet<String> {
    let names = names.into_iter();
    names.map(|name| name.as_ref().to_owned()).collect()
}

fn shown(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(" ")
}
