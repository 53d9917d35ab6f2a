//! Wrong policies: each looks right at first sight, and the default run catches it.

use balancer_mutants::table::{Mutant, mutants};
use balancer_testkit::LawSet;

/// How long the script may be that shows a bug.
const SHORT: usize = 8;

fn must_be_caught(mutant: &Mutant) {
    let name = &mutant.name;
    if let Err(why) = mutant.smoke() {
        panic!("{name} must look right at first sight, and does not: {why}");
    }
    let Some(failure) = mutant.judge(LawSet::all()) else {
        panic!("{name} survived");
    };
    println!(
        "{name}: {} events: {}",
        failure.script.events().len(),
        failure.violation.law
    );
    assert!(
        failure.script.events().len() <= SHORT,
        "{name} must be shown by a short script:\n{failure}"
    );
}

/// Every `of`th mutant from the `part`th on: parts run side by side.
fn part(part: usize, of: usize) {
    let mine = mutants().into_iter().skip(part).step_by(of);
    mine.filter(|mutant| !mutant.two_processes)
        .for_each(|mutant| must_be_caught(&mutant));
}

#[test]
fn mutants_are_caught_part_1_of_4() {
    part(0, 4);
}

#[test]
fn mutants_are_caught_part_2_of_4() {
    part(1, 4);
}

#[test]
fn mutants_are_caught_part_3_of_4() {
    part(2, 4);
}

#[test]
fn mutants_are_caught_part_4_of_4() {
    part(3, 4);
}
