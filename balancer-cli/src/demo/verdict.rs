//! What the demo has shown, and whether it is good.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::load::Failure;
use crate::{
    format::{self, count, counted, shown},
    observe::Attempt,
};

/// What was seen; of `--json`, field by field.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) backends: Vec<String>,
    pub(crate) killed: String,
    pub(crate) rpcs: u64,
    pub(crate) ok: u64,
    /// Failed, and nobody could have known better.
    pub(crate) lost_unavoidably: u64,
    /// Failed, and should not have.
    pub(crate) lost_avoidably: u64,
    /// RPCs that the killed backend had begun and not answered.
    pub(crate) in_flight_at_kill: u64,
    /// From the restart until the channel had the backend back; `None` if it never had.
    pub(crate) ready_after_restart_ms: Option<u64>,
    /// RPCs by backend, in the order of `backends`.
    pub(crate) spread: Spread,
    pub(crate) even_again: bool,
    pub(crate) elapsed_ms: u64,
    pub(crate) errors: Vec<Lost>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) before: Vec<u64>,
    pub(crate) while_down: Vec<u64>,
    pub(crate) after: Vec<u64>,
}

/// A failed RPC.
#[derive(Debug, Serialize)]
pub(crate) struct Lost {
    pub(crate) rpc: u64,
    pub(crate) avoidable: bool,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// What is known of the RPCs when all is over.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// When each RPC started: the first is number 1.
    pub(crate) starts: Vec<Instant>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) failures: Vec<Failure>,
    /// When the policy knew that the killed backend was gone.
    pub(crate) loss_known: Option<Instant>,
}

/// Judges the RPCs that failed while the backend at `killed` was lost.
///
/// One that was on that backend's connection when it died cannot be saved: the backend may have done
/// its work already, and who sends it again may have it done twice. Every other one can: it is known
/// to have reached nobody, or was sent when the loss was known.
pub(crate) fn judge(evidence: &Evidence, killed: &str) -> Vec<Lost> {
    let judged = evidence.failures.iter().map(|failure| {
        let was_lost_there = evidence.attempts.iter().any(|attempt| {
            attempt.rpc == failure.rpc && &*attempt.address == killed && !attempt.is_ok
        });
        let was_before_the_loss_was_known = match (evidence.start(failure.rpc), evidence.loss_known)
        {
            (Some(start), Some(known)) => start <= known,
            _ => false,
        };
        let code = balancer_api::Code::from_i32(failure.status.code() as i32);
        Lost {
            rpc: failure.rpc,
            avoidable: !(was_lost_there && was_before_the_loss_was_known),
            code: code.as_str(),
            message: failure.status.message().to_owned(),
        }
    });
    judged.collect()
}

/// How the RPCs were spread over `backends` before the loss was known, from then until `restarted`,
/// and from the first RPC that the backend got after that.
pub(crate) fn spread(
    evidence: &Evidence,
    backends: &[String],
    killed: &str,
    restarted: Instant,
) -> Spread {
    let started = |attempt: &&Attempt| evidence.start(attempt.rpc);
    let first_after = evidence
        .attempts
        .iter()
        .filter(|attempt| &*attempt.address == killed)
        .filter_map(|attempt| started(&attempt).filter(|start| *start > restarted))
        .min();
    let count = |from: Option<Instant>, to: Option<Instant>| -> Vec<u64> {
        let within = |start: Instant| {
            from.is_some_and(|from| start >= from) && to.is_none_or(|to| start < to)
        };
        let count_of = |backend: &String| {
            let attempts = evidence.attempts.iter();
            let of_it = attempts.filter(|attempt| *attempt.address == **backend);
            of_it
                .filter_map(|a| started(&a))
                .filter(|s| within(*s))
                .count() as u64
        };
        backends.iter().map(count_of).collect()
    };
    let known = evidence.loss_known;
    Spread {
        before: count(evidence.start(1), known),
        while_down: count(known, Some(restarted)),
        after: count(first_after, None),
    }
}

