//! Every short script over a fixed alphabet.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use balancer_api::Builder;

use super::{
    Failure, Trial,
    alphabet::{LISTS, Letters},
};
use crate::{Event, LawSet, Move, Profile, Violation};

/// What an exhaustive exploration came to.
#[derive(Debug, Default)]
pub struct Exploration {
    /// How many different scripts were run, each to its end and with the world turned good.
    pub scripts: usize,
    /// How many events happened in them, those of repeated beginnings and those that end each
    /// script included.
    pub events: usize,
    /// How many scripts were another one with its endpoints renamed, and so not run.
    pub renamed: usize,
    /// The first script found that broke a law.
    pub failure: Option<Failure>,
}

/// How many scripts are remembered to tell renamed ones; beyond that they are run again.
const REMEMBERED: usize = 4_000_000;

/// Runs every script of up to `depth` events after each beginning, over the alphabet that
/// [`Exploration::alphabet`] prints, in the reconnect modes that the profile claims.
///
/// Scripts that differ only in the names of endpoints count as one. Nothing else is merged: what a
/// policy looks like from outside says nothing of what it remembers.
pub fn explore(
    builder: Arc<dyn Builder>,
    profile: &Profile,
    laws: LawSet,
    depth: usize,
    threads: usize,
) -> Exploration {
    let profile = Arc::new(profile.clone());
    let mut sum = Exploration::default();
    for setup in profile.setups() {
        // Any seed will do, but random policies must not see zeros only.
        let trial = Trial::new(builder.clone(), profile.clone(), setup, laws).seeded(1);
        for (at, start) in starts().into_iter().enumerate() {
            // The later beginnings are some events deep already.
            let depth = if at == 0 {
                depth
            } else {
                depth.saturating_sub(1)
            };
            let part = explore_from(&trial, &start, depth, threads);
            sum.scripts += part.scripts;
            sum.events += part.events;
            sum.renamed += part.renamed;
            if part.failure.is_some() {
                sum.failure = part.failure;
                return sum;
            }
        }
    }
    sum
}

/// The beginnings: nothing; all three backends READY; all three failed; endpoints with several
/// addresses and another peer at one of them, READY.
pub(super) fn starts() -> [Vec<Event>; 4] {
    let all = |list: &str, moves: &[Move]| {
        let mut events = vec![Event::update(list)];
        for name in list.split_whitespace() {
            events.extend(moves.iter().map(|step| Event::step(*step, name)));
        }
        events
    };
    [
        Vec::new(),
        all("a b c", &[Move::Connecting, Move::Ready]),
        all("a b c", &[Move::Connecting, Move::Failed]),
        all("a+b a#1", &[Move::Connecting, Move::Ready]),
    ]
}

struct Shared<'a> {
    trial: &'a Trial,
    letters: Letters,
    start: &'a [Event],
    depth: usize,
    /// The second-level scripts that the threads share among them.
    work: Mutex<Vec<Vec<Event>>>,
    broken: AtomicBool,
    found: Mutex<Option<(Vec<Event>, Violation)>>,
    scripts: AtomicUsize,
    events: AtomicUsize,
    renamed: AtomicUsize,
}

fn explore_from(trial: &Trial, start: &[Event], depth: usize, threads: usize) -> Exploration {
    let shared = Shared {
        trial,
        letters: Letters::new(),
        start,
        depth,
        work: Mutex::default(),
        broken: AtomicBool::new(false),
        found: Mutex::new(None),
        scripts: AtomicUsize::new(0),
        events: AtomicUsize::new(0),
        renamed: AtomicUsize::new(0),
    };
    // The first level here, shortest scripts first; the rest in parallel.
    let mut walker = Walker::new(&shared);
    walker.visit_root();
    if threads <= 1 {
        walker.work_off();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| Walker::new(&shared).work_off());
            }
        });
    }
    let found = shared
        .found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Exploration {
        scripts: shared.scripts.into_inner(),
        events: shared.events.into_inner(),
        renamed: shared.renamed.into_inner(),
        failure: found.map(|(events, violation)| trial.failure(&events, violation)),
    }
}

struct Walker<'a> {
    shared: &'a Shared<'a>,
    seen: HashSet<u64>,
    path: Vec<Event>,
}

