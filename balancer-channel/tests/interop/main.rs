//! The channel against servers that others wrote, and others' client against our backends.
//!
//! `cargo xtask interop` installs grpcio and runs this; without it there is nothing to talk to.
//! Each case is one line on stdout: `case`, its name, PASS or FAIL, milliseconds.

mod calls;
#[path = "../support/harness.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod harness;
mod load;
mod ours;
mod python;
mod report;
mod theirs;

use python::Python;
use report::Report;

#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs grpcio: run `cargo xtask interop`"]
async fn interop() {
    let Some(python) = Python::from_env() else {
        println!("\ncase\tinterop\tSKIP\t0\tno grpcio here: run `cargo xtask interop`");
        return;
    };
    let mut report = Report::default();
    println!();
    ours::run(&python, &mut report).await;
    theirs::run(&python, &mut report).await;
    report.finish();
}
