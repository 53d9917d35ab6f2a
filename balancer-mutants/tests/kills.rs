//! Wrong policies: each looks right at first sight, and the default run catches it.

use balancer_mutants::table::{ALONE, Mutant, mutants};
use balancer_testkit::{Law, LawSet};

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
    mine.for_each(|mutant| must_be_caught(&mutant));
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

#[test]
fn every_law_catches_a_mutant_by_itself() {
    let mutants = mutants();
    for law in Law::ALL {
        let named = ALONE.iter().find(|(of, _)| of == law);
        let Some((_, name)) = named else {
            panic!("{law} has no mutant of its own");
        };
        let mutant = mutants.iter().find(|mutant| mutant.name == *name);
        let mutant = mutant.unwrap_or_else(|| panic!("there is no mutant {name}"));
        let failure = mutant.judge(LawSet::of(&[*law]));
        let Some(failure) = failure else {
            panic!("{law} alone must catch {name}");
        };
        assert_eq!(failure.violation.law, *law);
    }
}
