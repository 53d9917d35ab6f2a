//! Prints the kill table: each mutant, whether it looks right, which law caught it, with how many
//! events, and how short the script became; then the wrong channels, with the laws that name them.
//! Exits 1 when one survives or the first look already shows it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use balancer_mutants::{
    channel::{Fault, Reference},
    table::{Row, Verdict, mutants},
};
use balancer_testkit::{ChannelSuite, LawSet};

fn main() -> ExitCode {
    // The kit contains the panics of wrong policies and reports them; they are no news here.
    std::panic::set_hook(Box::new(|_| {}));
    let only = std::env::args().nth(1);
    let verbose = std::env::args().nth(2).is_some();
    println!(
        "| {:<44} | {:<5} | {:<24} | {:>5} | {:>5} |",
        "mutant", "smoke", "law", "found", "short"
    );
    let (mut survivors, mut count, mut obvious) = (0, 0, 0);
    for mutant in mutants() {
        if only
            .as_ref()
            .is_some_and(|only| !mutant.name.contains(only.as_str()))
        {
            continue;
        }
        count += 1;
        let verdict = Verdict {
            smoke: mutant.smoke(),
            caught: mutant.judge(LawSet::all()),
        };
        println!("{}", Row(&mutant, &verdict));
        if let Err(why) = &verdict.smoke {
            obvious += 1;
            println!("    smoke: {why}");
        }
        if verdict.caught.is_none() {
            survivors += 1;
        }
        if verbose && let Some(failure) = &verdict.caught {
            println!("{failure}");
        }
    }
    println!("{count} mutants, {survivors} survived, {obvious} obvious at first sight");
    survivors += channels(only.as_deref());
    match survivors + obvious {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The table of wrong channels. Answers how many no law names.
fn channels(only: Option<&str>) -> usize {
    println!(
        "\n| {:<32} | {:<32} | {:<40} |",
        "channel mutant", "law", "other laws that it breaks"
    );
    let (mut survivors, mut count) = (0, 0);
    for (fault, law) in Fault::ALL {
        let name = format!("{fault:?}");
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        count += 1;
        let suite = ChannelSuite::new(|policies| Reference::new(*fault, policies));
        let broken = suite.broken();
        let caught = broken.iter().any(|broken| broken.law == *law);
        let others: Vec<String> = broken
            .iter()
            .filter(|broken| broken.law != *law)
            .map(|broken| broken.law.to_string())
            .collect();
        let verdict = match caught {
            true => law.to_string(),
            false => {
                survivors += 1;
                format!("SURVIVED {law}")
            }
        };
        println!("| {name:<32} | {verdict:<32} | {:<40} |", others.join(" "));
    }
    println!("{count} channel mutants, {survivors} survived");
    survivors
}