/// Whether every backend got at least four fifths of its share.
pub(crate) fn is_even(counts: &[u64]) -> bool {
    let sum: u64 = counts.iter().sum();
    let shares = counts.len() as u64;
    sum > 0 && counts.iter().all(|n| n * shares * 5 >= sum * 4)
}

// === impl Evidence ===

impl Evidence {
    fn start(&self, rpc: u64) -> Option<Instant> {
        let index = usize::try_from(rpc.checked_sub(1)?).ok()?;
        self.starts.get(index).copied()
    }
}

// === impl Verdict ===

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.lost_avoidably == 0 && self.ready_after_restart_ms.is_some() && self.even_again
    }

    pub(crate) fn for_people(&self) -> String {
        let mut text = String::from("\nWhat you saw\n");
        let killed = &self.killed;
        let _ = writeln!(
            text,
            "  {} in {}, spread by round_robin; {} were OK ({}).",
            counted(self.rpcs, "RPC", "RPCs"),
            format::time(Duration::from_millis(self.elapsed_ms)),
            count(self.ok),
            format::percent(self.ok, self.rpcs),
        );
        let _ = writeln!(text, "  Before:     {}.", listed(&self.spread.before));
        let _ = writeln!(
            text,
            "  {killed} was killed under load: listener gone, connections reset."
        );
        let _ = writeln!(text, "  While down: {}.", listed(&self.spread.while_down));
        match self.ready_after_restart_ms {
            Some(ms) => {
                let after = format::time(Duration::from_millis(ms));
                let _ = writeln!(
                    text,
                    "  It was restarted, and the channel had it back {after} later, at the next try \
                     that its back-off allowed."
                );
            }
            None => {
                let _ = writeln!(
                    text,
                    "  It was restarted, but the channel NEVER had it back."
                );
            }
        }
        let even = if self.even_again {
            "even again"
        } else {
            "NOT even"
        };
        let _ = writeln!(
            text,
            "  After:      {}: {even}.",
            listed(&self.spread.after)
        );
        self.write_losses(&mut text);
        let _ = writeln!(
            text,
            "\nTry next\n  balancer demo --serve         backends to send load to, from another terminal\n  \
             balancer call --help          load on servers of your own, balanced like this"
        );
        text
    }

    fn write_losses(&self, text: &mut String) {
        text.push_str("\nWhat was lost, and why\n");
        if self.errors.is_empty() {
            text.push_str("  Nothing: no RPC was under way on the connection when it died.\n");
            return;
        }
        if self.lost_unavoidably > 0 {
            let _ = writeln!(
                text,
                "  {} had been sent to {} when it died. It may have done the work or not, so no\n  \
                 client may send such an RPC again on its own: it fails, and the application decides.",
                counted(self.lost_unavoidably, "RPC", "RPCs"),
                self.killed,
            );
        }
        if self.lost_avoidably == 0 {
            text.push_str("  Every other RPC was saved: 0 lost that could have been saved.\n");
        } else {
            let lost = counted(self.lost_avoidably, "RPC WAS", "RPCs WERE");
            let _ = writeln!(text, "  {lost} LOST that could have been saved:");
        }
        const MOST: usize = 5;
        let shown_first = self.errors.iter().filter(|lost| {
            // Where there is something to be ashamed of, that is what to look at.
            lost.avoidable || self.lost_avoidably == 0
        });
        for lost in shown_first.take(MOST) {
            let message = shown(&lost.message);
            let _ = writeln!(text, "    RPC {}: {}: {message}", lost.rpc, lost.code);
        }
    }
}

/// `100 + 101 + 99`.
fn listed(counts: &[u64]) -> String {
    let counts: Vec<String> = counts.iter().map(|n| count(*n)).collect();
    format!("{} RPCs by backend", counts.join(" + "))
}
