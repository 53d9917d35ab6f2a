//! The timed rounds: everybody once a round, forwards and backwards in turn, so that whatever else
//! the machine does falls on all alike.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Instant,
};

use anyhow::Result;

use super::{
    go::Go,
    plan::{Contender, GO, Scenario},
    run::{Binaries, Job, Sample, Server, sample},
    stats::{Estimate, median, ratios},
};

/// What the rounds of one load measured.
#[derive(Debug)]
pub(super) struct Timed {
    pub scenario: &'static Scenario,
    /// By contender, one sample a round.
    samples: BTreeMap<&'static str, Vec<Sample>>,
    /// Who was left out, and why.
    pub absent: Vec<(&'static str, String)>,
}

/// One figure of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Throughput,
    Cpu,
    P50,
    P99,
    Failed,
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub rounds: usize,
    pub millis: u64,
}

/// Prints how far it is, over and over on a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    total: usize,
    done: usize,
}

/// Runs all rounds of one load.
pub(super) fn run(
    binaries: &Binaries,
    scenario: &'static Scenario,
    server: &Server,
    go: Option<&Go>,
    effort: Effort,
    progress: &mut Progress,
) -> Result<Timed> {
    let mut timed = Timed {
        scenario,
        samples: BTreeMap::new(),
        absent: Vec::new(),
    };
    let contenders: Vec<&Contender> = scenario.contenders().collect();
    let mut names: Vec<&'static str> = contenders.iter().map(|one| one.name).collect();
    if go.is_some() && scenario.has_go() {
        names.push(GO);
    }
    for round in 0..effort.rounds {
        for turn in 0..names.len() {
            let at = if round % 2 == 0 {
                turn
            } else {
                names.len() - 1 - turn
            };
            let name = names[at];
            progress.step(&format!("{}, round {}, {name}", scenario.name, round + 1));
            if timed.absent.iter().any(|(absent, _)| *absent == name) {
                continue;
            }
            let job = Job {
                contender: name,
                scenario,
                server,
            };
            let measured = match go.filter(|_| name == GO) {
                Some(go) => sample(go.program(), job, effort.millis),
                None => binaries.sample(job, effort.millis),
            };
            match measured {
                Ok(sample) => timed.samples.entry(name).or_default().push(sample),
                // Without one of its rounds a contender's others are no pairs.
                Err(error) => {
                    timed.samples.remove(name);
                    timed.absent.push((name, format!("{error:#}")));
                }
            }
        }
    }
    Ok(timed)
}

// === impl Timed ===

impl Timed {
    /// The contenders that were measured.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.samples.keys().copied()
    }

    /// A figure's values, round by round.
    fn values(&self, name: &str, figure: Figure) -> Option<Vec<f64>> {
        let samples = self.samples.get(name)?;
        Some(samples.iter().map(|sample| figure.of(sample)).collect())
    }

    /// A figure's median.
    pub(super) fn median(&self, name: &str, figure: Figure) -> Option<f64> {
        Some(median(&self.values(name, figure)?))
    }

    /// The paired ratio of one to another.
    pub(super) fn ratio(&self, of: &str, to: &str, figure: Figure) -> Option<Estimate> {
        let (of, to) = (self.values(of, figure)?, self.values(to, figure)?);
        Some(Estimate::of(&ratios(&of, &to)))
    }
}

// === impl Figure ===

impl Figure {
    fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::Throughput => sample.rps,
            Self::Cpu => sample.cpu,
            Self::P50 => sample.p50,
            Self::P99 => sample.p99,
            Self::Failed => sample.failed,
        }
    }
}

// === impl Progress ===

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        Self {
            start: Instant::now(),
            total,
            done: 0,
        }
    }

    /// Says what comes next.
    pub(super) fn step(&mut self, what: &str) {
        let spent = self.start.elapsed().as_secs();
        let left = match self.done {
            0 => 0,
            done => spent * (self.total.saturating_sub(done)) as u64 / done as u64,
        };
        self.done += 1;
        let (done, total) = (self.done, self.total.max(self.done));
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K[{done}/{total}] {what}, about {left} s left");
            let _ = std::io::stderr().flush();
        } else if done % 25 == 1 || done == total {
            eprintln!("[{done}/{total}] {what}, about {left} s left");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}
