//! What the chapter says is printed is what is printed.

use std::fs;
use std::path::Path;

use balancer_guide::broken;
use balancer_testkit::{Conformance, Knobs, Profile};

/// What the kit prints of the broken policy, by the settings of a default run.
fn verdict() -> String {
    let mut knobs = Knobs::from_env();
    (knobs.depth, knobs.cases, knobs.length, knobs.seed) = (4, 400, 40, 1);
    // With two threads, which of several failures is found first is chance.
    (knobs.threads, knobs.script) = (1, None);
    let suite = Conformance::with_knobs(broken::builder(), Profile::spreads(), knobs);
    let failure = suite
        .first_failure()
        .expect("the kit must find the mistake");
    failure.to_string()
}

#[test]
fn the_printed_failure_is_the_kits() {
    let chapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../write-a-policy.md");
    let text = fs::read_to_string(&chapter).unwrap();
    let printed = format!("```text\n{}\n```\n", verdict().trim_end());
    if text.contains(&printed) {
        return;
    }
    // `BALANCER_GUIDE_BLESS=1 cargo test -p balancer-guide` writes it anew: the first such block.
    let (before, rest) = text
        .split_once("```text\nlaw `")
        .expect("a block of the kit's");
    let (_, after) = rest.split_once("```\n").expect("its end");
    assert!(
        std::env::var_os("BALANCER_GUIDE_BLESS").is_some(),
        "docs/write-a-policy.md must show what the kit prints; with BALANCER_GUIDE_BLESS=1 this test \
         writes it:\n{printed}"
    );
    fs::write(&chapter, format!("{before}{printed}{after}")).unwrap();
}
