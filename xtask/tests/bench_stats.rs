//! What the bench makes of its rounds: medians, intervals, verdicts.

#![forbid(unsafe_code)]

use xtask::bench::{Bar, Estimate, Verdict, median, ratios};

#[test]
fn a_ratio_is_paired_within_its_round() {
    // A round on a busy machine is slow for both.
    let ours = [10.0, 20.0, 10.0];
    let theirs = [20.0, 40.0, 20.0];
    assert_eq!(ratios(&ours, &theirs), [0.5, 0.5, 0.5]);
}

#[test]
fn the_median_is_the_middle_one_or_between_two() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
}

#[test]
fn a_quiet_run_is_judged() {
    let quiet: Vec<f64> = (0..20_i32).map(|n| 0.60 + 0.001 * f64::from(n)).collect();
    let estimate = Estimate::of(&quiet);
    assert!(estimate.low <= estimate.median && estimate.median <= estimate.high);
    assert_eq!(estimate.against(Bar::AtMost(0.65)), Verdict::Pass);
    assert_eq!(estimate.against(Bar::AtMost(0.55)), Verdict::Fail);
    assert_eq!(estimate.against(Bar::AtLeast(0.55)), Verdict::Pass);
    assert_eq!(estimate.against(Bar::AtLeast(0.65)), Verdict::Fail);
    let straddling = Bar::AtMost(estimate.median);
    assert_eq!(estimate.against(straddling), Verdict::Inconclusive);
}

#[test]
fn a_noisy_run_passes_nothing_but_can_fail() {
    let noisy: Vec<f64> = (0..20_i32).map(|n| 0.4 + 0.05 * f64::from(n % 5)).collect();
    let estimate = Estimate::of(&noisy);
    assert!(
        estimate.high - estimate.low > 0.1 * estimate.median,
        "{estimate}"
    );
    assert_eq!(estimate.against(Bar::AtMost(2.0)), Verdict::Inconclusive);
    assert_eq!(estimate.against(Bar::AtMost(0.1)), Verdict::Fail);
}

#[test]
fn a_count_is_sure() {
    assert_eq!(
        Estimate::exact(1.08).against(Bar::AtMost(1.08)),
        Verdict::Pass
    );
    assert_eq!(
        Estimate::exact(1.081).against(Bar::AtMost(1.08)),
        Verdict::Fail
    );
}
