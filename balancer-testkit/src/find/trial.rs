//! One run of one script under the oracle's eyes.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use balancer_api::{Builder, LbConfig};

use super::{Failure, fail_over, liveness, shrink};
use crate::{
    Event, Law, LawSet, Log, Profile, Scenario, Setup, Violation, World,
    differ::{AgainstModel, AgainstPolicy},
    oracle::{Oracle, Verdict},
};

/// What is tried: a policy, what it claims, and the laws that it is held to.
#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) builder: Arc<dyn Builder>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) setup: Setup,
    pub(crate) laws: LawSet,
    pub(super) config: Option<LbConfig>,
    /// Where RPCs go in a good world, when nothing has happened before.
    pub(super) preferred: Arc<OnceLock<BTreeSet<Arc<str>>>>,
}

/// What a script came to.
pub(crate) struct Ran {
    pub(crate) violation: Option<Violation>,
    /// The events that could happen.
    pub(crate) applied: Vec<Event>,
    pub(crate) conversation: String,
}

// === impl Trial ===

impl Trial {
    /// # Panics
    /// The profile's configuration does not parse.
    pub(crate) fn new(
        builder: Arc<dyn Builder>,
        profile: Arc<Profile>,
        setup: Setup,
        laws: LawSet,
    ) -> Self {
        let config = setup.config.as_ref().map(|json| {
            let parsed = setup.parse(&*builder, json);
            parsed.unwrap_or_else(|error| panic!("the configuration {json} is invalid: {error}"))
        });
        Self {
            builder,
            profile,
            setup,
            laws,
            config,
            preferred: Arc::default(),
        }
    }

    pub(crate) fn seeded(&self, seed: u64) -> Self {
        let mut trial = self.clone();
        trial.setup = trial.setup.seed(seed);
        trial
    }

    /// A new world with the oracle looking on.
    pub(crate) fn world(&self) -> (World, Verdict) {
        let mut world = World::with_config(
            self.builder.clone(),
            self.setup.clone(),
            self.config.clone(),
        );
        let (oracle, verdict) = Oracle::new(self.profile.clone(), self.laws);
        world.watch(Box::new(oracle));
        let lazy = self.profile.lazy;
        if let Some(make) = self.profile.model.as_ref()
            && self.laws.has(Law::AgreesWithModel)
        {
            let model = AgainstModel::new(make(), lazy, verdict.clone());
            world.companions.push(Box::new(model));
        }
        if let Some(other) = self.profile.other.as_ref()
            && self.laws.has(Law::AgreesWithOther)
        {
            let other = AgainstPolicy::new(other, &self.setup, lazy, verdict.clone());
            world.companions.push(Box::new(other));
        }
        (world, verdict)
    }

    /// Lets the events happen that can happen, until a law is broken. Answers how many happened.
    pub(crate) fn play(&self, world: &mut World, verdict: &Verdict, events: &[Event]) -> usize {
        let mut happened = 0;
        for event in events {
            happened += usize::from(world.apply(event).is_ok());
            if verdict.is_broken() {
                break;
            }
        }
        happened
    }

    /// What every script ends with: the world turns good, the policy is closed, nothing is left.
    /// Answers how many events that took, and what was broken.
    pub(crate) fn finish(&self, mut world: World, verdict: &Verdict) -> (usize, Option<Violation>) {
        let before = world.happened;
        self.end(&mut world, verdict);
        (world.happened - before, self.bury(world, verdict))
    }

    fn end(&self, world: &mut World, verdict: &Verdict) {
        world
            .companions
            .retain(|companion| !companion.follows_script_only());
        if verdict.is_broken() {
            return;
        }
        if !world.is_closed() {
            if self.laws.has(Law::NoPileUp)
                && let Some(message) = self.piles_up(world)
            {
                verdict.set(Violation {
                    law: Law::NoPileUp,
                    message,
                });
                return;
            }
            world.release();
            if self.laws.has(Law::QuietWithoutNews)
                && !verdict.is_broken()
                && let Err(message) = nothing_new(world)
            {
                verdict.set(Violation {
                    law: Law::QuietWithoutNews,
                    message,
                });
            }
            if verdict.is_broken() {
                return;
            }
            if self.laws.has(Law::Liveness)
                && let Err(message) = self.turn_good(world, verdict)
            {
                verdict.set(Violation {
                    law: Law::Liveness,
                    message,
                });
                return;
            }
            if verdict.is_broken() {
                return;
            }
            if self.holds_removed(world, verdict) {
                return;
            }
            // Only a panic could refuse it, and that is in the verdict.
            let _ = world.apply(&Event::Close);
        }
        if self.laws.has(Law::SilentAfterClose) && !verdict.is_broken() {
            let _ = world.apply(&Event::Late);
        }
    }

    /// The world turns good: for a policy that fails over, first in part.
    fn turn_good(&self, world: &mut World, verdict: &Verdict) -> Result<(), String> {
        let fails_over = self.profile.fails_over.is_some();
        if fails_over {
            fail_over::turn_partly_good(world)?;
        }
        if verdict.is_broken() {
            return Ok(());
        }
        liveness::turn_good(world, &self.profile)?;
        if fails_over && !verdict.is_broken() {
            fail_over::has_gone_back(self, world)?;
        }
        Ok(())
    }

