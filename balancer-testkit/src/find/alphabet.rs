//! What can happen next.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use balancer_api::{Code, ConnectivityState as State};

use crate::{Act, End, Event, List, Profile, World};

/// The lists of the exhaustive finder, as printed.
pub(super) const LISTS: [&str; 6] = ["a b c", "a b", "b c", "c", "", "c a b"];

/// The lists of the random finder beside those: duplicates, several addresses, attributes.
const MORE_LISTS: [&str; 12] = [
    "a",
    "a a b",
    "a%1 a b",
    "a+b c",
    "b+a c",
    "a#1 b",
    "a@1 b c",
    "a b@2",
    "d e a",
    "b c d e",
    "a+d b+e",
    "a b c d e f g h i j k l",
];

const ERROR: &str = "no such host";

/// Letters that need no work to make.
pub(super) struct Letters {
    lists: Vec<List>,
    more_lists: Vec<List>,
    error: Event,
}

// === impl Letters ===

impl Letters {
    pub(super) fn new() -> Self {
        Self {
            lists: LISTS.iter().map(|text| List::parse(text)).collect(),
            more_lists: MORE_LISTS.iter().map(|text| List::parse(text)).collect(),
            error: Event::ResolverError(ERROR.into()),
        }
    }

    /// The fixed alphabet: lists, the same list again, a resolver error, every legal move of each
    /// SubConn that lives, the earliest timer, answers to calls; and, where it matters, a pick and
    /// `exit_idle`.
    pub(super) fn next(
        &self,
        world: &World,
        profile: &Profile,
        start: bool,
        into: &mut Vec<Event>,
    ) {
        into.clear();
        let current = world.list();
        let lists = if profile.scripted {
            self.lists.get(..5).unwrap_or_default()
        } else {
            &self.lists
        };
        for list in lists {
            if start || list != current {
                into.push(Event::Update(list.clone()));
            }
        }
        if !start {
            into.push(Event::Again);
            let text = current.to_string();
            if text.contains('+') {
                let turned = text.split_whitespace().map(turned);
                into.push(Event::Update(List::named(turned)));
            }
        }
        into.push(self.error.clone());
        let steps = world.legal_steps().into_iter();
        into.extend(steps.map(|(name, step)| Event::Step(step, name, None)));
        answers(world, into);
        if world.next_timer().is_some() {
            into.push(Event::Timer);
        }
        if world.shared.observes.load(Relaxed) && world.state() == Some(State::Ready) {
            into.push(Event::Pick(End::Error));
        }
        if profile.scripted {
            acts(world, into);
            let configs = profile.scripted_configs.iter();
            let others = configs.filter(|config| world.config_text() != Some(config));
            into.extend(others.map(|config| Event::Config(config.clone())));
        }
        if world.state() == Some(State::Idle) {
            into.push(Event::ExitIdle);
            if profile.lazy {
                into.push(Event::Pick(End::Ok));
            }
        }
    }

