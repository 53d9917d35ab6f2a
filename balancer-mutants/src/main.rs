//! Prints the kill table: each mutant, whether it looks right, which law caught it, with how many
//! events, and how short the script became. Exits 1 when one survives or the first look already
//! shows it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use balancer_mutants::table::{Row, Verdict, mutants};
use balancer_testkit::LawSet;

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
    match survivors + obvious {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
