//! `cargo xtask interop` takes no silence and no failure for a pass.

use xtask::interop::{Case, judge, parse};

fn case(name: &str, verdict: &str) -> Case {
    let line = format!("case\t{name}\t{verdict}\t12\tbecause");
    parse(&line).expect("a line of the driver")
}

#[test]
fn a_line_of_the_driver_is_read_and_others_are_not() {
    let read = case("all 17 status codes", "PASS");
    assert_eq!(read.name, "all 17 status codes");
    assert_eq!((read.millis, read.why.as_str()), (12, "because"));
    for other in ["", "running 1 test", "case", "case\tunary\tPASS\tsoon\t"] {
        assert_eq!(parse(other), None, "{other:?} is no case");
    }
}

#[test]
fn only_cases_that_passed_are_a_pass() {
    let outcome = judge(&[case("unary", "PASS")], true).expect("everything passed");
    assert!(outcome.skipped.is_empty());

    let passed = case("unary", "PASS");
    let failed = judge(&[passed.clone(), case("gzip", "FAIL")], false);
    let error = failed.expect_err("a case failed").to_string();
    assert!(
        error.contains("gzip") && !error.contains("unary"),
        "{error}"
    );

    judge(&[], true).expect_err("no case at all is no pass");
    judge(&[passed], false).expect_err("a driver that died is no pass");
}

#[test]
fn a_skipped_case_is_said_aloud() {
    let outcome = judge(&[case("tls", "SKIP")], true).expect("a skip is no failure");
    assert_eq!(outcome.skipped.len(), 1);
    assert_eq!(outcome.skipped[0].why, "because");
}