    /// A wider choice for the random finder. `random` gives numbers.
    pub(super) fn choose(
        &self,
        world: &World,
        profile: &Profile,
        start: bool,
        random: &mut impl FnMut() -> u64,
        scratch: &mut Vec<Event>,
    ) -> Event {
        let mut below = |n: usize| (random() % n as u64) as usize;
        // Moves most of the time: that is what most of the life of a policy is.
        let roll = if start { 0 } else { below(100) };
        if profile.scripted && below(3) == 0 {
            scratch.clear();
            acts(world, scratch);
            if profile.scripted_configs.len() > 1 {
                let configs = profile.scripted_configs.iter();
                scratch.extend(configs.map(|config| Event::Config(config.clone())));
            }
            if !scratch.is_empty() {
                return scratch.swap_remove(below(scratch.len()));
            }
        }
        match roll {
            0..8 => Event::Update(self.lists[below(self.lists.len())].clone()),
            8..11 => Event::Update(self.more_lists[below(self.more_lists.len())].clone()),
            11..15 => vary(world.list(), &mut below),
            15..17 => Event::Again,
            17..20 => self.error.clone(),
            20..24 => {
                let ends = [End::Ok, End::Error, End::Dropped, End::NotSent, End::Open];
                Event::Pick(ends[below(ends.len())])
            }
            24 => Event::Wake,
            25 => Event::Stranger,
            26 => Event::Refuse("too many".into()),
            27 => Event::Random([0, 1, u64::MAX, u64::MAX - 1, u64::from(u32::MAX)][below(5)]),
            28 => Event::Hold,
            29..32 => Event::Settle,
            32 => Event::HoldShutdowns,
            33..35 => match world.shared.lock() {
                inner if inner.held_shutdowns.is_empty() => Event::Wake,
                inner => {
                    let id = inner.held_shutdowns[below(inner.held_shutdowns.len())];
                    Event::Shutdown(inner.subs[id.index()].name.clone())
                }
            },
            35..38 if world.next_timer().is_some() => Event::Timer,
            38..40 => Event::ExitIdle,
            40..42 => {
                let inner = world.shared.lock();
                match inner.live.len() {
                    0 => Event::Again,
                    count => {
                        let id = inner.live[below(count)];
                        Event::Repeat(inner.subs[id.index()].name.clone())
                    }
                }
            }
            // How RPCs end is what such a policy lives on.
            42..52 if world.shared.observes.load(Relaxed) => {
                let ends = [End::Error, End::Error, End::Ok, End::NotSent];
                Event::Pick(ends[below(ends.len())])
            }
            _ => {
                scratch.clear();
                answers(world, scratch);
                if profile.lazy && world.state() == Some(State::Idle) {
                    scratch.push(Event::Pick(End::Ok));
                }
                let steps = world.legal_step_count();
                match steps + scratch.len() {
                    0 => Event::Update(self.lists[below(3)].clone()),
                    count => match below(count) {
                        at if at < steps => match world.legal_step(at) {
                            Some((name, step)) => Event::Step(step, name, None),
                            None => Event::Wake,
                        },
                        at => scratch.swap_remove(at - steps),
                    },
                }
            }
        }
    }
}

/// What servers can say to the policy's calls.
fn answers(world: &World, into: &mut Vec<Event>) {
    let mut on: Vec<Arc<str>> = {
        let inner = world.shared.lock();
        let on = inner.calls.iter().filter_map(|call| call.sub);
        on.map(|sub| inner.subs[sub.index()].name.clone()).collect()
    };
    on.dedup();
    for name in on {
        into.push(Event::CallMessage(name.clone(), Vec::new()));
        into.push(Event::CallEnd(name.clone(), Code::Ok));
        into.push(Event::CallEnd(name, Code::Unavailable));
    }
}

/// What scripted children can do.
fn acts(world: &World, into: &mut Vec<Event>) {
    let actors = world.shared.lock().cast.actors.clone();
    for actor in &actors {
        let state = actor.lock().state;
        let mut offer = |act: Act| {
            if actor.refuses(&act).is_none() {
                into.push(Event::Child(actor.label.clone(), act));
            }
        };
        for next in [State::Idle, State::Connecting] {
            if state != Some(next) {
                offer(Act::Publish(next));
            }
        }
        offer(Act::Publish(State::Ready));
        offer(Act::Publish(State::TransientFailure));
        offer(Act::Late);
        let (busy, ready) = {
            let inner = actor.lock();
            let mut parts = inner.subs.iter();
            let ready = parts.find(|part| part.state == State::Ready);
            (
                !inner.timers.is_empty(),
                ready.map(|part| part.name.clone()),
            )
        };
        if !busy {
            offer(Act::Timer(Duration::from_secs(10)));
        }
        if let Some(name) = ready
            && actor.lock().calls.is_empty()
        {
            offer(Act::Call(name.into()));
        }
    }
}

/// The current list with one thing changed: what a resolver does most.
fn vary(list: &List, below: &mut impl FnMut(usize) -> usize) -> Event {
    let text = list.to_string();
    let mut names: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if names.is_empty() {
        return Event::Again;
    }
    let at = below(names.len());
    let plain = |name: &str| {
        name.split(['@', '#', '%'])
            .next()
            .unwrap_or(name)
            .to_owned()
    };
    match below(9) {
        0 => names[at] = turned(&names[at]),
        1 => names.rotate_left(1),
        2 => drop(names.remove(at)),
        3 => names.push(names[at].clone()),
        4 => names[at] = format!("{}@{}", plain(&names[at]), below(3)),
        5 => names[at] = format!("{}#{}", plain(&names[at]), below(3)),
        6 => names[at] = plain(&names[at]),
        7 => names[at] = format!("{}%{}", plain(&names[at]), below(3)),
        _ => names.insert(at, ["d", "e", "a+b", "b+c"][below(4)].to_owned()),
    }
    Event::Update(List::named(names))
}

/// The same addresses the other way round.
fn turned(name: &str) -> String {
    let turned: Vec<&str> = name.rsplit('+').collect();
    turned.join("+")
}
