//! `docs/performance.md`: the part between its marks, and the plots beside it.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

use super::{
    again,
    bars::Promise,
    counts::Counted,
    held::Rows,
    machine::Machine,
    plan::{CONTENDERS, GO, Kind, OURS, SCENARIOS},
    plot::{self, Group, Line},
    policy::Policy,
    profile::Parts,
    rounds::{Effort, Figure, Timed},
};

/// All that a run found.
#[derive(Debug)]
pub(super) struct Found {
    pub machine: Machine,
    pub effort: Effort,
    pub quick: bool,
    /// Of grpc-go and its compiler.
    pub go: Option<String>,
    pub timed: Vec<Timed>,
    pub counted: Vec<Counted>,
    /// By contender.
    pub profiles: Vec<(&'static str, Parts)>,
    pub policy: Policy,
    pub channel: Rows,
    pub promises: Vec<Promise>,
    /// What was left out, and why.
    pub absent: Vec<String>,
}

const BEGIN: &str = "<!-- From here on `cargo xtask bench` writes; edit above. -->";

const FILE: &str = "docs/performance.md";
const PLOTS: &str = "docs/performance";

/// Writes the figures into the document, below its account.
pub(super) fn write(root: &Path, found: &Found) -> Result<()> {
    let file = root.join(FILE);
    let account = fs::read_to_string(&file).unwrap_or_default();
    let account = account.split(BEGIN).next().unwrap_or_default().trim_end();
    let plots = root.join(PLOTS);
    fs::create_dir_all(&plots)?;
    let mut links = String::new();
    for (name, title, svg) in drawn(found) {
        fs::write(plots.join(format!("{name}.svg")), svg).context("a plot")?;
        let _ = writeln!(links, "![{title}](performance/{name}.svg)\n");
    }
    let figures = figures(found);
    fs::write(&file, format!("{account}\n\n{BEGIN}\n\n{figures}{links}"))
        .with_context(|| format!("cannot write {FILE}"))?;
    println!("wrote {FILE}");
    Ok(())
}

/// Writes the figures of some loads into the document, in the place of those that it has of them.
pub(super) fn write_again(root: &Path, found: &Found, loads: &[&str]) -> Result<()> {
    let file = root.join(FILE);
    let known = fs::read_to_string(&file).with_context(|| format!("there is no {FILE}"))?;
    let (account, old) = known.split_once(BEGIN).context("it has no figures")?;
    let new = again::merged(old, &figures(found), loads, found.machine.commit());
    fs::write(&file, format!("{account}{BEGIN}{new}"))?;
    // The plots are of the first load.
    for (name, _, svg) in drawn(found) {
        if loads.contains(&SCENARIOS[0].name) {
            fs::write(root.join(PLOTS).join(format!("{name}.svg")), svg)?;
        }
    }
    println!("wrote {} into {FILE}", loads.join(", "));
    Ok(())
}

/// The figures, as Markdown that is also read on a terminal.
pub(super) fn figures(found: &Found) -> String {
    let mut text = String::from("## Figures\n\n");
    let Effort { rounds, millis } = found.effort;
    let quick = if found.quick {
        "A **quick** pass: "
    } else {
        ""
    };
    let _ = writeln!(
        text,
        "{quick}{rounds} interleaved rounds of {millis} ms each, and up to five times as many where a \
         figure is unsure. {}\n",
        found.machine.describe()
    );
    if let Some(go) = &found.go {
        let _ = writeln!(text, "{go}.\n");
    }
    for absent in &found.absent {
        let _ = writeln!(text, "- Left out: {absent}");
    }
    if !found.absent.is_empty() {
        text.push('\n');
    }
    contenders(&mut text, found.go.is_some());
    promises(&mut text, &found.promises);
    found.timed.iter().for_each(|timed| times(&mut text, timed));
    found
        .counted
        .iter()
        .for_each(|counted| counts(&mut text, counted));
    profiles(&mut text, &found.profiles);
    text.push_str("### The policy by itself\n\nOver SubConns that exist in name only.\n\n");
    rows(&mut text, &found.policy.rows);
    text.push_str("### The channel beside its RPCs\n\n");
    rows(&mut text, &found.channel);
    text
}

fn contenders(text: &mut String, go: bool) {
    text.push_str("### Who is measured\n\n| contender | |\n|---|---|\n");
    for one in CONTENDERS {
        let _ = writeln!(text, "| {} | {} |", one.name, one.what);
    }
    if go {
        let _ = writeln!(text, "| {GO} | grpc-go, `round_robin`, one processor |");
    }
    text.push('\n');
}

fn promises(text: &mut String, promises: &[Promise]) {
    text.push_str(
        "### Bars\n\nRatios of times are medians of paired rounds, with a 95 % interval from a \
         bootstrap. While one leaves its bar open, its contenders are measured on, up to five times \
         as many rounds; an interval that has been looked at so often is a little surer of itself \
         than it says. One that is wider than 5 % either way in the end, or that the bar lies in, \
         is INCONCLUSIVE, which is not a pass.\n\n| what | is | bar | |\n|---|---|---|---|\n",
    );
    for promise in promises {
        let Promise { what, is, bar } = promise;
        let _ = writeln!(text, "| {what} | {is} | {bar} | {} |", promise.verdict());
    }
    text.push('\n');
}

fn times(text: &mut String, timed: &Timed) {
    let unit = timed.scenario.unit();
    let _ = writeln!(
        text,
        "### Times: {}\n\n| contender | rounds | {unit}s/s | client CPU, µs per {unit} | p50, µs | \
         p99, µs | failed | CPU to ours |\n|---|---|---|---|---|---|---|---|",
        timed.scenario.what
    );
    for name in timed.names() {
        let at = |figure| timed.median(name, figure).unwrap_or_default();
        let to_ours = match timed.ratio(name, OURS, Figure::Cpu) {
            Some(ratio) if name != OURS => ratio.to_string(),
            _ => "1".into(),
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {to_ours} |",
            timed.rounds(name),
            at(Figure::Throughput),
            at(Figure::Cpu),
            at(Figure::P50),
            at(Figure::P99),
            at(Figure::Failed),
        );
    }
    text.push('\n');
}

fn counts(text: &mut String, counted: &Counted) {
    let unit = counted.scenario.unit();
    let _ = writeln!(
        text,
        "### Counts: {}\n\n| contender | instructions per {unit} | to ours | allocations per {unit} \
         |\n|---|---|---|---|",
        counted.scenario.what
    );
    let ours = counted.row(OURS).and_then(|row| row.instructions);
    for row in &counted.rows {
        let instructions = row
            .instructions
            .map_or("–".into(), |count| count.to_string());
        let to_ours = match row.instructions.zip(ours) {
            Some((theirs, ours)) => format!("{:.2}", theirs as f64 / ours as f64),
            None => "–".into(),
        };
        let (name, allocations) = (row.contender.name, row.allocations);
        let _ = writeln!(
            text,
            "| {name} | {instructions} | {to_ours} | {allocations:.1} |"
        );
    }
    text.push('\n');
}

fn profiles(text: &mut String, profiles: &[(&'static str, Parts)]) {
    if profiles.is_empty() {
        return;
    }
    text.push_str(
        "### Where the instructions of an RPC go\n\nUnary, 16 B, 64 at a time, by whose function \
         they are in; what the compiler inlined counts where it was inlined.\n\n| part |",
    );
    for (name, _) in profiles {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(profiles.len()));
    text.push('\n');
    let mut parts: Vec<&str> = profiles
        .iter()
        .flat_map(|(_, parts)| parts.keys().copied())
        .collect();
    parts.sort_unstable();
    parts.dedup();
    let of = |parts: &Parts, part: &str| parts.get(part).copied().unwrap_or_default();
    let most = |part: &str| {
        profiles
            .iter()
            .map(|(_, parts)| of(parts, part))
            .fold(0.0, f64::max)
    };
    parts.sort_by(|a, b| most(b).total_cmp(&most(a)));
    for part in parts.into_iter().filter(|part| most(part) >= 0.5) {
        let _ = write!(text, "| {part} |");
        for (_, parts) in profiles {
            let _ = write!(text, " {:.0} |", of(parts, part));
        }
        text.push('\n');
    }
    text.push_str("| together |");
    for (_, parts) in profiles {
        let _ = write!(text, " {:.0} |", parts.values().sum::<f64>());
    }
    text.push_str("\n\n");
}

fn rows(text: &mut String, rows: &Rows) {
    text.push_str("| what | is | | bar | |\n|---|---|---|---|---|\n");
    for held in &rows.0 {
        let (bar, verdict) = match held.bar {
            Some(bar) => (bar.to_string(), held.is.against(bar).to_string()),
            None => (String::new(), String::new()),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {bar} | {verdict} |",
            held.what, held.is, held.unit
        );
    }
    text.push('\n');
}

/// Name, title and picture of each plot.
fn drawn(found: &Found) -> Vec<(String, String, String)> {
    let mut plots = Vec::new();
    let group = |name: &str| {
        let one = CONTENDERS.iter().find(|one| one.name == name);
        match one.map(|one| one.kind) {
            Some(Kind::Ours | Kind::OursWithMore | Kind::OursToOne) => Group::Ours,
            Some(Kind::Floor) => Group::Floor,
            _ => Group::Rival,
        }
    };
    if let Some(timed) = found.timed.first() {
        let bars = timed.names().map(|name| plot::Bar {
            name,
            value: timed.median(name, Figure::Cpu).unwrap_or_default(),
            group: group(name),
        });
        let title = format!("Client CPU per RPC: {}", timed.scenario.what);
        let svg = plot::bars(&title, "µs", bars.collect());
        plots.push(("cpu".into(), title, svg));
    }
    if let Some(counted) = found.counted.first() {
        let counts = counted.rows.iter();
        let bars: Vec<_> = counts
            .filter_map(|row| {
                Some(plot::Bar {
                    name: row.contender.name,
                    value: row.instructions? as f64,
                    group: group(row.contender.name),
                })
            })
            .collect();
        if !bars.is_empty() {
            let title = format!("Instructions per RPC: {}", counted.scenario.what);
            let svg = plot::bars(&title, "", bars);
            plots.push(("instructions".into(), title, svg));
        }
    }
    let lines = [
        Line {
            name: "IDLE to READY, one at a time",
            points: &found.policy.start,
        },
        Line {
            name: "one flap",
            points: &found.policy.flap,
        },
    ];
    if !found.policy.start.is_empty() {
        let title = "round_robin: time per change as it grows".to_owned();
        let svg = plot::lines(&title, "backends", "µs", &lines);
        plots.push(("growth".into(), title, svg));
    }
    plots
}
