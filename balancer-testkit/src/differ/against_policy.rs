//! A policy against another one, under the same script.

use std::sync::Arc;

use balancer_api::ConnectivityState as State;

use super::{Alike, Other, Target, canonical, listed};
use crate::{
    Event, Law, Log, Outcome, Refused, Setup, Violation, World,
    log::{Ask, Entry, joined},
    oracle::Verdict,
    world::Companion,
};

/// Lets the same events happen to the other policy, and compares.
pub(crate) struct AgainstPolicy {
    other: World,
    name: Arc<str>,
    alike: Alike,
    verdict: Verdict,
    lazy: bool,
    /// How much of either log was read.
    read: (usize, usize),
    /// Each was refused another SubConn: from there on they differ rightly.
    parted: bool,
}

/// What can be seen of a policy from outside.
struct Seen {
    state: Option<State>,
    /// Whether the last list was accepted.
    accepted: Option<bool>,
    /// The SubConns that live: names, states, and whether they were asked to connect.
    connections: Vec<(String, State, bool)>,
}

// === impl AgainstPolicy ===

impl AgainstPolicy {
    pub(crate) fn new(other: &Other, setup: &Setup, lazy: bool, verdict: Verdict) -> Self {
        Self {
            other: World::new(other.builder.clone(), setup.clone()),
            name: other.builder.name().into(),
            alike: other.alike,
            verdict,
            lazy,
            read: (0, 0),
            parted: false,
        }
    }

    fn compare(
        &mut self,
        event: &Event,
        result: &Result<(), Refused>,
        world: &mut World,
    ) -> Option<String> {
        let name = self.name.clone();
        let theirs = self.other.apply(event);
        match (result, &theirs) {
            (Ok(()), Ok(())) => {}
            (Err(Refused::Panicked(_)), _) => return None,
            (_, Err(Refused::Panicked(text))) => return Some(format!("{name} panicked: {text}")),
            (Ok(()), Err(why)) => {
                return Some(format!(
                    "`{event}` can happen here, and not with {name}: {why}"
                ));
            }
            (Err(why), Ok(())) => {
                return Some(format!(
                    "`{event}` can happen with {name}, and not here: {why}"
                ));
            }
            (Err(_), Err(_)) => return None,
        }
        let mine = refused(world, &mut self.read.0);
        let theirs = refused(&self.other, &mut self.read.1);
        self.parted |= mine != theirs;
        if self.parted || world.is_closed() || !world.is_at_rest() || !self.other.is_at_rest() {
            return None;
        }
        let (mine, theirs) = (Seen::of(world), Seen::of(&self.other));
        let shown = |state: Option<State>| state.map_or("nothing", State::as_str);
        if mine.state != theirs.state {
            return Some(format!(
                "{} is published, and {} by {name}",
                shown(mine.state),
                shown(theirs.state)
            ));
        }
        let answer = |accepted: Option<bool>| match accepted {
            Some(true) => "accepted",
            Some(false) => "rejected",
            None => "not answered",
        };
        if mine.accepted != theirs.accepted {
            return Some(format!(
                "the last resolver result was {}, and {} by {name}",
                answer(mine.accepted),
                answer(theirs.accepted)
            ));
        }
        if mine.connections != theirs.connections {
            return Some(format!(
                "the SubConns are {}, and those of {name} {}",
                mine.connections(),
                theirs.connections()
            ));
        }
        if self.lazy && mine.state == Some(State::Idle) {
            return None;
        }
        let ready = mine
            .connections
            .iter()
            .filter(|(_, state, _)| *state == State::Ready);
        let ready = ready.count().max(1);
        let count = match self.alike {
            Alike::AsSets if ready > 1 => 2 * ready + 46,
            _ => 2 * ready,
        };
        let ask = |world: &mut World| -> Vec<Target> {
            (0..count).map(|_| Target::of(&world.ask())).collect()
        };
        let (mine, theirs) = (ask(world), ask(&mut self.other));
        let same = match self.alike {
            Alike::Exactly => mine == theirs,
            Alike::Rotated => rotated(&mine, &theirs, ready),
            Alike::AsSets => set(&mine) == set(&theirs),
        };
        (!same).then(|| {
            let (mine, theirs) = match self.alike {
                Alike::AsSets => (set(&mine), set(&theirs)),
                _ => (mine, theirs),
            };
            format!(
                "picks go {}, and with {name} {}",
                listed(&mine),
                listed(&theirs)
            )
        })
    }
}

/// For which addresses a SubConn was refused since the entry `read` of the log.
fn refused(world: &World, read: &mut usize) -> Vec<String> {
    world.log(|log| {
        let from = std::mem::replace(read, log.entries().len());
        let new = log.entries().get(from..).unwrap_or_default().iter();
        let refused = new.filter_map(|entry| match entry {
            Entry::Asked {
                ask: Ask::NewSubConnRefused(addresses, _),
                ..
            } => Some(canonical(&joined(addresses))),
            _ => None,
        });
        refused.collect()
    })
}

/// Whether `b` goes on as `a` does, from another start within the first `cycle`.
fn rotated(a: &[Target], b: &[Target], cycle: usize) -> bool {
    (0..cycle).any(|by| a.iter().skip(by).zip(b).all(|(a, b)| a == b))
}

fn set(targets: &[Target]) -> Vec<Target> {
    let mut set = targets.to_vec();
    set.sort_unstable();
    set.dedup();
    set
}

impl Companion for AgainstPolicy {
    fn after(&mut self, event: &Event, result: &Result<(), Refused>, world: &mut World) {
        if self.verdict.is_broken() || self.parted {
            return;
        }
        if let Some(message) = self.compare(event, result, world) {
            self.verdict.set(Violation {
                law: Law::AgreesWithOther,
                message,
            });
        }
    }

    fn conversation(&self) -> Option<String> {
        let name = &self.name;
        let log = self.other.log(Log::to_string);
        Some(format!("the conversation with {name}:\n{log}"))
    }

    fn follows_script_only(&self) -> bool {
        true
    }
}

// === impl Seen ===

impl Seen {
    fn of(world: &World) -> Self {
        let accepted = world.last_result().map(Result::is_ok);
        let inner = world.shared.lock();
        let live = inner.live.iter().map(|id| &inner.subs[id.index()]);
        let mut connections: Vec<_> = live
            .map(|sub| (canonical(&sub.name), sub.state, sub.asked))
            .collect();
        connections.sort_unstable();
        Self {
            state: inner.published.as_ref().map(|(state, _)| *state),
            accepted,
            connections,
        }
    }

    fn connections(&self) -> String {
        if self.connections.is_empty() {
            return "none".to_owned();
        }
        let texts = self.connections.iter().map(|(name, state, asked)| {
            let asked = if *asked { ", asked to connect" } else { "" };
            format!("{name} ({state}{asked})")
        });
        texts.collect::<Vec<_>>().join(", ")
    }
}

impl World {
    /// Asks the picker for an RPC that succeeds, without a note in the log.
    pub(crate) fn ask(&mut self) -> Outcome {
        let options = balancer_api::PickOptions::new("/kit.Differential/Call");
        let rpc = self.pick_from(self.picker().as_deref(), &options);
        let outcome = rpc.outcome().clone();
        rpc.end(crate::End::Ok);
        outcome
    }
}
