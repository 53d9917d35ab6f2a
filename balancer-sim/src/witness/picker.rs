//! A picker with a witness around it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use balancer_api::{
    ConnectivityState as State, Pick, PickError, PickOptions, Picker, SubConn, SubConnHandle,
};

use super::{Instance, Probe};
use crate::{
    book::{Asked, Observer},
    fault::Fault,
    law::Law,
    sabotage::Sabotage,
    sim::lock,
};

pub(super) struct WitnessPicker {
    instance: Arc<Instance>,
    state: State,
    inner: Arc<dyn Picker>,
    /// How many of the policy's SubConns were READY when it was published.
    members: u64,
    turns: Mutex<Turns>,
}

/// How often each SubConn was picked by first attempts.
#[derive(Default)]
struct Turns {
    counts: BTreeMap<u64, u64>,
    /// A retry drew again: from there on the counts say nothing.
    redrawn: bool,
}

/// A SubConn that somebody has made up.
struct MadeUp;

// === impl WitnessPicker ===

impl WitnessPicker {
    pub(super) fn new(instance: Arc<Instance>, state: State, inner: Arc<dyn Picker>) -> Self {
        instance.book.picker_made();
        let members = instance.book.ready(instance.number) as u64;
        Self {
            members,
            instance,
            state,
            inner,
            turns: Mutex::default(),
        }
    }

    /// What nobody should do.
    fn misbehave(&self) -> Option<Pick<'static>> {
        let Instance {
            book, chaos, vices, ..
        } = &*self.instance;
        if chaos.happens(vices.pick_panics) {
            chaos.sim.hit(Fault::PickPanics, 1);
            book.goes_wild();
            book.asked(Asked::Panicked);
            panic!("chaos: pick");
        }
        if chaos.happens(vices.foreign) {
            chaos.sim.hit(Fault::ForeignPick, 1);
            book.goes_wild();
            let token = book.picked();
            book.asked(Asked::Foreign { token });
            // Made up, or a connection to something that is no backend.
            let lookaside = lock(&self.instance.lookasides).last().cloned();
            let foreign = lookaside.unwrap_or_else(|| SubConn::new(Arc::new(MadeUp)));
            return Some(Pick::owned(foreign).on_done(self.observer(), token as u64));
        }
        if chaos.happens(vices.removed) {
            let sub_conn = chaos.removed_one()?;
            chaos.sim.hit(Fault::RemovedPick, 1);
            return Some(self.good(sub_conn));
        }
        if chaos.happens(vices.stale) {
            let known = lock(&self.instance.sub_conns);
            let at = chaos.below(known.len());
            let (sub_conn, _) = known.get(at)?.clone();
            drop(known);
            chaos.sim.hit(Fault::StalePick, 1);
            return Some(self.good(sub_conn));
        }
        None
    }

    fn good(&self, sub_conn: SubConn) -> Pick<'static> {
        let book = &self.instance.book;
        let token = book.picked();
        book.asked(Asked::Good {
            sub_conn: sub_conn.clone(),
            token,
        });
        Pick::owned(sub_conn).on_done(self.observer(), token as u64)
    }

    fn observer(&self) -> Arc<Observer> {
        let Instance {
            book, chaos, vices, ..
        } = &*self.instance;
        let panics = chaos.happens(vices.done_panics);
        if panics {
            chaos.sim.hit(Fault::DonePanics, 1);
        }
        Arc::new(Observer {
            book: book.clone(),
            panics,
        })
    }

    /// round_robin: no SubConn is two turns ahead of another that was READY all the time.
    fn count(&self, id: u64, options: &PickOptions<'_>) {
        if !self.instance.is_round_robin() {
            return;
        }
        let mut turns = lock(&self.turns);
        turns.redrawn |= options.attempt() > 0;
        if turns.redrawn {
            return;
        }
        *turns.counts.entry(id).or_default() += 1;
        let most = turns.counts.values().max().copied().unwrap_or(0);
        let least = match turns.counts.len() as u64 == self.members {
            true => turns.counts.values().min().copied().unwrap_or(0),
            false => 0,
        };
        if most > least + 1 {
            let what = format_args!("{} are READY, counts {:?}", self.members, turns.counts);
            self.instance.chaos.sim.fail(Law::Fair, what);
        }
    }
}

impl Picker for WitnessPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        if let Some(pick) = self.misbehave() {
            return Ok(pick);
        }
        let book = &self.instance.book;
        // While the first READY picker is held to warm up, what queues RPCs may outlive its policy.
        let queues = matches!(self.state, State::Connecting | State::Idle);
        if book.is_closed(self.instance.number) && !queues {
            let what = format_args!("the picker of p{}, which is closed", self.instance.number);
            self.instance.chaos.sim.fail(Law::Agrees, what);
        }
        let tried: Vec<SubConn> = options
            .tried()
            .iter()
            .filter_map(|it| self.instance.outer_of_tried(it))
            .collect();
        let asked = options.with_attempt(options.attempt(), &tried);
        let picked = self.inner.pick(&asked);
        let agrees = matches!(
            (&picked, self.state),
            (Ok(_), State::Ready)
                | (
                    Err(PickError::NoSubConnAvailable),
                    State::Connecting | State::Idle
                )
                | (
                    Err(PickError::TransientFailure(_) | PickError::Failed(_)),
                    State::TransientFailure
                )
        );
        if !agrees {
            let what = format_args!("{} with a picker that says {picked:?}", self.state);
            self.instance.chaos.sim.fail(Law::Agrees, what);
        }
        match picked {
            Ok(pick) => {
                let Some(probe) = Probe::of(pick.sub_conn()) else {
                    let what = format_args!("the policy picked a SubConn that it was not given");
                    self.instance.chaos.sim.fail(Law::Ready, what);
                    return Ok(pick);
                };
                self.count(probe.id, options);
                let sim = &self.instance.chaos.sim;
                if sim.is_sabotaged(Sabotage::SkippedTurn, 5) {
                    let _ = self.inner.pick(options);
                }
                let picked = self.good(probe.inner.clone());
                if sim.is_sabotaged(Sabotage::OtherSubConn, 5) {
                    let others = lock(&self.instance.sub_conns);
                    let other = others.iter().find(|(it, _)| *it != probe.inner);
                    return Ok(other.map_or(picked, |(it, _)| Pick::owned(it.clone())));
                }
                Ok(picked)
            }
            Err(error) => {
                book.asked(match &error {
                    PickError::NoSubConnAvailable => Asked::Queue,
                    _ => Asked::TransientFailure,
                });
                Err(error)
            }
        }
    }
}

impl Drop for WitnessPicker {
    fn drop(&mut self) {
        self.instance.book.picker_dropped();
    }
}

// === impl MadeUp ===

impl SubConnHandle for MadeUp {
    fn connect(&self) {}

    fn update_addresses(&self, _: Vec<balancer_api::Address>) {}

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("made up")
    }
}
