//! The timed rounds: everybody once a round, forwards and backwards in turn, so that whatever else
//! the machine does falls on all alike.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Instant,
};

use super::{
    go::Go,
    plan::{GO, Scenario},
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

/// How often as many rounds as were asked for are measured, for those whose figures say nothing before.
pub(super) const TIMES: usize = 5;

/// Runs all rounds of one load: as many as were asked for with everybody, and then more with those whose
/// figures are still unsure. `unsure` names them; how sure a figure is decides, not what it is.
pub(super) fn run(
    binaries: &Binaries,
    scenario: &'static Scenario,
    server: &Server,
    go: Option<&Go>,
    effort: Effort,
    progress: &mut Progress,
    unsure: impl Fn(&Timed) -> Vec<&'static str>,
) -> Timed {
    let mut timed = Timed {
        scenario,
        samples: BTreeMap::new(),
        absent: Vec::new(),
    };
    let mut names: Vec<&'static str> = scenario.contenders().map(|one| one.name).collect();
    if go.is_some() && scenario.has_go() {
        names.push(GO);
    }
    let measure = |name| {
        let job = Job {
            contender: name,
            scenario,
            server,
        };
        match go.filter(|_| name == GO) {
            Some(go) => sample(go.program(), job, effort.millis),
            None => binaries.sample(job, effort.millis),
        }
    };
    for time in 0..TIMES {
        if time > 0 {
            // Who is left out once stays out, so that the rounds of any two are the same ones.
            let unsure = unsure(&timed);
            names.retain(|name| unsure.contains(name));
            progress.more(names.len() * effort.rounds);
        }
        let before = time * effort.rounds;
        for round in before..before + effort.rounds {
            let mut order = names.clone();
            if round % 2 == 1 {
                order.reverse();
            }
            for name in order {
                progress.step(&format!("{}, round {}, {name}", scenario.name, round + 1));
                match measure(name) {
                    Ok(sample) => timed.samples.entry(name).or_default().push(sample),
                    Err(error) => {
                        timed.stop(name, before, &error);
                        names.retain(|other| *other != name);
                    }
                }
            }
        }
    }
    timed
}

// === impl Timed ===

impl Timed {
    /// The contenders that were measured.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.samples.keys().copied()
    }

    /// One that fails is measured no further: of its rounds only whole times have pairs, of which
    /// there are `whole` rounds.
    fn stop(&mut self, name: &'static str, whole: usize, error: &anyhow::Error) {
        match self.samples.get_mut(name).filter(|_| whole > 0) {
            Some(samples) => {
                samples.truncate(whole);
                println!("{name} was measured {whole} times only: {error:#}");
            }
            None => {
                self.samples.remove(name);
                self.absent.push((name, format!("{error:#}")));
            }
        }
    }

    /// In how many rounds one was measured.
    pub(super) fn rounds(&self, name: &str) -> usize {
        self.samples.get(name).map_or(0, Vec::len)
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

    /// There are so many steps more than was thought.
    pub(super) fn more(&mut self, steps: usize) {
        self.total += steps;
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
