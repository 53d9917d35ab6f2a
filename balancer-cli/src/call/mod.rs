//! `balancer call`: load on any gRPC server, and how it went.

mod codec;
mod load;
mod open;
mod pace;
mod progress;
mod report;
mod states;
mod stats;

use std::sync::Arc;

use balancer_channel::Channel;

use crate::{
    args::CallArgs,
    exit::{Outcome, Unusable},
    observe::Tally,
    output,
};
use load::{Ended, Load};
use report::Report;
use states::States;

pub(crate) use codec::RawCodec;
pub(crate) use pace::Pace;

pub(crate) fn run(args: &CallArgs) -> Result<Outcome, Unusable> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Unusable::new(format!("no threads to work with: {error}")))?;
    let outcome = runtime.block_on(call(args));
    // Whatever a resolver still asks of the system must not hold the answer up.
    runtime.shutdown_background();
    outcome
}

async fn call(args: &CallArgs) -> Result<Outcome, Unusable> {
    let tally = Arc::new(Tally::default());
    let opened = open::open(args, &tally)?;
    let channel = opened.channel;
    let states = States::watch(&channel);
    let ended = Load::new(args, channel.clone()).run().await;
    let snapshot = channel.snapshot();
    let attempts = tally.attempts();
    close(&channel).await;
    let states = states.end().await;

    let was_interrupted = ended.was_interrupted;
    let report = Report::new(args, &opened.policy, ended, states, &snapshot, attempts);
    if args.json {
        output::answer_json(&report)?;
        for line in report::sub_conns(&snapshot, &report.backends).lines() {
            output::say(line);
        }
        if !report.all_ok() {
            for line in snapshot.to_string().lines() {
                output::say(line);
            }
        }
    } else {
        output::answer(&report.for_people(&snapshot))?;
    }
    Ok(match (was_interrupted, report.all_ok()) {
        (true, _) => Outcome::Interrupted,
        (false, true) => Outcome::Good,
        (false, false) => Outcome::Bad,
    })
}

/// Says goodbye to the servers, but waits for none of them for long.
async fn close(channel: &Channel) {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(1);
    // Too slow is as good as closed: the process ends anyway.
    let _ = tokio::time::timeout(LONGEST, channel.close()).await;
}

impl Ended {
    /// How many RPCs were under way when Ctrl-C ended them, for people.
    fn abandoned_text(&self) -> Option<String> {
        self.was_interrupted.then(|| {
            let rpcs = crate::format::counted(self.abandoned, "RPC", "RPCs");
            format!("interrupted; {rpcs} under way were cancelled and are not counted")
        })
    }
}
