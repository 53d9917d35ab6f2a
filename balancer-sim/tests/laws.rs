//! Each law notices when what it guards is broken.

use std::process::Command;

use balancer_sim::{Law, Sabotage, run_sabotaged};

/// A law that needs more worlds than this to notice is asleep.
const WORLDS: u64 = 200;

/// The law that notices first, and after how many worlds.
fn noticed(sabotage: Sabotage) -> Option<(Law, u64)> {
    (0..WORLDS).find_map(|seed| {
        let law = run_sabotaged(seed, sabotage).violation?.law;
        Some((law, seed + 1))
    })
}

#[test]
fn each_sabotage_is_noticed_by_the_law_against_it() {
    for sabotage in Sabotage::ALL {
        let law = match sabotage {
            Sabotage::LostWakeUp => Law::Ends,
            Sabotage::ForgottenDone => Law::Done,
            Sabotage::OtherSubConn => Law::Ready,
            Sabotage::DeafToLoss => Law::Moves,
            Sabotage::Lie => Law::Agrees,
            Sabotage::NoEnd => Law::Recovers,
            Sabotage::LeakedTask | Sabotage::LeakedConnection => Law::Clean,
            Sabotage::FastClock => Law::Backoff,
            Sabotage::SkippedTurn => Law::Fair,
            Sabotage::ClosedTwice => Law::Serial,
            Sabotage::Spin => Law::Progress,
        };
        let noticed = noticed(sabotage);
        println!("{sabotage:?}: {noticed:?}");
        assert_eq!(noticed.map(|(law, _)| law), Some(law), "{sabotage:?}");
    }
}

#[test]
fn a_run_with_a_broken_law_fails_and_says_how_to_replay_it() {
    let run = Command::new(env!("CARGO_BIN_EXE_balancer-sim"))
        .args(["--seeds", "50", "--sabotage", "LeakedTask"])
        .output()
        .expect("the program of this crate");
    let said = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(1), "{said}");
    let last = said.lines().next_back().unwrap_or_default();
    let seed: Option<u64> = last
        .strip_prefix("replay: cargo xtask sim-channel --seed ")
        .and_then(|rest| rest.strip_suffix(" --story")?.parse().ok());
    let seed = seed.unwrap_or_else(|| panic!("{last}"));
    assert!(
        said.contains(&format!("the story of seed {seed}:")),
        "{said}"
    );
}

#[test]
fn a_world_that_breaks_a_law_tells_its_story() {
    let report = (0..WORLDS)
        .map(|seed| run_sabotaged(seed, Sabotage::ForgottenDone))
        .find(|report| report.violation.is_some())
        .expect("a law that notices");
    let (_, first) = report.story.first().expect("a story");
    assert!(first.starts_with("the world of seed"), "{first}");
    let told = report
        .story
        .iter()
        .any(|(_, line)| line.starts_with("!! I2"));
    assert!(told, "the story ends with what was wrong");
}
