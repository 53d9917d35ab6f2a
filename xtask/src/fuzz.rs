//! `cargo xtask fuzz`: every text, peer and script that nobody thought of, as property tests on a stable
//! compiler, in numbers.

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::conformance;
use crate::reliability::{Programs, Test};
use crate::report::Outcome;
use crate::workspace::Workspace;

/// Runs every fuzz target with so many cases. The same targets run with a few hundred among the tests of
/// their crates. What a failure prints replays it.
#[derive(Debug, Args)]
pub struct Options {
    /// Cases of each property, and scripts of each policy.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    cases: u32,
    /// This target only; may be given more than once.
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
}

/// A target: properties that belong together.
#[derive(Debug)]
pub struct Target {
    /// What `--target` calls it.
    pub name: &'static str,
    /// What is made up, and what must hold.
    pub what: &'static str,
    /// Where the properties are.
    pub tests: &'static [Test],
}

/// The policies whose operations are made up: those that ship.
const POLICIES: &[&str] = &["balancer-roundrobin", "balancer-pickfirst"];

/// The name of the target that is not a property test but the kit's own finder.
const POLICY_OPS: &str = "policy-ops";

/// The targets, but that of the policies.
pub const TARGETS: &[Target] = &[
    Target {
        name: "config-bytes",
        what: "service configs of any bytes and shreds: an answer, in bounded time and words",
        tests: &[Test::new(
            "balancer-registry",
            "properties",
            &[
                "any_bytes_get_an_answer",
                "any_shreds_get_an_answer",
                "the_scan_and_another_parser_agree",
            ],
        )],
    },
    Target {
        name: "config-trees",
        what: "service configs of any tree: what is valid is read, one wrong field is named",
        tests: &[Test::new(
            "balancer-registry",
            "properties",
            &[
                "a_tree_reaches",
                "a_valid_config",
                "one_wrong_field",
                "one_repeated_key",
                "what_is_cut_off",
            ],
        )],
    },
    Target {
        name: "peer-bytes",
        what: "HTTP/2 peers that say anything: no panic, no hang, one end",
        tests: &[Test::new(
            "balancer-channel",
            "balancer-channel",
            &["fuzz::any_peer_is_survived"],
        )],
    },
    Target {
        name: "frames",
        what: "the readers of frame headers: any bytes, any cuts, the same as a decoder",
        tests: &[Test::new(
            "balancer-channel",
            "balancer-channel",
            &[
                "tests::sniff::",
                "fuzz::the_sniffer_and_a_decoder_agree",
                "limit::tests::",
            ],
        )],
    },
    Target {
        name: "targets",
        what: "targets, addresses and proxies: an answer; valid authorities; as the standard library",
        tests: &[Test::new(
            "balancer-channel",
            "balancer-channel",
            &[
                "fuzz::any_target",
                "fuzz::addresses_are_those",
                "fuzz::any_proxy",
            ],
        )],
    },
    Target {
        name: "trailers",
        what: "statuses, their messages and details, load reports: read as tonic reads them",
        tests: &[Test::new(
            "balancer-channel",
            "balancer-channel",
            &[
                "fuzz::any_trailers",
                "fuzz::a_status_that_is_written",
                "fuzz::any_load_report",
            ],
        )],
    },
    Target {
        name: "durations",
        what: "durations, time-outs and pushback: what is written is read, never shorter",
        tests: &[
            Test::new("balancer-api", "config", &["durations_come_back"]),
            Test::new(
                "balancer-channel",
                "balancer-channel",
                &["fuzz::a_timeout", "fuzz::any_timeout", "pushback::tests::"],
            ),
        ],
    },
];

/// Runs the command.
///
/// # Errors
/// A property does not hold, there is no such target, or something does not build.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let known = || TARGETS.iter().map(|target| target.name).chain([POLICY_OPS]);
    for name in &options.target {
        if !known().any(|known| known == name) {
            let known: Vec<&str> = known().collect();
            bail!("--target: {name}: must be one of {}", known.join(", "));
        }
    }
    let wanted = |name: &str| options.target.is_empty() || options.target.iter().any(|t| t == name);
    let mut broken = properties(workspace, options.cases, &wanted)?;
    if wanted(POLICY_OPS) {
        let cases = options.cases;
        println!("\n--- {POLICY_OPS}: {cases} scripts of each shipped policy");
        if let Err(error) = conformance::random(workspace, POLICIES, cases.into()) {
            println!("{error:#}");
            broken.push(POLICY_OPS);
        }
    }
    match &broken[..] {
        [] => Ok(Outcome::pass()),
        broken => bail!("these do not hold: {}", broken.join(", ")),
    }
}

/// Runs the properties that are wanted, prints a table and answers those that do not hold.
///
/// # Errors
/// They do not build.
pub fn properties(
    workspace: &Workspace,
    cases: u32,
    wanted: &impl Fn(&str) -> bool,
) -> Result<Vec<&'static str>> {
    let targets: Vec<&Target> = TARGETS.iter().filter(|t| wanted(t.name)).collect();
    let packages = targets.iter().flat_map(|target| target.tests);
    let packages = packages.map(|test| test.package).collect();
    let programs = Programs::of(workspace, packages, false)?;
    let mut lines = Vec::new();
    let mut broken = Vec::new();
    for target in targets {
        println!("\n--- {}: {}", target.name, target.what);
        let started = Instant::now();
        let cases = cases.to_string();
        let (ran, failed) = programs.run(target.tests, &[("PROPTEST_CASES", &cases)])?;
        let verdict = if failed.is_empty() { "PASS" } else { "FAIL" };
        if !failed.is_empty() {
            broken.push(target.name);
        }
        let seconds = started.elapsed().as_secs_f64();
        lines.push(format!(
            "{:<14} {ran:>2} properties × {cases} cases {seconds:>7.1} s  {verdict}",
            target.name
        ));
    }
    println!();
    lines.iter().for_each(|line| println!("{line}"));
    Ok(broken)
}
