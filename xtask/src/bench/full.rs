//! The whole pass: everybody, every load, the policy, the document.

use anyhow::{Result, bail, ensure};

use super::{
    CHANNEL, Options, POLICY, bars, channel,
    counts::{self, Counted},
    document::{self, Found},
    go::Go,
    held::Rows,
    machine::Machine,
    plan::{BACKENDS, BALANCE_LIST, CONTENDERS, FLOOR, OURS, SCENARIOS, Scenario},
    policy, profile,
    rounds::{self, Effort, Progress},
    run::{Binaries, Job, Server, answers, has_valgrind},
    stats::Verdict,
};
use crate::{report::Outcome, workspace::Workspace};

/// What a quick pass is content with.
const QUICK: Effort = Effort {
    rounds: 5,
    millis: 200,
};

/// Milliseconds of one run of a full pass.
const MILLIS: u64 = 250;

/// Loads of a quick pass are counted, and timed, here only.
const QUICK_SCENARIOS: &[&str] = &["c64", "c1", "64KiB", "streaming", "tls"];

/// What the document says of a run that failed; why is on the terminal, with the machine's paths.
const FAILED: &str = "its run did not end well";

/// Whose instructions are told apart.
const PROFILED: &[&str] = &[OURS, FLOOR, BALANCE_LIST];

