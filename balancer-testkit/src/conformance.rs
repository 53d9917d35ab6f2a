//! The suite: every finder on one policy, one test per family of laws.

use std::{
    env,
    process::Command,
    sync::{Arc, OnceLock},
};

use balancer_api::Builder;

use crate::{
    Event, Exploration, Failure, Family, Knobs, Law, LawSet, PassThrough, Profile, Scenario,
    Violation,
    find::{Trial, by_rote, done_keeps_books, explore, fairness, guided, search, threads_agree},
};

/// Everything the kit can do about one policy. Made by
/// [`conformance!`](crate::conformance); also usable by hand.
///
/// The finders run once, when the first family is asked for; each family then answers for its own
/// laws.
pub struct Conformance {
    builder: Arc<dyn Builder>,
    profile: Profile,
    knobs: Knobs,
    findings: OnceLock<Findings>,
}

/// What the finders found.
#[derive(Debug, Default)]
struct Findings {
    failures: Vec<Found>,
    report: String,
}

#[derive(Debug)]
struct Found {
    failure: Failure,
    how: String,
}

/// How many broken laws are looked for before the rest is left alone.
const ENOUGH: usize = 4;

/// Set in the process that only has to say what its logs come to.
const DIGEST: &str = "BALANCER_KIT_DIGEST";

// === impl Conformance ===

impl Conformance {
    /// The suite for `builder`, with the settings of the environment.
    pub fn new(builder: impl Builder + 'static, profile: Profile) -> Self {
        Self::with_knobs(builder, profile, Knobs::from_env())
    }

    /// As [`new`](Self::new), with other settings.
    pub fn with_knobs(builder: impl Builder + 'static, profile: Profile, knobs: Knobs) -> Self {
        Self {
            builder: Arc::new(builder),
            profile,
            knobs,
            findings: OnceLock::new(),
        }
    }

    /// Whether every law of `family` is kept.
    ///
    /// # Panics
    /// One is not: the message has the law, the shortest script found, and the conversation.
    pub fn check(&self, family: Family) {
        if env::var_os(DIGEST).is_some() {
            // The second process has said what it was started for; the first finds the rest.
            return;
        }
        if let Some(script) = &self.knobs.script {
            self.replay(script);
            return;
        }
        match family {
            Family::Fairness | Family::Threads | Family::Done => self.check_trial(family),
            Family::Determinism => {
                if let Err(violation) = self.try_digests() {
                    panic!("{}:\n{violation}", self.builder.name());
                }
            }
            _ => {}
        }
        let findings = self.findings();
        println!("{}", findings.report);
        let mine = |found: &&Found| found.failure.violation.law.family() == family;
        if let Some(found) = findings.failures.iter().find(mine) {
            let name = self.builder.name();
            panic!("{name}, {}:\n{}", found.how, found.failure);
        }
    }

    /// The first law that is found broken, whatever its family.
    pub fn first_failure(&self) -> Option<Failure> {
        let mut report = String::new();
        if let Some(found) = self.find_one(self.profile.laws, &mut report) {
            return Some(found.failure);
        }
        let families = [Family::Fairness, Family::Done, Family::Threads];
        let violation = families
            .into_iter()
            .find_map(|family| self.try_trial(family).err());
        let violation = violation.or_else(|| self.try_digests().err())?;
        Some(Failure {
            violation,
            script: Scenario::default(),
            found_with: 0,
            conversation: String::new(),
        })
    }

    /// Every law that was found broken, each with its shortest script.
    pub fn failures(&self) -> Vec<Failure> {
        let findings = self.findings();
        let mut failures: Vec<Failure> = findings
            .failures
            .iter()
            .map(|found| found.failure.clone())
            .collect();
        for family in [Family::Fairness, Family::Threads, Family::Done] {
            if let Err(violation) = self.try_trial(family) {
                failures.push(Failure {
                    violation,
                    script: Scenario::default(),
                    found_with: 0,
                    conversation: String::new(),
                });
            }
        }
        failures
    }