    /// Whether what is left when all SubConns are gone becomes more each time that the same happens
    /// again. Once is no proof: a policy may have a timer of its own.
    fn piles_up(&self, world: &World) -> Option<String> {
        let left = world.left_over_nothing()?;
        let script: Vec<Event> = world.log(|log| log.events().cloned().collect());
        let again = |times: usize| {
            let mut world = World::with_config(
                self.builder.clone(),
                self.setup.clone(),
                self.config.clone(),
            );
            for event in std::iter::repeat_n(&script, times).flatten() {
                world.apply(event).ok()?;
            }
            world.left_over_nothing()
        };
        let all = [left, again(2)?, again(3)?, again(4)?];
        let grows = |count: fn(&(usize, usize)) -> usize| {
            let counts = all.each_ref().map(count);
            counts[0] > 0 && counts.is_sorted_by(|before, after| before < after)
        };
        let grown = grows(|(timers, _)| *timers) || grows(|(_, calls)| *calls);
        grown.then(|| {
            let counts = all.map(|(timers, calls)| format!("{timers} timers and {calls} calls"));
            format!(
                "{} are left when every SubConn is gone; when all this happens again and again: {}",
                counts[0],
                counts[1..].join(", ")
            )
        })
    }

    fn holds_removed(&self, world: &mut World, verdict: &Verdict) -> bool {
        // A policy may keep its last READY picker, to carry on a rotation from it, until the next one:
        // only a world that has turned good shows what is never let go. And a scripted child
        // publishes when it is told to, so its old picker stays.
        let turned_good = self.laws.has(Law::Liveness) && !self.profile.scripted;
        if !self.laws.has(Law::NoLeak) || !turned_good {
            return false;
        }
        let Some(name) = world.removed_and_held() else {
            return false;
        };
        verdict.set(Violation {
            law: Law::NoLeak,
            message: format!("{name} was removed and is gone, and the policy still holds it"),
        });
        true
    }

    fn bury(&self, mut world: World, verdict: &Verdict) -> Option<Violation> {
        if let Some(violation) = verdict.take() {
            return Some(violation);
        }
        if !self.laws.has(Law::NoLeak) || world.panic_message().is_some() {
            return None;
        }
        // The oracle holds pickers.
        world.watcher = None;
        world.companions.clear();
        let (subs, conn) = world.leftovers();
        let message = match (subs.first(), conn) {
            (Some(sub), _) => format!("the policy is gone and {sub} is still held"),
            (None, true) => "the policy is gone and its ClientConn is still held".to_owned(),
            (None, false) => return None,
        };
        Some(Violation {
            law: Law::NoLeak,
            message,
        })
    }

    /// The whole of it, with the conversation.
    pub(crate) fn run(&self, events: &[Event]) -> Ran {
        let (mut world, verdict) = self.world();
        let mut applied = Vec::new();
        for event in events {
            if verdict.is_broken() {
                break;
            }
            // One that panics happened, too.
            if world.apply(event).is_ok() || world.panic_message().is_some() {
                applied.push(event.clone());
            }
        }
        let companions = world.companions.iter();
        let others: Vec<String> = companions
            .filter_map(|other| other.conversation())
            .collect();
        self.end(&mut world, &verdict);
        let mut conversation = world.log(Log::to_string);
        for other in others {
            conversation.push_str(&other);
        }
        Ran {
            violation: self.bury(world, &verdict),
            applied,
            conversation,
        }
    }

    /// The violation of a script, without the conversation.
    pub(crate) fn judge(&self, events: &[Event]) -> Option<Violation> {
        let (mut world, verdict) = self.world();
        self.play(&mut world, &verdict, events);
        self.finish(world, &verdict).1
    }

    /// What the log of a script comes to.
    pub(crate) fn digest(&self, events: &[Event]) -> u64 {
        let (mut world, verdict) = self.world();
        self.play(&mut world, &verdict, events);
        self.end(&mut world, &verdict);
        world.log(Log::digest)
    }

    /// Makes a script that broke a law short.
    pub(crate) fn failure(&self, events: &[Event], violation: Violation) -> Failure {
        let found_with = events.len();
        let script = shrink::shrink(self, events, violation.law);
        let ran = self.run(&script);
        Failure {
            violation: ran.violation.unwrap_or(violation),
            script: Scenario::new(ran.applied),
            found_with,
            conversation: ran.conversation,
        }
    }
}

/// Wakes the policy while nothing happens, and counts what that costs.
fn nothing_new(world: &mut World) -> Result<(), String> {
    // The oracle picks, and to a policy that counts RPCs these are news.
    let watcher = world.watcher.take();
    let from = world.log(|log| log.entries().len());
    let mut after = [0; 3];
    for count in &mut after {
        let before = world.log(|log| log.costs(from));
        // Refused only by a policy that has panicked: another law's affair.
        if world.apply(&Event::Wake).is_err() {
            break;
        }
        *count = world.log(|log| log.costs(from)) - before;
    }
    world.watcher = watcher;
    // The first wake may be what it was waiting for.
    if after[1] > 0 && after[2] > 0 {
        return Err(
            "it was woken three times while nothing happened, and each time it published or asked for something".to_owned(),
        );
    }
    world.look();
    Ok(())
}