/// Runs it.
///
/// # Errors
/// A bar is missed, or something could not be run.
pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::pass();
    let machine = Machine::look(workspace);
    println!("{}", machine.describe());
    let effort = Effort {
        rounds: options
            .rounds
            .unwrap_or(if options.quick { QUICK.rounds } else { 20 }),
        millis: if options.quick { QUICK.millis } else { MILLIS },
    };
    ensure!(effort.rounds > 0, "no round measures nothing");
    let mut absent = Vec::new();
    let mut leave_out = |what: &str, why: String| {
        println!("{what} is absent: {why}");
        absent.push(format!("{what}: {why}"));
        outcome.absorb(Outcome::skip(format!("bench, {what}"), why));
    };

    let features: &[&str] = if answers("cmake", "--version") {
        &["rivals", "pingora"]
    } else {
        leave_out(
            "pingora",
            "building it takes cmake, which is not installed".into(),
        );
        &["rivals"]
    };
    let binaries = Binaries::build(workspace, features)?;
    let go = match options.go.then(|| Go::build(workspace)) {
        Some(Ok(go)) => {
            println!("{}", go.describe());
            Some(go)
        }
        Some(Err(why)) => {
            println!("{why:#}");
            leave_out("grpc-go", "it could not be built".into());
            None
        }
        None => {
            leave_out("grpc-go", "it joins with --go".into());
            None
        }
    };
    let callgrind = options.instructions && has_valgrind();
    if options.instructions && !callgrind {
        leave_out("instructions", "valgrind is not installed".into());
    } else if !callgrind {
        leave_out(
            "instructions",
            "they are counted with --instructions".into(),
        );
    }

    let scenarios: Vec<&'static Scenario> = SCENARIOS
        .iter()
        .filter(|one| !options.quick || QUICK_SCENARIOS.contains(&one.name))
        .filter(|one| options.wants(one.name))
        .collect();
    let turns: usize = scenarios.iter().map(|one| one.contenders().count()).sum();
    let go_turns = go.iter().count() * scenarios.iter().filter(|one| one.has_go()).count();
    let rounds = (turns + go_turns) * effort.rounds;
    let mut progress = Progress::new(rounds + turns + policy::STEPS + channel::STEPS);

    let scratch = tempfile::tempdir()?;
    let plain = Server::start(&binaries, BACKENDS, None)?;
    let secure = Server::start(&binaries, BACKENDS, Some(scratch.path().join("ca.pem")))?;
    let server = |scenario: &Scenario| if scenario.tls { &secure } else { &plain };

    let mut found = Found {
        machine,
        effort,
        quick: options.quick,
        go: go.as_ref().map(Go::describe),
        timed: Vec::new(),
        counted: Vec::new(),
        profiles: Vec::new(),
        policy: policy::Policy::default(),
        channel: Rows::default(),
        promises: Vec::new(),
        absent: Vec::new(),
    };
    for scenario in &scenarios {
        let timed = rounds::run(
            &binaries,
            scenario,
            server(scenario),
            go.as_ref(),
            effort,
            &mut progress,
            |timed| bars::unsure(timed, go.as_ref()),
        );
        found.promises.extend(bars::of_times(&timed, go.as_ref()));
        for (name, why) in &timed.absent {
            println!("{why}");
            leave_out(&format!("{name} under {}", scenario.name), FAILED.into());
        }
        found.timed.push(timed);
    }
    if options.wants(POLICY) {
        let go = go.as_ref().map(|go| (go, &plain));
        found.policy = policy::run(&binaries, features, go, callgrind, effort, &mut progress)?;
        for what in &found.policy.absent {
            leave_out(what, FAILED.into());
        }
    }
    if options.wants(CHANNEL) {
        found.channel = channel::run(&binaries, effort, &mut progress)?;
    }
    // Last: whoever comes to the machine from here on changes nothing.
    for scenario in &scenarios {
        let counted: Counted = counts::run(
            &binaries,
            scenario,
            server(scenario),
            callgrind,
            &mut progress,
        );
        found.promises.extend(bars::of_counts(&counted));
        for (name, why) in &counted.absent {
            println!("{why}");
            let what = format!("{name}'s counts under {}", scenario.name);
            leave_out(&what, FAILED.into());
        }
        found.counted.push(counted);
    }
    let first = scenarios
        .first()
        .filter(|one| one.name == SCENARIOS[0].name);
    if let Some(first) = first.filter(|_| callgrind) {
        for contender in CONTENDERS.iter().filter(|one| PROFILED.contains(&one.name)) {
            let job = Job {
                contender: contender.name,
                scenario: first,
                server: server(first),
            };
            let parts = profile::run(&binaries, job, scratch.path())?;
            found.profiles.push((contender.name, parts));
        }
    }
    drop(progress);
    found.absent = absent;

    println!("\n{}", document::figures(&found));
    let only: Vec<&str> = options.only.iter().map(String::as_str).collect();
    if options.no_write || (!only.is_empty() && !callgrind) {
        println!("docs/performance.md is as it was");
    } else if only.is_empty() {
        document::write(workspace.root(), &found)?;
    } else {
        document::write_again(workspace.root(), &found, &only)?;
    }
    judge(&found)?;
    Ok(outcome)
}

/// Adds up the verdicts.
fn judge(found: &Found) -> Result<()> {
    let unmeasured = found.timed.iter().flat_map(|timed| &timed.absent);
    let uncounted = found.counted.iter().flat_map(|counted| &counted.absent);
    let mut ours = unmeasured.chain(uncounted).map(|(name, _)| *name);
    if let Some(name) = ours.find(|name| [OURS, FLOOR].contains(name)) {
        bail!("{name} was not measured everywhere, so nothing is proven");
    }
    let promises = found.promises.iter().map(|one| (&one.what, one.verdict()));
    let held = found.policy.rows.0.iter().chain(&found.channel.0);
    let held = held.filter_map(|one| Some((&one.what, one.is.against(one.bar?))));
    let verdicts: Vec<_> = promises.chain(held).collect();
    let count = |wanted| verdicts.iter().filter(|(_, is)| *is == wanted).count();
    println!(
        "{} bars met, {} inconclusive, {} missed",
        count(Verdict::Pass),
        count(Verdict::Inconclusive),
        count(Verdict::Fail)
    );
    let missed: Vec<&str> = verdicts
        .iter()
        .filter(|(_, is)| *is == Verdict::Fail)
        .map(|(what, _)| what.as_str())
        .collect();
    if !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}
