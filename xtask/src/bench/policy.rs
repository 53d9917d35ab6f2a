//! `round_robin` by itself: picks, changes, memory, from two backends to a hundred thousand.

use anyhow::Result;

use super::{
    go::Go,
    held::{Rows, Turn, until_sure},
    plan::BACKENDS,
    rounds::{Effort, Progress},
    run::{Binaries, Server, number},
    stats::{Bar, Estimate, median},
};

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub rows: Rows,
    /// Microseconds per SubConn to start, by the number of backends, for the plot.
    pub start: Vec<(f64, f64)>,
    /// The same of a flap.
    pub flap: Vec<(f64, f64)>,
    /// What could not be measured.
    pub absent: Vec<&'static str>,
}

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

/// The function that is the pick, to callgrind.
const PICK: &str = "*RoundRobinPicker*Picker*pick*";

/// The one that brings all backends up.
const BRING_UP: &str = "*Fleet*bring_up_in*";

/// Picks of one run: long enough for threads to overlap.
const PICKS: &str = "5000000";

/// A shared counter that takes two threads no longer than this, in times of what one takes, was not
/// contended for.
const CONTENDED: f64 = 2.0;

/// Steps of its own between two picks of a thread: about a hundredth of what an RPC takes.
const BUSY: &str = "40";

/// How many steps a run takes, for the progress.
pub(super) const STEPS: usize = 27;

/// Measures it.
pub(super) fn run(
    binaries: &Binaries,
    features: &[&str],
    go: Option<(&Go, &Server)>,
    callgrind: bool,
    effort: Effort,
    progress: &mut Progress,
) -> Result<Policy> {
    let mut policy = Policy::default();
    if callgrind {
        instructions(binaries, features, &mut policy, progress)?;
    }
    picks(binaries, features, effort, &mut policy, progress)?;
    if let Some((go, server)) = go
        && let Err(error) = picks_beside_go(binaries, go, server, effort, &mut policy, progress)
    {
        println!("{error:#}");
        policy.absent.push("grpc-go's picks");
    }
    picks_at_once(binaries, effort, &mut policy, progress)?;
    changes(binaries, effort, &mut policy, progress)?;
    Ok(policy)
}

fn instructions(
    binaries: &Binaries,
    features: &[&str],
    policy: &mut Policy,
    progress: &mut Progress,
) -> Result<()> {
    progress.step("instructions of a pick");
    for backends in ["2", "1000", "100000"] {
        let args = ["pick", "--backends", backends];
        let is = binaries.pick_instructions(&args, Some(PICK))?;
        policy.rows.hold(
            format!("a pick through `dyn Picker`, {backends} backends"),
            "instructions",
            Estimate::exact(is),
            Some(Bar::AtMost(55.0)),
        );
    }
    let args = ["pick", "--backends", "10000", "--lost", "256"];
    let is = binaries.pick_instructions(&args, Some(PICK))?;
    policy.rows.hold(
        "the same after 256 backends of 10000 were lost one by one",
        "instructions",
        Estimate::exact(is),
        Some(Bar::AtMost(150.0)),
    );
    progress.step("instructions of loading the picker");
    let whole = |picker| {
        let args = ["pick", "--backends", "1000", "--picker", picker];
        binaries.pick_instructions(&args, None)
    };
    let ours = whole("ours")?;
    policy.rows.hold(
        "loading the current picker before it",
        "instructions",
        Estimate::exact(whole("ours-loaded")? - ours),
        Some(Bar::AtMost(90.0)),
    );
    policy.rows.hold(
        "a pick, its call and the drop of its answer",
        "instructions",
        Estimate::exact(ours),
        None,
    );
    growth_of_instructions(binaries, policy, progress)?;
    for (picker, what) in rivals(features) {
        progress.step(&format!("instructions of {what}"));
        policy.rows.hold(
            format!("{what}, 1000 backends"),
            "instructions",
            Estimate::exact(whole(picker)?),
            None,
        );
    }
    Ok(())
}

/// The growth that no cache has a part in.
fn growth_of_instructions(
    binaries: &Binaries,
    policy: &mut Policy,
    progress: &mut Progress,
) -> Result<()> {
    for burst in ["128", "1"] {
        let mut each = Vec::new();
        for size in SIZES {
            progress.step(&format!("instructions of starting {size} backends"));
            let backends = size.to_string();
            let args = ["start", "--backends", &backends, "--burst", burst];
            each.push(binaries.policy_instructions(&args, BRING_UP)? / size as f64);
            policy.rows.hold(
                format!("IDLE to READY, {size} backends, {burst} at a time, each"),
                "instructions",
                Estimate::exact(each[each.len() - 1]),
                None,
            );
        }
        policy.rows.hold(
            format!("exponent of their growth from 1000 to 100000, {burst} at a time"),
            "",
            Estimate::exact(exponent(&each)),
            Some(Bar::AtMost(1.15)),
        );
    }
    Ok(())
}

