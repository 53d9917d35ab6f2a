//! What `balancer call` answers.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use balancer_channel::{ConnectionSnapshot, Snapshot};
use serde::Serialize;

use super::{load::Ended, states::Seen};
use crate::{
    args::CallArgs,
    format::{self, Table, count, shown},
};

/// The answer; of `--json`, field by field.
#[derive(Serialize)]
pub(crate) struct Report {
    target: String,
    policy: String,
    rpcs: u64,
    ok: u64,
    codes: BTreeMap<&'static str, u64>,
    /// Attempts sent to each address.
    pub(crate) backends: BTreeMap<String, u64>,
    latency_us: Latency,
    elapsed_ms: u64,
    states: Vec<State>,
    errors: Vec<Error>,
    #[serde(skip)]
    elapsed: Duration,
    #[serde(skip)]
    interruption: Option<String>,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

#[derive(Serialize)]
struct State {
    at_ms: u64,
    state: &'static str,
    #[serde(skip)]
    at: Duration,
}

#[derive(Serialize)]
struct Error {
    code: &'static str,
    message: String,
    count: u64,
}

/// A table of the connections: where to, in which state, why not.
pub(crate) fn sub_conns(snapshot: &Snapshot, attempts: &BTreeMap<String, u64>) -> String {
    if snapshot.sub_conns.is_empty() && attempts.is_empty() {
        return "  no backends are known\n".to_owned();
    }
    let sent: u64 = attempts.values().sum();
    let mut heads = vec!["BACKEND", "STATE", "ATTEMPTS", "SHARE"];
    // Only where a service config has let there be more than one.
    let several = snapshot.sub_conns.iter().any(|it| it.connections.len() > 1);
    heads.extend(several.then_some("CONNECTIONS"));
    heads.push("LAST ERROR");
    let mut table = Table::new(&heads, &[2, 3]);
    let mut left = attempts.clone();
    for sub_conn in &snapshot.sub_conns {
        let listed: Vec<&str> = sub_conn.addresses.iter().map(|a| a.addr()).collect();
        // Several addresses are one backend; what was sent to any of them was sent to it.
        let attempts: u64 = listed.iter().filter_map(|addr| left.remove(*addr)).sum();
        let place = match &sub_conn.connected {
            Some(address) => address.addr().to_owned(),
            None => summary(&listed),
        };
        let error = sub_conn.last_error.as_ref();
        let mut row = vec![
            shown(&place),
            sub_conn.state.to_string(),
            count(attempts),
            format::percent(attempts, sent),
        ];
        row.extend(several.then(|| connections(&sub_conn.connections)));
        row.push(error.map_or_else(String::new, |error| shown(error.message())));
        table.row(row);
    }
    for (address, attempts) in left {
        let share = format::percent(attempts, sent);
        table.row([
            shown(&address),
            "gone".to_owned(),
            count(attempts),
            share,
            String::new(),
        ]);
    }
    table.render()
}

/// How many there are, and how many streams the backend allows on each.
fn connections(all: &[ConnectionSnapshot]) -> String {
    let limits = || all.iter().map(|it| it.max_streams);
    match (limits().min().flatten(), limits().max().flatten()) {
        (Some(min), Some(max)) if min == max => format!("{} of {min} streams", all.len()),
        (Some(min), Some(max)) => format!("{} of {min} to {max} streams", all.len()),
        _ => all.len().to_string(),
    }
}

fn summary(addresses: &[&str]) -> String {
    match addresses {
        [] => "nowhere".to_owned(),
        [only] => (*only).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

// === impl Report ===

impl Report {
    pub(crate) fn new(
        args: &CallArgs,
        policy: &str,
        ended: Ended,
        states: Seen,
        snapshot: &Snapshot,
        backends: BTreeMap<String, u64>,
    ) -> Self {
        let stats = &ended.stats;
        let codes = stats.codes().iter();
        let errors = stats.errors().into_iter();
        Self {
            target: args.target.clone(),
            policy: snapshot.policy.as_deref().unwrap_or(policy).to_owned(),
            rpcs: stats.rpcs(),
            ok: stats.ok(),
            codes: codes.map(|(code, count)| (code.as_str(), *count)).collect(),
            backends,
            latency_us: Latency {
                p50: us(stats.quantile(0.5)),
                p90: us(stats.quantile(0.9)),
                p99: us(stats.quantile(0.99)),
                p999: us(stats.quantile(0.999)),
                max: us(stats.slowest()),
            },
            elapsed_ms: ms(ended.elapsed),
            states: states
                .into_iter()
                .map(|(at, state)| State {
                    at_ms: ms(at),
                    state: state.as_str(),
                    at,
                })
                .collect(),
            errors: errors
                .map(|(code, message, count)| Error {
                    code: code.as_str(),
                    message: message.to_owned(),
                    count,
                })
                .collect(),
            elapsed: ended.elapsed,
            interruption: ended.abandoned_text(),
        }
    }

    pub(crate) fn all_ok(&self) -> bool {
        self.ok == self.rpcs
    }

    pub(crate) fn for_people(&self, snapshot: &Snapshot) -> String {
        let mut text = String::new();
        if let Some(interruption) = &self.interruption {
            let _ = writeln!(text, "{interruption}\n");
        }
        let rate = self.rpcs as f64 / self.elapsed.as_secs_f64().max(1e-9);
        let _ = writeln!(text, "target   {}", shown(&self.target));
        let _ = writeln!(text, "policy   {}", self.policy);
        let _ = writeln!(
            text,
            "RPCs     {} in {}, {}/s",
            count(self.rpcs),
            format::time(self.elapsed),
            count(rate as u64),
        );
        let _ = writeln!(
            text,
            "OK       {} ({})",
            count(self.ok),
            format::percent(self.ok, self.rpcs)
        );
        let time = |us| format::time(Duration::from_micros(us));
        let Latency {
            p50,
            p90,
            p99,
            p999,
            max,
        } = self.latency_us;
        let _ = writeln!(
            text,
            "latency  p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
            time(p50),
            time(p90),
            time(p99),
            time(p999),
            time(max)
        );
        let _ = writeln!(text, "channel  {}", self.states_text());
        text.push('\n');
        text.push_str(&sub_conns(snapshot, &self.backends));
        if !self.errors.is_empty() {
            text.push('\n');
            let mut table = Table::new(&["FAILED", "WITH", "MESSAGE"], &[0]);
            for error in &self.errors {
                table.row([
                    count(error.count),
                    error.code.to_owned(),
                    shown(&error.message),
                ]);
            }
            text.push_str(&table.render());
        }
        if !self.all_ok() || self.interruption.is_some() {
            let _ = writeln!(text, "\n{snapshot}");
        }
        text
    }

    /// The states in a line, the middle left out where there are many.
    fn states_text(&self) -> String {
        const ENDS: usize = 6;
        let state = |state: &State| match state.at {
            Duration::ZERO => state.state.to_owned(),
            at => format!("{} ({})", state.state, format::time(at)),
        };
        let mut parts: Vec<String> = self.states.iter().take(ENDS).map(state).collect();
        let rest = self.states.get(ENDS..).unwrap_or_default();
        let last = rest.get(rest.len().saturating_sub(ENDS)..);
        if rest.len() > ENDS {
            parts.push(format!("… {} more …", rest.len() - ENDS));
        }
        parts.extend(last.unwrap_or_default().iter().map(state));
        parts.join(" → ")
    }
}