impl<'a> Walker<'a> {
    fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            seen: HashSet::new(),
            path: shared.start.to_vec(),
        }
    }

    /// Runs the beginning and each script of one letter, and leaves their successors as work.
    fn visit_root(&mut self) {
        let letters = self.run(true, self.shared.depth > 0);
        for letter in letters {
            self.path.push(letter);
            let is_new = self.is_new();
            let next = self.run(is_new, self.shared.depth > 1);
            if self.shared.depth > 1 {
                let mut work = self
                    .shared
                    .work
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                for letter in next {
                    let mut path = self.path.clone();
                    path.push(letter);
                    work.push(path);
                }
            }
            self.path.pop();
        }
    }

    fn work_off(&mut self) {
        loop {
            let next = self
                .shared
                .work
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let Some(path) = next else {
                return;
            };
            self.path = path;
            self.visit(self.shared.depth - 2);
            if self.shared.broken.load(Relaxed) {
                return;
            }
        }
    }

    /// This script, and all that go on from it with up to `more` letters.
    fn visit(&mut self, more: usize) {
        if self.shared.broken.load(Relaxed) {
            return;
        }
        let is_new = self.is_new();
        if !is_new {
            self.shared.renamed.fetch_add(1, Relaxed);
        }
        for letter in self.run(is_new, more > 0) {
            self.path.push(letter);
            self.visit(more - 1);
            self.path.pop();
        }
    }

    /// Runs this script: to its end if it is `judged`, and what can happen next if that is asked.
    fn run(&mut self, judged: bool, letters: bool) -> Vec<Event> {
        if !judged && !letters {
            return Vec::new();
        }
        let (mut world, verdict) = self.shared.trial.world();
        // Every beginning was judged as a script of its own. The last event but one is judged again:
        // its pickers are the old ones of what follows.
        let known = self.path.len().saturating_sub(2);
        world.keep_up_only(true);
        let trial = self.shared.trial;
        let mut happened = trial.play(&mut world, &verdict, &self.path[..known]);
        world.keep_up_only(false);
        if !verdict.is_broken() {
            happened += trial.play(&mut world, &verdict, &self.path[known..]);
        }
        self.shared.events.fetch_add(happened, Relaxed);
        let mut next = Vec::new();
        if letters && !verdict.is_broken() && !world.is_closed() {
            self.shared.letters.next(
                &world,
                &self.shared.trial.profile,
                self.path.is_empty(),
                &mut next,
            );
        }
        if judged {
            self.shared.scripts.fetch_add(1, Relaxed);
            let (ending, violation) = self.shared.trial.finish(world, &verdict);
            self.shared.events.fetch_add(ending, Relaxed);
            if let Some(violation) = violation {
                self.shared.broken.store(true, Relaxed);
                let mut found = self
                    .shared
                    .found
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                found.get_or_insert_with(|| (self.path.clone(), violation));
            }
        }
        next
    }

    /// Whether no script like this one was met, endpoints renamed.
    fn is_new(&mut self) -> bool {
        // A beginning fixes the names.
        if !self.shared.start.is_empty() || self.seen.len() >= REMEMBERED {
            return true;
        }
        let mut names: Vec<u8> = Vec::new();
        let mut rename = |c: u8| -> u8 {
            if !c.is_ascii_lowercase() {
                return c;
            }
            match names.iter().position(|known| *known == c) {
                Some(at) => at as u8,
                None => {
                    names.push(c);
                    (names.len() - 1) as u8
                }
            }
        };
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for event in &self.path {
            match event {
                Event::Update(list) => {
                    eat(1);
                    for endpoint in list.endpoints().iter() {
                        for address in endpoint.addresses() {
                            address.addr().bytes().for_each(|c| eat(rename(c)));
                        }
                        eat(2);
                    }
                }
                Event::Step(step, name, _) => {
                    eat(3);
                    eat(*step as u8);
                    name.bytes().for_each(|c| eat(rename(c)));
                }
                other => {
                    eat(4);
                    other.to_string().bytes().for_each(&mut eat);
                }
            }
        }
        self.seen.insert(hash)
    }
}

// === impl Exploration ===

impl Exploration {
    /// The alphabet, for people.
    pub fn alphabet() -> String {
        let lists: Vec<String> = LISTS.iter().map(|list| format!("[{list}]")).collect();
        format!(
            "beginnings: nothing; [a b c] all READY; [a b c] all failed; [a+b a#1] all READY (one \
             event less after these)\n\
             letters: lists {}; the same list again, and with the addresses of each endpoint turned \
             round; a resolver error; every legal move of each \
             SubConn that lives; the earliest timer; answers to open calls (message, OK, \
             UNAVAILABLE); exit_idle, and a lazy policy's pick, while IDLE is reported; an RPC that \
             fails, where the policy wants to know and READY is reported",
            lists.join(" ")
        )
    }
}