/// The exponent of the whole's growth over two powers of ten, from the cost of each.
fn exponent(each: &[f64]) -> f64 {
    match each {
        [first, .., last] => 1.0 + (last / first).log10() / 2.0,
        _ => 1.0,
    }
}

fn picks(
    binaries: &Binaries,
    features: &[&str],
    effort: Effort,
    policy: &mut Policy,
    progress: &mut Progress,
) -> Result<()> {
    let all = [("ours", "a pick and the drop of its answer")];
    for (picker, what) in all.into_iter().chain(rivals(features)) {
        progress.step(&format!("time of {what}"));
        let [each] = until_sure(effort, || Ok([nanos(binaries, picker, "1", "0")?]))?;
        let what = format!("{what}, 1000 backends");
        policy.rows.hold(what, "ns", each, None);
    }
    Ok(())
}

/// Of a pick, of so many threads at once.
fn nanos(binaries: &Binaries, picker: &str, threads: &str, between: &str) -> Result<f64> {
    let common = ["--backends", "1000", "--count", PICKS, "--between", between];
    let args = ["pick", "--picker", picker, "--threads", threads];
    let args: Vec<&str> = args.into_iter().chain(common).collect();
    number(&binaries.policy_on_all_processors(&args)?, "ns_per_pick")
}

/// A pick, and two threads that pick at once, in the same rounds as grpc-go's.
fn picks_beside_go(
    binaries: &Binaries,
    go: &Go,
    server: &Server,
    effort: Effort,
    policy: &mut Policy,
    progress: &mut Progress,
) -> Result<()> {
    let backends = BACKENDS.to_string();
    for (threads, what, bar) in [
        ("1", "a pick", Some(Bar::AtMost(1.15))),
        ("2", "a pick of two threads at once", None),
    ] {
        progress.step(&format!("time of {what}, beside grpc-go's"));
        let common = ["--threads", threads, "--count", PICKS];
        let ours = [&["pick", "--backends", &backends], &common[..]].concat();
        let theirs = [&["pick", server.addresses()], &common[..]].concat();
        let mut turn = Turn::default();
        let [each, ratio] = until_sure(effort, || {
            let (ours, theirs) = turn.pair(
                || match threads {
                    "1" => binaries.policy(&ours),
                    _ => binaries.policy_on_all_processors(&ours),
                },
                || go.picks(&theirs, threads == "1"),
            )?;
            let theirs = number(&theirs, "ns_per_pick")?;
            Ok([theirs, number(&ours, "ns_per_pick")? / theirs])
        })?;
        let theirs = format!("{what} of grpc-go's `round_robin`, {backends} backends");
        policy.rows.hold(theirs, "ns", each, None);
        let what = format!("{what} of ours, {backends} backends, to that");
        policy.rows.hold(what, "times", ratio, bar);
    }
    Ok(())
}

fn picks_at_once(
    binaries: &Binaries,
    effort: Effort,
    policy: &mut Policy,
    progress: &mut Progress,
) -> Result<()> {
    progress.step("two threads that pick at once");
    let mut turn = Turn::default();
    let [shared, ours, least] = until_sure(effort, || {
        let two = |picker| nanos(binaries, picker, "2", "0");
        let ((alone, counter), (least, ours)) = turn.pair(
            || Ok((nanos(binaries, "fetch-add", "1", "0")?, two("fetch-add")?)),
            || Ok((two("counting")?, two("ours")?)),
        )?;
        Ok([counter / alone, ours / counter, ours / least])
    })?;
    progress.step("two threads that do something else as well");
    let [between, busy] = until_sure(effort, || {
        let two = |picker| nanos(binaries, picker, "2", BUSY);
        let alone = nanos(binaries, "nobody", "1", BUSY)?;
        let (counter, ours) = turn.pair(|| two("fetch-add"), || two("ours"))?;
        Ok([alone, ours / counter])
    })?;
    // Two threads that share a processor, or its innermost cache, do not contend; nor do two that are
    // so far apart that each keeps the line for many picks. Those who do are held to the bar.
    let held = (shared.median >= CONTENDED).then_some(Bar::AtMost(1.25));
    for (what, unit, estimate, bar) in [
        (
            "a bare shared `fetch_add`, two threads at once to one",
            "times",
            shared,
            None,
        ),
        (
            "two threads that do nothing but pick at once, to that of two",
            "times",
            ours,
            held,
        ),
        (
            "two threads that do nothing but pick at once, to a picker that only counts",
            "times",
            least,
            None,
        ),
        (
            "what a thread does between two picks where it does something else as well",
            "ns",
            between,
            None,
        ),
        (
            "two such threads picking at once, to two with a bare `fetch_add`",
            "times",
            busy,
            Some(Bar::AtMost(1.25)),
        ),
    ] {
        policy.rows.hold(what, unit, estimate, bar);
    }
    Ok(())
}