    /// Two processes must say the same of the same scripts. `test` is the path of the test that
    /// calls this, which is started again in another process.
    ///
    /// # Panics
    /// They do not.
    pub fn check_two_processes(&self, test: &str) {
        if !self.profile.laws.has(Law::Deterministic) || self.knobs.script.is_some() {
            return;
        }
        let here = self.digest();
        if env::var_os(DIGEST).is_some() {
            println!("digest {here:016x}");
            return;
        }
        let Ok(program) = env::current_exe() else {
            println!("SKIPPED: this process does not know its program");
            return;
        };
        let output = Command::new(program)
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIGEST, "1")
            .output();
        let output = match output {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => {
                println!("SKIPPED: no second process: {error}");
                return;
            }
        };
        let there = output
            .lines()
            .find_map(|line| line.split("digest ").nth(1))
            .unwrap_or_else(|| panic!("the second process says no digest: {output}"));
        assert_eq!(
            there.trim(),
            format!("{here:016x}"),
            "law `{}`: the same scripts gave another log in another process",
            Law::Deterministic
        );
    }

    /// What `scenario` runs on: with scripted children where it has them do something.
    fn trials_for(&self, scenario: &Scenario, laws: LawSet) -> Vec<Trial> {
        let acts = |event: &Event| matches!(event, Event::Child(..));
        let scripted = self.profile.scripted(&self.builder);
        let (builder, profile) = match scripted {
            Some(scripted) if scenario.events().iter().any(acts) => scripted,
            _ => (self.builder.clone(), self.profile.clone()),
        };
        let profile = Arc::new(profile);
        let laws = laws.and(profile.laws);
        let setups = profile.setups().into_iter();
        setups
            .map(|setup| Trial::new(builder.clone(), profile.clone(), setup, laws))
            .collect()
    }

    fn trials(&self) -> Vec<Trial> {
        let profile = Arc::new(self.profile.clone());
        let setups = profile.setups().into_iter();
        let laws = self.profile.laws;
        setups
            .map(|setup| Trial::new(self.builder.clone(), profile.clone(), setup, laws))
            .collect()
    }

    fn check_trial(&self, family: Family) {
        match self.try_trial(family) {
            Ok(picks) => println!("{} picks", picks),
            Err(violation) => panic!("{}:\n{violation}", self.builder.name()),
        }
    }

    fn try_trial(&self, family: Family) -> Result<usize, Violation> {
        let seed = self.knobs.seed;
        let mut picks = 0;
        for trial in self.trials() {
            picks += match family {
                Family::Fairness => fairness(&trial, seed)?,
                Family::Threads => threads_agree(&trial, seed)?,
                Family::Done => done_keeps_books(&trial, seed)?,
                _ => 0,
            };
        }
        Ok(picks)
    }

    /// What the logs of some random scripts come to.
    fn digest(&self) -> u64 {
        let mut sum = 0u64;
        for trial in self.trials() {
            for seed in 0..20 {
                let trial = trial.seeded(seed);
                let (events, ..) = guided(&trial, seed, self.knobs.length);
                sum = sum.rotate_left(7).wrapping_add(trial.digest(&events));
            }
        }
        sum
    }

    fn try_digests(&self) -> Result<(), Violation> {
        if !self.profile.laws.has(Law::Deterministic) {
            return Ok(());
        }
        for trial in self.trials() {
            for seed in 0..20 {
                let trial = trial.seeded(seed);
                let (events, ..) = guided(&trial, seed, self.knobs.length);
                if trial.digest(&events) != trial.digest(&events) {
                    let script = Scenario::new(events);
                    return Err(Violation {
                        law: Law::Deterministic,
                        message: format!("seed {seed} gave two different logs of:\n{script}"),
                    });
                }
            }
        }
        Ok(())
    }

    fn replay(&self, script: &str) {
        let scenario: Scenario = script
            .parse()
            .unwrap_or_else(|error| panic!("BALANCER_KIT_SCRIPT: {error}"));
        for trial in self.trials_for(&scenario, self.profile.laws) {
            let ran = trial.run(scenario.events());
            println!("{}", ran.conversation);
            if let Some(violation) = ran.violation {
                panic!(
                    "{}:\n{violation}\n{}",
                    self.builder.name(),
                    ran.conversation
                );
            }
        }
    }

    fn findings(&self) -> &Findings {
        self.findings.get_or_init(|| self.find())
    }

    /// Runs the finders, again without each law that they found broken.
    fn find(&self) -> Findings {
        let mut findings = Findings::default();
        let mut laws = self.profile.laws;
        while findings.failures.len() < ENOUGH {
            let Some(found) = self.find_one(laws, &mut findings.report) else {
                break;
            };
            laws = laws.without(found.failure.violation.law);
            findings.failures.push(found);
        }
        findings
    }

    fn find_one(&self, laws: LawSet, report: &mut String) -> Option<Found> {
        let profile = &self.profile;
        for text in &self.profile.regressions {
            let scenario: Scenario = text
                .parse()
                .unwrap_or_else(|error| panic!("a stored regression: {error}"));
            for trial in self.trials_for(&scenario, laws) {
                if let Some(violation) = trial.judge(scenario.events()) {
                    let failure = trial.failure(scenario.events(), violation);
                    let how = "a stored regression is back".to_owned();
                    return Some(Found { failure, how });
                }
            }
        }
        let Knobs {
            depth,
            cases,
            length,
            seed,
            threads,
            ..
        } = self.knobs;
        let explored = explore(self.builder.clone(), profile, laws, depth, threads);
        *report = format!(
            "{}\nexhaustive to depth {depth}: {} scripts, {} events, {} renamed ones left out\n",
            Exploration::alphabet(),
            explored.scripts,
            explored.events,
            explored.renamed
        );
        if let Some(failure) = explored.failure {
            let how = format!("exhaustive to depth {depth}");
            return Some(Found { failure, how });
        }
        let searched = search(self.builder.clone(), profile, laws, seed, cases, length);
        report.push_str(&format!(
            "random from seed {seed}: {} scripts, {} events\n",
            searched.scripts, searched.events
        ));
        if let Some((seed, failure)) = searched.failure {
            let how = format!("random script of seed {seed}");
            return Some(Found { failure, how });
        }
        // Last, since what chance finds is shorter.
        if let Some(failure) = by_rote(&self.builder, profile, laws) {
            let how = "a script for every policy".to_owned();
            return Some(Found { failure, how });
        }
        // As a child of a child it must be as right.
        let nested = PassThrough::around(Arc::new(PassThrough::around(self.builder.clone())));
        let nested: Arc<dyn Builder> = Arc::new(nested);
        let explored = explore(nested.clone(), profile, laws, depth.min(2), threads);
        let searched = search(nested, profile, laws, seed, cases / 4, length);
        report.push_str(&format!(
            "as a child of a child: {} scripts, {} events\n",
            explored.scripts + searched.scripts,
            explored.events + searched.events
        ));
        let failure = explored
            .failure
            .or(searched.failure.map(|(_, found)| found));
        if let Some(failure) = failure {
            let how = "inside of two pass-through policies".to_owned();
            return Some(Found { failure, how });
        }
        self.find_scripted(laws, report)
    }

    /// A composite with children that do what scripts say.
    fn find_scripted(&self, laws: LawSet, report: &mut String) -> Option<Found> {
        let (builder, mut profile) = self.profile.scripted(&self.builder)?;
        profile.laws = profile.laws.and(laws);
        let Knobs {
            depth,
            cases,
            length,
            seed,
            threads,
            ..
        } = self.knobs;
        let laws = profile.laws;
        let depth = depth.saturating_sub(1);
        let explored = explore(builder.clone(), &profile, laws, depth, threads);
        let searched = search(builder, &profile, laws, seed, cases, length);
        report.push_str(&format!(
            "with scripted children, to depth {depth} and random: {} scripts, {} events\n",
            explored.scripts + searched.scripts,
            explored.events + searched.events
        ));
        let failure = explored
            .failure
            .or(searched.failure.map(|(_, found)| found));
        failure.map(|failure| Found {
            failure,
            how: "with scripted children".to_owned(),
        })
    }
}

