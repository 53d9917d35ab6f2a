//! Worlds hold, and are the same in another process.

use std::process::Command;

const WORLDS: u64 = 300;

#[test]
fn the_first_worlds_hold() {
    for seed in 0..WORLDS {
        let report = balancer_sim::run(seed, false);
        if let Some(violation) = report.violation {
            for (at, line) in report.story {
                println!("{:>12.6}  {line}", at.as_nanos() as f64 / 1e9);
            }
            panic!("seed {seed}: {violation}");
        }
    }
}

#[test]
fn a_world_is_the_same_in_another_process() {
    let other = Command::new(env!("CARGO_BIN_EXE_balancer-sim"))
        .args(["--hashes", "--seeds", "100"])
        .output()
        .expect("the program of this crate");
    let theirs = String::from_utf8(other.stdout).expect("hashes");
    let ours = |seed| format!("{:016x}", balancer_sim::run(seed, false).hash);
    let ours: Vec<_> = (0..100).map(ours).collect();
    assert_eq!(theirs.lines().collect::<Vec<_>>(), ours);
    let mut distinct = ours.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), ours.len(), "each seed has its own world");
}
