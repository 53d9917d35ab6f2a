//! The scoreboard takes no silence for a pass, and its rows are what they say.

use std::collections::BTreeSet;

use xtask::reliability::{Entry, ROWS, Verdict, amended, judge, markdown, parse};

fn entry(id: u32, verdict: Verdict) -> Entry {
    Entry::new(id, "0 of 10".into(), verdict)
}

#[test]
fn each_row_has_a_number_of_its_own_and_a_goal() {
    let numbers: BTreeSet<u32> = ROWS.iter().map(|row| row.id).collect();
    assert_eq!(numbers.len(), ROWS.len(), "no number may be given twice");
    for row in ROWS {
        let words = [row.what, row.goal, row.peer];
        assert!(words.iter().all(|word| !word.is_empty()), "{row:?}");
    }
}

#[test]
fn a_line_of_a_scenario_is_read_also_behind_libtests_own_words() {
    let line = "test fleet::drained ... row\t3\t0 of 10\tPASS";
    assert_eq!(parse(line), Some(entry(3, Verdict::Pass)));
    for other in ["", "row 3", "row\t3\t0 of 10\tMAYBE", "row\tthree\tx\tPASS"] {
        assert_eq!(parse(other), None, "{other:?} speaks for no row");
    }
}

#[test]
fn one_failure_fails_all_and_skips_are_said_aloud() {
    let outcome = judge(&[entry(1, Verdict::Pass), entry(2, Verdict::Skip)]);
    assert_eq!(outcome.expect("no failure").skipped.len(), 1);
    let failed = judge(&[entry(1, Verdict::Pass), entry(7, Verdict::Fail)]);
    let words = failed.expect_err("row 7 failed").to_string();
    assert!(words.contains('7') && !words.contains('1'), "{words}");
    judge(&[entry(2, Verdict::Skip)]).expect_err("a skip alone is no pass");
}

#[test]
fn the_table_names_its_commit_and_has_a_line_for_each_row() {
    let rows: Vec<_> = ROWS.iter().collect();
    let entries: Vec<_> = ROWS
        .iter()
        .map(|row| entry(row.id, Verdict::Skip))
        .collect();
    let text = markdown(&rows, &entries, "Made on commit abc.");
    assert!(text.contains("commit abc"));
    let lines = text.lines().filter(|line| line.ends_with("| SKIP |"));
    assert_eq!(lines.count(), ROWS.len());
}

#[test]
fn a_row_that_is_measured_again_replaces_its_line_and_names_its_commit() {
    let rows: Vec<_> = ROWS.iter().collect();
    let entries: Vec<_> = ROWS
        .iter()
        .map(|row| entry(row.id, Verdict::Skip))
        .collect();
    let table = markdown(&rows, &entries, "Made by hand on commit abc.");
    let again = amended(&table, &rows[2..3], &[entry(3, Verdict::Pass)], "def");
    let changed = again.lines().filter(|line| line.ends_with("| PASS |"));
    assert_eq!(changed.count(), 1);
    assert!(again.contains("Made by hand on commit abc. Measured again on def: 3."));
    let skipped = ROWS.len() - 1;
    assert!(
        again.contains(&format!("1 pass, 0 fail, {skipped} skip.")),
        "{again}"
    );
    assert_eq!(again.lines().count(), table.lines().count());
}

#[test]
fn the_committed_table_asks_what_the_rows_ask() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md");
    let table = std::fs::read_to_string(path).expect("the table is committed");
    for row in ROWS {
        let start = format!("| {} | {} | ", row.id, row.what);
        let middle = format!(" | {} | {} | ", row.goal, row.peer);
        let line = table.lines().find(|line| line.starts_with(&start));
        let line =
            line.unwrap_or_else(|| panic!("row {} is not in the table as it is now", row.id));
        assert!(
            line.contains(&middle),
            "row {} has another goal now: {line}",
            row.id
        );
    }
}