impl std::fmt::Debug for Conformance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conformance")
            .field("policy", &self.builder.name())
            .field("profile", &self.profile)
            .field("knobs", &self.knobs)
            .finish_non_exhaustive()
    }
}

/// Proves a policy right, or prints the shortest script that breaks it: one test per family of
/// laws.
///
/// `conformance!(builder, profile)` makes a module `conformance`; put a name in front for another
/// one, where several policies are proven in one file: `conformance!(pick_first: builder, profile)`.
/// Without a profile the policy is held to [`Profile::spreads`]. The builder is any expression of
/// a type that implements [`Builder`](balancer_api::Builder). Which profile is right for which
/// policy: [`Profile`].
///
/// Name the module like nothing that the builder's expression mentions: a module `wander` hides a
/// crate or module `wander` from it. `conformance!(wander_laws: wander::builder(), ..)` is safe.
///
/// The laws hold for every policy; what is special about yours they do not know. The finders do fire
/// its timers, answer its calls and end its RPCs in every way, but what should come of that is
/// yours to say: write a story ([`Script`](crate::Script)) for each timer, each call and each thing that it learns
/// from the end of an RPC.
///
/// ```
/// # use balancer_api::{base::*, *};
/// # use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
/// # struct RoundRobin(Arc<AtomicUsize>);
/// # struct RoundRobinPicker(ReadySet, Arc<AtomicUsize>);
/// # impl PickerBuilder for RoundRobin {
/// #     type Data = ();
/// #     fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
/// #     fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
/// #         Arc::new(RoundRobinPicker(ready.clone(), self.0.clone()))
/// #     }
/// # }
/// # impl Picker for RoundRobinPicker {
/// #     fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
/// #         let turn = self.1.fetch_add(1, Ordering::Relaxed) % self.0.len();
/// #         Ok(Pick::new(self.0.get(turn).unwrap().sub_conn()))
/// #     }
/// # }
/// # fn my_builder() -> impl Builder { BaseBuilder::new("mine", || RoundRobin(Arc::default())) }
/// balancer_testkit::conformance!(my_builder());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance {
    ($builder:expr $(,)?) => {
        $crate::conformance!(conformance: $builder, $crate::Profile::spreads());
    };
    ($name:ident : $builder:expr $(,)?) => {
        $crate::conformance!($name: $builder, $crate::Profile::spreads());
    };
    ($builder:expr, $profile:expr $(,)?) => {
        $crate::conformance!(conformance: $builder, $profile);
    };
    ($name:ident : $builder:expr, $profile:expr $(,)?) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[allow(dead_code, reason = "its callers are tests, which a plain build leaves out")]
            fn suite() -> &'static $crate::Conformance {
                static SUITE: ::std::sync::OnceLock<$crate::Conformance> =
                    ::std::sync::OnceLock::new();
                SUITE.get_or_init(|| $crate::Conformance::new($builder, $profile))
            }

            $crate::conformance!(@families
                picks Picks, states States, connections Connections, resolver Resolver,
                pickers Pickers, done Done, close Close, cost Cost,
                liveness Liveness, fairness Fairness, threads Threads, composite Composite,
                differential Differential
            );

            #[test]
            fn determinism() {
                let path = concat!(module_path!(), "::determinism");
                let test = path.split_once("::").map_or(path, |(_, test)| test);
                suite().check_two_processes(test);
                suite().check($crate::Family::Determinism);
            }
        }
    };
    (@families $($test:ident $family:ident),+) => {
        $(
            #[test]
            fn $test() {
                suite().check($crate::Family::$family);
            }
        )+
    };
}
