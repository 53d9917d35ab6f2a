//! The bars on an RPC: what ours promises beside floors and rivals.

use super::{
    counts::Counted,
    go::Go,
    plan::{BALANCE_LIST, BARE, CONTENDERS, FLOOR, GO, Kind, OURS},
    rounds::{Figure, Timed},
    stats::{Bar, Estimate, Verdict},
};

/// One promise and what came of it.
#[derive(Debug)]
pub(super) struct Promise {
    pub what: String,
    pub is: Estimate,
    pub bar: Bar,
}

/// Where ours has to be ahead of every rival.
const AHEAD: Bar = Bar::AtMost(1.0);

/// Two contenders, and what is promised of the first one beside the second.
type Compared = (&'static str, &'static str, Figure, Bar);

fn compared(load: &str, go: Option<&Go>) -> Vec<Compared> {
    let go_bar = go.map_or(AHEAD, |go| Bar::AtMost(go.bar()));
    match load {
        "c64" => vec![
            (OURS, BALANCE_LIST, Figure::Cpu, Bar::AtMost(0.65)),
            (OURS, BALANCE_LIST, Figure::Throughput, Bar::AtLeast(1.5)),
            (OURS, FLOOR, Figure::P99, Bar::AtMost(1.15)),
            (OURS, GO, Figure::Cpu, go_bar),
        ],
        // One at a time, half of the CPU is the kernel's, and the bar is on the counts.
        "c1" => Vec::new(),
        _ => {
            let rivals = CONTENDERS.iter().filter(|one| one.kind.is_rival());
            let rivals = rivals.map(|one| (one.kind.against(), one.name));
            let all = rivals.chain([(OURS, GO)]);
            all.map(|(of, to)| (of, to, Figure::Cpu, AHEAD)).collect()
        }
    }
}

/// What is promised of times.
pub(super) fn of_times(timed: &Timed, go: Option<&Go>) -> Vec<Promise> {
    let name = timed.scenario.name;
    let all = compared(name, go).into_iter();
    all.filter_map(|(of, to, figure, bar)| {
        let figures = match figure {
            Figure::Throughput => "throughput",
            Figure::P99 => "p99",
            _ => "client CPU",
        };
        Some(Promise {
            what: format!("{name}: {figures}, {of} to {to}"),
            is: timed.ratio(of, to, figure)?,
            bar,
        })
    })
    .collect()
}

/// Whose figures leave open whether what is promised of them is met.
pub(super) fn unsure(timed: &Timed, go: Option<&Go>) -> Vec<&'static str> {
    let all = compared(timed.scenario.name, go).into_iter();
    let open = all.filter(|(of, to, figure, bar)| {
        let ratio = timed.ratio(of, to, *figure);
        ratio.is_some_and(|ratio| ratio.against(*bar) == Verdict::Inconclusive)
    });
    open.flat_map(|(of, to, ..)| [of, to]).collect()
}

/// What is promised of counts.
pub(super) fn of_counts(counted: &Counted) -> Vec<Promise> {
    let mut promises = Vec::new();
    let name = counted.scenario.name;
    // A floor that has grown would be easy to come near to.
    let instructions = |name| counted.row(name).and_then(|row| row.instructions);
    if let ("c64", Some((floor, bare))) = (name, instructions(FLOOR).zip(instructions(BARE))) {
        promises.push(Promise {
            what: format!("{name}: instructions, {FLOOR} to {BARE}"),
            is: Estimate::exact(floor as f64 / bare as f64),
            bar: Bar::AtMost(1.35),
        });
    }
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
                is: Estimate::exact(mine as f64 / theirs as f64),
                bar: instructions,
            });
        }
        if let Some(bar) = allocations {
            let ratio = (ours.allocations + 0.01) / (rival.allocations + 0.01);
            promises.push(Promise {
                what: format!("{name}: allocations, {of} to {to}"),
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
