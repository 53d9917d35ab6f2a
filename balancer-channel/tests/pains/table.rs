//! The table of `cargo xtask pains`: the same scenarios, ours beside tonic's, in one run.

use std::time::Duration;

use tonic::Status;

use crate::{
    contender::Contender,
    load::Tally,
    scenarios::{self, REPLACEMENTS},
};

/// One line: what is measured, and what each contender came to.
type Row = (&'static str, String, String);

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a table and asserts nothing: run `cargo xtask pains`"]
async fn table() {
    let mut rows = Vec::new();

    let [ours, theirs] = both(scenarios::one_dead_of_eight).await;
    title(&mut rows, "1 of 8 endpoints dead, 10,000 RPCs");
    row(&mut rows, "failed", &ours, &theirs, failed);
    row(
        &mut rows,
        "spread over the 7 (min-max)",
        &ours,
        &theirs,
        spread,
    );

    let [ours, theirs] = both(scenarios::replaced_while_idle).await;
    title(&mut rows, "endpoints replaced 10 times, no RPC meanwhile");
    row(
        &mut rows,
        "replacements taken while idle",
        &ours,
        &theirs,
        |r| format!("{} of {REPLACEMENTS}", r.taken),
    );
    row(&mut rows, "first RPC goes to set", &ours, &theirs, |r| {
        r.first
            .as_ref()
            .map_or_else(shown, |set| format!("{set} of {REPLACEMENTS}"))
    });

    let [ours, theirs] = both(scenarios::one_killed_of_three).await;
    title(&mut rows, "1 of 3 killed under load, then restarted");
    row(&mut rows, "failed, of RPCs", &ours, &theirs, |k| {
        let served: usize = k.load.served.values().sum();
        format!(
            "{} of {}",
            k.load.failed.len(),
            served + k.load.failed.len()
        )
    });
    row(
        &mut rows,
        "of those may have reached it",
        &ours,
        &theirs,
        |k| k.may_have_arrived.min(k.load.failed.len()).to_string(),
    );
    row(
        &mut rows,
        "last failure after the kill",
        &ours,
        &theirs,
        |k| k.last_failure.map_or_else(|| "-".to_owned(), ms),
    );
    row(
        &mut rows,
        "first reply after its restart",
        &ours,
        &theirs,
        |k| ms(k.first_reply),
    );
    row(&mut rows, "spread of the next 3,000", &ours, &theirs, |k| {
        spread(&k.after)
    });

    let [ours, theirs] = both(scenarios::all_down).await;
    title(&mut rows, "all endpoints down");
    row(
        &mut rows,
        "new channel, RPC ends after",
        &ours,
        &theirs,
        |d| ended(&d.from_the_start),
    );
    row(
        &mut rows,
        "was connected, RPC ends after",
        &ours,
        &theirs,
        |d| ended(&d.after_a_kill),
    );
    row(
        &mut rows,
        "wait-for-ready RPC, one comes back",
        &ours,
        &theirs,
        |d| ended(&d.waiting),
    );

    let [ours, theirs] = both(scenarios::burst_at_start).await;
    title(
        &mut rows,
        "1,000 RPCs at start, 8 backends (ours: warm_up(200 ms))",
    );
    row(&mut rows, "failed", &ours, &theirs, failed);
    row(
        &mut rows,
        "spread (min-max, 125 is even)",
        &ours,
        &theirs,
        spread,
    );

    println!("\n{:<38} {:<28} tonic balance_list", "", "balancer-channel");
    for (what, ours, theirs) in rows {
        if ours.is_empty() {
            println!("{what}");
        } else {
            println!("  {what:<36} {ours:<28} {theirs}");
        }
    }
}

/// One scenario with each contender, one after the other.
async fn both<T, F: Future<Output = T>>(scenario: impl Fn(Contender) -> F) -> [T; 2] {
    let ours = scenario(Contender::Balancer).await;
    [ours, scenario(Contender::BalanceList).await]
}

fn title(rows: &mut Vec<Row>, what: &'static str) {
    rows.push((what, String::new(), String::new()));
}

fn row<T>(rows: &mut Vec<Row>, what: &'static str, ours: &T, theirs: &T, f: impl Fn(&T) -> String) {
    rows.push((what, f(ours), f(theirs)));
}

fn failed(tally: &Tally) -> String {
    tally.failed.len().to_string()
}

fn spread(tally: &Tally) -> String {
    let (min, max) = tally.spread();
    format!("{min}-{max} ({} served)", tally.served.len())
}

fn ended((result, took): &(Result<String, Status>, Duration)) -> String {
    let what = result.as_ref().map_or_else(shown, |_| "OK".to_owned());
    format!("{}, {what}", ms(*took))
}

fn shown(status: &Status) -> String {
    format!("{:?}", status.code())
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
