//! The `balancer` command: see, call and check gRPC load balancing.
//!
//! | verb | what it does |
//! |---|---|
//! | `demo` | embedded backends under load, one of which is killed and restarted |
//! | `call` | load on any gRPC server, balanced by any registered policy |
//! | `check-config` | which policy a service config chooses, and why |
//! | `policies` | what is registered |
//!
//! The command is the interface; as a library this crate is [`run`] and the [`Backend`] of the demo.
//!
//! # Habits of every verb
//! What was asked for goes to stdout, everything else to stderr; `--json` prints exactly one object.
//! The exit code is 0 when all is well, 1 when what was looked at is not (an RPC failed, a config is
//! invalid), 2 when the question cannot be answered (bad usage, target or config), 130 when Ctrl-C
//! cut it short.

#![forbid(unsafe_code)]

mod args;
mod backend;
mod call;
mod check_config;
mod config_source;
mod demo;
mod duration;
mod exit;
mod format;
mod interrupt;
mod observe;
mod output;
mod policies;

pub use backend::Backend;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use args::{Args, Verb};

/// Runs the command line, the program's name first, and answers its exit code.
///
/// # Blocking
/// As long as the verb takes. It makes a tokio runtime of its own, so it must not be called from
/// within one.
///
/// ```
/// let code = balancer_cli::run(["balancer", "policies"]);
/// assert_eq!(code, std::process::ExitCode::SUCCESS);
/// ```
pub fn run<I>(args: I) -> ExitCode
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // A reader that has gone away is no reason to fail.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::UNUSABLE));
        }
    };
    let done = match args.verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Call(args) => call::run(&args),
        Verb::CheckConfig(args) => check_config::run(&args),
        Verb::Policies(args) => policies::run(&args),
    };
    match done {
        Ok(outcome) => outcome.into(),
        Err(unusable) => {
            output::say(&format!("balancer: {unusable}"));
            ExitCode::from(exit::UNUSABLE)
        }
    }
}
