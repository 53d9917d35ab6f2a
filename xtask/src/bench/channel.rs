//! What the channel costs beside its RPCs: those that wait, many connections, doing nothing.

use anyhow::Result;

use super::{
    held::{Rows, Turn, until_sure},
    rounds::{Effort, Progress},
    run::{Binaries, Server, number},
    stats::{Bar, Estimate},
};

/// RPCs that wait at once.
const WAITING: &str = "100000";

/// Connections that are made at once.
const CROWD: usize = 1_000;

/// Milliseconds that a channel is looked at while it has nothing to do.
const REST: &str = "2000";

/// Looking at the clock is not nothing: what a channel without work may be seen to use in that time,
/// in milliseconds.
const NOTHING: f64 = 1.0;

/// How many steps a run takes, for the progress.
pub(super) const STEPS: usize = 4;

/// Measures it.
pub(super) fn run(binaries: &Binaries, effort: Effort, progress: &mut Progress) -> Result<Rows> {
    let mut rows = Rows::default();
    waiting(binaries, effort, &mut rows, progress)?;
    crowd(binaries, effort, &mut rows, progress)?;
    idle(binaries, &mut rows, progress)?;
    Ok(rows)
}

fn waiting(
    binaries: &Binaries,
    effort: Effort,
    rows: &mut Rows,
    progress: &mut Progress,
) -> Result<()> {
    progress.step("RPCs that wait");
    let ends = [("sent nowhere", &[][..]), ("failed", &["--fail"][..])];
    for (end, args) in ends {
        let args: Vec<&str> = ["--rpcs", WAITING].iter().chain(args).copied().collect();
        let mut object = serde_json::Value::Null;
        let [cpu] = until_sure(effort, || {
            object = binaries.waiting(&args)?;
            Ok([number(&object, "cpu_ms")?])
        })?;
        rows.hold(
            format!("{WAITING} RPCs that wait: released, asked again, {end}; CPU"),
            "ms",
            cpu,
            Some(Bar::AtMost(200.0)),
        );
        if end == "sent nowhere" {
            let held = number(&object, "bytes")?;
            rows.hold(
                "heap of one that waits",
                "bytes",
                Estimate::exact(held),
                None,
            );
            let future = number(&object, "future")?;
            rows.hold(
                "a wait, in the RPC's own future",
                "bytes",
                Estimate::exact(future),
                None,
            );
        }
    }
    Ok(())
}

fn crowd(
    binaries: &Binaries,
    effort: Effort,
    rows: &mut Rows,
    progress: &mut Progress,
) -> Result<()> {
    progress.step(&format!("{CROWD} connections"));
    let server = Server::start(binaries, CROWD, None)?;
    let connect = |who: &str| binaries.channel(&["connect", "--who", who, server.addresses()]);
    let mut turn = Turn::default();
    let [wall, cpu] = until_sure(effort, || {
        // The second one finds the servers warm.
        let (ours, bare) = turn.pair(|| connect("ours"), || connect("bare-h2"))?;
        let ratio = |field| Ok::<_, anyhow::Error>(number(&ours, field)? / number(&bare, field)?);
        Ok([ratio("wall_ms")?, ratio("cpu_ms")?])
    })?;
    for (is, what) in [(wall, "wall time"), (cpu, "client CPU")] {
        rows.hold(
            format!("{CROWD} connections up, {what}, to bare `h2`"),
            "times",
            is,
            Some(Bar::AtMost(1.15)),
        );
    }
    Ok(())
}

fn idle(binaries: &Binaries, rows: &mut Rows, progress: &mut Progress) -> Result<()> {
    progress.step("doing nothing");
    let server = Server::start(binaries, 8, None)?;
    let addresses = server.addresses().to_owned();
    let rest = ["idle", "--millis", REST];
    let idle = |args: &[&str]| number(&binaries.channel(args)?, "cpu_ms");
    let up = idle(&[&rest[..], &[&addresses]].concat())?;
    drop(server);
    progress.step("doing nothing while all are down");
    let down = idle(&[&rest[..], &["--down", &addresses]].concat())?;
    for (what, cpu) in [
        ("all are READY", up),
        ("all are down, between back-offs", down),
    ] {
        rows.hold(
            format!("CPU in {REST} ms without RPCs, {what}"),
            "ms",
            Estimate::exact(cpu),
            Some(Bar::AtMost(NOTHING)),
        );
    }
    Ok(())
}
