//! The bars on an RPC: what ours promises beside floors and rivals.

use super::{
    counts::Counted,
    go::Go,
    plan::{BALANCE_LIST, CONTENDERS, FLOOR, GO, Kind, OURS},
    rounds::{Figure, Timed},
    stats::{Bar, Estimate, Verdict},
};

/// One promise and what came of it.
#[derive(Debug)]
pub(super) struct Promise {
    pub what: String,
    /// The contenders that it compares.
    pub of: [&'static str; 2],
    pub is: Estimate,
    pub bar: Bar,
}

/// Where ours has to be ahead of every rival.
const AHEAD: Bar = Bar::AtMost(1.0);

/// What is promised of times.
pub(super) fn of_times(timed: &Timed, go: Option<&Go>) -> Vec<Promise> {
    let mut promises = Vec::new();
    let name = timed.scenario.name;
    let mut promise = |of: &'static str, to: &'static str, figure: Figure, bar: Bar| {
        if let Some(is) = timed.ratio(of, to, figure) {
            let what = match figure {
                Figure::Throughput => "throughput",
                Figure::P99 => "p99",
                _ => "client CPU",
            };
            promises.push(Promise {
                what: format!("{name}: {what}, {of} to {to}"),
                of: [of, to],
                is,
                bar,
            });
        }
    };
    if name == "c64" {
        promise(OURS, BALANCE_LIST, Figure::Cpu, Bar::AtMost(0.65));
        promise(OURS, BALANCE_LIST, Figure::Throughput, Bar::AtLeast(1.5));
        promise(OURS, FLOOR, Figure::P99, Bar::AtMost(1.15));
        if let Some(go) = go {
            promise(OURS, GO, Figure::Cpu, Bar::AtMost(go.bar()));
        }
    } else if name != "c1" {
        // One at a time, half of the CPU is the kernel's, and the bar is on the counts.
        for rival in CONTENDERS.iter().filter(|one| one.kind.is_rival()) {
            promise(rival.kind.against(), rival.name, Figure::Cpu, AHEAD);
        }
        promise(OURS, GO, Figure::Cpu, AHEAD);
    }
    promises
}

/// Whose figures are too unsure for what is promised of them, whatever they are.
pub(super) fn unsure(timed: &Timed, go: Option<&Go>) -> Vec<&'static str> {
    let promises = of_times(timed, go).into_iter();
    let wide = promises.filter(|one| one.is.is_wide());
    wide.flat_map(|one| one.of).collect()
}

/// What is promised of counts.
pub(super) fn of_counts(counted: &Counted) -> Vec<Promise> {
    let mut promises = Vec::new();
    let name = counted.scenario.name;
    for rival in &counted.rows {
        let Some(ours) = counted.row(rival.contender.kind.against()) else {
            continue;
        };
        let (of, to) = (ours.contender.name, rival.contender.name);
        let (instructions, allocations) = match rival.contender.kind {
            Kind::Rival | Kind::RivalToOne => (AHEAD, Some(AHEAD)),
            Kind::Floor if to == FLOOR && matches!(name, "c64" | "c1") => {
                promises.push(Promise {
                    what: format!("{name}: allocations per RPC, {of} less {to}"),
                    of: [of, to],
                    // Stray ones, of buffers that grow, are no allocation per RPC.
                    is: Estimate::exact((ours.allocations - rival.allocations).round() + 0.0),
                    bar: Bar::AtMost(1.0),
                });
                (Bar::AtMost(1.08), None)
            }
            _ => continue,
        };
        if let Some((mine, theirs)) = ours.instructions.zip(rival.instructions) {
            promises.push(Promise {
                what: format!("{name}: instructions, {of} to {to}"),
                of: [of, to],
                is: Estimate::exact(mine as f64 / theirs as f64),
                bar: instructions,
            });
        }
        if let Some(bar) = allocations {
            let ratio = (ours.allocations + 0.01) / (rival.allocations + 0.01);
            promises.push(Promise {
                what: format!("{name}: allocations, {of} to {to}"),
                of: [of, to],
                is: Estimate::exact(ratio),
                bar,
            });
        }
    }
    promises
}

// === impl Promise ===

impl Promise {
    pub(super) fn verdict(&self) -> Verdict {
        self.is.against(self.bar)
    }
}
