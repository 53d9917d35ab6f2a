//! `cargo xtask`: the workspace's development commands.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{
    bench, breaks, ci, codegen, conformance, fuzz, hygiene, interop, mutants, new_policy, newcomer,
    pains, reliability, report::Outcome, sim_channel, tidy, workspace::Workspace,
};

/// Development commands of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything CI runs, in the same order, with a table of seconds and verdicts at the end.
    Ci(ci::Options),
    /// The command line's demo, built in release.
    Demo,
    /// The README's test command.
    Test,
    /// Rules that no compiler holds: who depends on whom, purpose lines, banned calls.
    Tidy,
    /// Slower rules: features one by one, MSRV, licences, public API listings, packaging.
    Hygiene(hygiene::Options),
    /// The channel against grpcio's server, grpcio's client against our backends.
    Interop,
    /// The pains that bring users here: ours beside tonic's balanced channel, in a table.
    Pains,
    /// The scoreboard: faults on purpose, what they cost, the goal, the best peer.
    Reliability(reliability::Options),
    /// Writes the examples' generated code anew.
    Codegen,
    /// What an RPC costs beside floors and rivals; writes docs/performance.md. `--check` is the gate.
    Bench(bench::Options),
    /// The `conformance!` suites of a crate: plain, or for minutes with `--deep`.
    Conformance(conformance::Options),
    /// The kill table: what the kit catches, and how soon.
    Mutants(mutants::Options),
    /// Rules of the channel, broken on purpose: each test must see its own.
    Breaks(breaks::Options),
    /// The channel in virtual time, one world of faults for each seed.
    SimChannel(sim_channel::Options),
    /// Texts, peers and scripts that nobody thought of, in numbers.
    Fuzz(fuzz::Options),
    /// The crate of a new policy, which works and is proven.
    NewPolicy(new_policy::Options),
    /// A policy crate outside the workspace, built from the packages alone, balances real RPCs.
    Newcomer,
}

fn main() -> ExitCode {
    let workspace = Workspace::here();
    let outcome = match Cli::parse().command {
        Command::Ci(options) => ci::run(&workspace, &options),
        Command::Demo => ci::demo(&workspace),
        Command::Test => ci::test(&workspace),
        Command::Tidy => tidy::run(&workspace),
        Command::Hygiene(options) => hygiene::run(&workspace, &options),
        Command::Interop => interop::run(&workspace),
        Command::Pains => pains::run(&workspace),
        Command::Reliability(options) => reliability::run(&workspace, &options),
        Command::Codegen => codegen::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Conformance(options) => conformance::run(&workspace, &options),
        Command::Mutants(options) => mutants::run(&workspace, &options),
        Command::Breaks(options) => breaks::run(&workspace, &options),
        Command::SimChannel(options) => sim_channel::run(&workspace, &options),
        Command::Fuzz(options) => fuzz::run(&workspace, &options),
        Command::NewPolicy(options) => new_policy::run(&workspace, &options),
        Command::Newcomer => newcomer::run(&workspace),
    };
    match outcome {
        Ok(Outcome { skipped }) => {
            for skip in skipped {
                println!("{skip}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
