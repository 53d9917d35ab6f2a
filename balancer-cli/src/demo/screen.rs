//! Shows the demo: a live table on a terminal, plain lines elsewhere.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    time::{Duration, Instant},
};

use balancer_api::ConnectivityState;
use balancer_channel::{Snapshot, SubConnSnapshot};

use super::load::Load;
use crate::{
    Backend,
    format::{self, Table, count, shown},
};

/// Where the demo is shown.
#[derive(Debug)]
pub(crate) struct Screen {
    started: Instant,
    mode: Mode,
    /// The last known state of each address, to tell changes.
    states: Vec<(String, ConnectivityState)>,
    /// Counts of about a second ago, for rates.
    past: Vec<(Instant, Vec<u64>)>,
    /// When the last plain line of numbers was written.
    last_line: Instant,
}

#[derive(Debug)]
enum Mode {
    /// Another program reads the answer.
    Quiet,
    /// A log or a pipe.
    Lines,
    /// A terminal; so many lines of the live part are on it.
    Live { lines: usize },
}

const RATE_WINDOW: Duration = Duration::from_secs(1);

// === impl Screen ===

impl Screen {
    pub(crate) fn new(quiet: bool) -> Self {
        let mode = match (quiet, io::stdout().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Live { lines: 0 },
            (false, false) => Mode::Lines,
        };
        let started = Instant::now();
        Self {
            started,
            mode,
            states: Vec::new(),
            past: Vec::new(),
            last_line: started,
        }
    }

    /// Says that something happened; it stays on the screen.
    pub(crate) fn event(&mut self, what: &str) {
        let at = self.started.elapsed().as_secs_f64();
        self.write(&format!("{at:6.2} s  {what}\n"), "");
    }

    /// Shows how things stand, and what has changed since the last time.
    pub(crate) fn show(
        &mut self,
        snapshot: &Snapshot,
        counts: &[u64],
        backends: &[Backend],
        load: &Load,
    ) {
        let rows: Vec<(String, Option<&SubConnSnapshot>)> = backends
            .iter()
            .map(|backend| {
                let address = backend.addr().to_string();
                let of_it = |sub_conn: &&SubConnSnapshot| {
                    sub_conn.addresses.iter().any(|a| a.addr() == address)
                };
                let sub_conn = snapshot.sub_conns.iter().find(of_it);
                (address, sub_conn)
            })
            .collect();
        self.tell_changes(&rows);
        let rates = self.rates(counts);
        match self.mode {
            Mode::Quiet => {}
            Mode::Live { .. } => {
                let live = live(&rows, counts, &rates, load);
                self.write("", &live);
            }
            Mode::Lines => {
                if self.last_line.elapsed() >= RATE_WINDOW {
                    self.last_line = Instant::now();
                    let rates: Vec<String> = rates.iter().map(|rate| count(*rate)).collect();
                    self.event(&format!(
                        "{} RPCs sent, {} OK, {} failed; per second and backend: {}",
                        count(load.started()),
                        count(load.ok()),
                        count(load.failures().len() as u64),
                        rates.join(" + "),
                    ));
                }
            }
        }
    }

    /// Leaves the last picture where it is.
    pub(crate) fn end(&mut self) {
        if let Mode::Live { lines } = &mut self.mode {
            *lines = 0;
        }
    }

    fn tell_changes(&mut self, rows: &[(String, Option<&SubConnSnapshot>)]) {
        let mut changes = Vec::new();
        for (address, sub_conn) in rows {
            let Some(sub_conn) = sub_conn else { continue };
            let known = self.states.iter_mut().find(|(known, _)| known == address);
            match known {
                Some((_, state)) if *state == sub_conn.state => continue,
                Some((_, state)) => *state = sub_conn.state,
                None => self.states.push((address.clone(), sub_conn.state)),
            }
            let mut change = format!("{address} is {}", sub_conn.state);
            if let (ConnectivityState::TransientFailure, Some(error)) =
                (sub_conn.state, &sub_conn.last_error)
            {
                let _ = write!(change, ": {}", shown(error.message()));
            }
            changes.push(change);
        }
        for change in changes {
            self.event(&change);
        }
    }

    /// RPCs per second by backend, over about the last second.
    fn rates(&mut self, counts: &[u64]) -> Vec<u64> {
        let now = Instant::now();
        self.past.push((now, counts.to_vec()));
        let too_old = |at: Instant| now.duration_since(at) > RATE_WINDOW;
        while self.past.len() > 2 && too_old(self.past[1].0) {
            self.past.remove(0);
        }
        let (at, past) = &self.past[0];
        let seconds = now.duration_since(*at).as_secs_f64();
        let rate = |(now, past): (&u64, &u64)| match seconds {
            s if s > 0.0 => ((now - past) as f64 / s).round() as u64,
            _ => 0,
        };
        counts.iter().zip(past).map(rate).collect()
    }

    /// Writes lasting text above the live part, which is replaced unless the new one is empty.
    fn write(&mut self, lasting: &str, live: &str) {
        let mut text = String::new();
        match &mut self.mode {
            Mode::Quiet => return,
            Mode::Lines => text.push_str(lasting),
            Mode::Live { lines } => {
                if *lines > 0 {
                    // Up to where the live part begins, and wipe from there.
                    let _ = write!(text, "\x1b[{lines}A\r\x1b[J");
                }
                text.push_str(lasting);
                text.push_str(live);
                *lines = live.lines().count();
            }
        }
        // A reader that has gone away does not matter to the demo.
        let mut stdout = io::stdout().lock();
        let _ = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
    }
}

fn live(
    rows: &[(String, Option<&SubConnSnapshot>)],
    counts: &[u64],
    rates: &[u64],
    load: &Load,
) -> String {
    let mut table = Table::new(&["BACKEND", "STATE", "RPCS", "PER SECOND", ""], &[2, 3]);
    for (((address, sub_conn), rpcs), rate) in rows.iter().zip(counts).zip(rates) {
        let state = sub_conn.map_or("–".to_owned(), |sub_conn| sub_conn.state.to_string());
        // A block for every ten RPCs per second.
        let bar = "█".repeat(usize::try_from(rate / 10).unwrap_or(0).min(40));
        table.row([address.clone(), state, count(*rpcs), count(*rate), bar]);
    }
    let failed = load.failures().len() as u64;
    format!(
        "\n{}\n  {} sent, {} OK, {} failed\n",
        table.render(),
        format::counted(load.started(), "RPC", "RPCs"),
        count(load.ok()),
        count(failed),
    )
}