fn changes(
    binaries: &Binaries,
    effort: Effort,
    policy: &mut Policy,
    progress: &mut Progress,
) -> Result<()> {
    let orders = [("", &[][..]), (" in any order", &["--shuffled"][..])];
    let bursts = [("128", 1.0), ("1", 5.0)];
    let ways = orders
        .iter()
        .flat_map(|order| bursts.map(|burst| (order, burst)));
    for ((order, shuffled), (burst, bar)) in ways {
        progress.step(&format!("starting{order}, {burst} at a time"));
        let start = |size: usize| {
            let backends = size.to_string();
            let args = ["start", "--backends", &backends, "--burst", burst];
            let args = [&args[..], shuffled].concat();
            Ok(number(&binaries.policy(&args)?, "ns_per_sub_conn")? / 1e3)
        };
        let [small, middle, large, growth] = until_sure(effort, || {
            let each: Vec<f64> = SIZES.iter().copied().map(start).collect::<Result<_>>()?;
            Ok([each[0], each[1], each[2], exponent(&each)])
        })?;
        for (size, each) in SIZES.iter().zip([small, middle, large]) {
            policy.rows.hold(
                format!("IDLE to READY{order}, {size} backends, {burst} at a time, each"),
                "µs",
                each,
                Some(Bar::AtMost(bar)),
            );
            if burst == "1" && shuffled.is_empty() {
                policy.start.push((*size as f64, each.median));
            }
        }
        policy.rows.hold(
            format!("exponent of that time's growth from 1000 to 100000{order}, {burst} at a time"),
            "",
            growth,
            // In an order of chance it is memory that grows far away.
            shuffled.is_empty().then_some(Bar::AtMost(1.15)),
        );
    }
    for (size, bar) in SIZES.iter().zip([None, Some(8.0), Some(15.0)]) {
        progress.step(&format!("flapping among {size} backends"));
        let backends = size.to_string();
        let args = ["flap", "--backends", &backends, "--count", "10000"];
        let mut worst = Vec::new();
        let [each] = until_sure(effort, || {
            let object = binaries.policy(&args)?;
            worst.push(number(&object, "worst_ns")? / 1e6);
            Ok([number(&object, "ns_per_flap")? / 1e3])
        })?;
        policy.flap.push((*size as f64, each.median));
        policy.rows.hold(
            format!("a flap of a random one of {size} backends, over 10000 flaps"),
            "µs",
            each,
            bar.map(Bar::AtMost),
        );
        policy.rows.hold(
            format!(
                "the worst single flap of 10000 among {size} backends, in half of the runs at most"
            ),
            "ms",
            Estimate::exact(median(&worst)),
            Some(Bar::AtMost(3.0)),
        );
    }
    progress.step("the same list again");
    let args = ["same-list", "--backends", "100000"];
    let [again] = until_sure(effort, || {
        Ok([number(&binaries.policy(&args)?, "ns")? / 1e6])
    })?;
    policy.rows.hold(
        "an identical list of 100000 addresses",
        "ms",
        again,
        Some(Bar::AtMost(30.0)),
    );
    progress.step("memory");
    for size in ["1000", "100000"] {
        let args = ["memory", "--backends", size];
        let bytes = number(&binaries.policy(&args)?, "bytes_per_sub_conn")?;
        policy.rows.hold(
            format!("policy and picker per SubConn, {size} backends"),
            "bytes",
            Estimate::exact(bytes),
            Some(Bar::AtMost(600.0)),
        );
    }
    Ok(())
}

/// Other pickers that were compiled in.
fn rivals(features: &[&str]) -> Vec<(&'static str, &'static str)> {
    let mut rivals = Vec::new();
    if !features.is_empty() {
        rivals.push(("tower-p2c", "tower's power of two choices"));
    }
    if features.contains(&"pingora") {
        rivals.push(("pingora", "pingora's round robin"));
    }
    rivals
}
