//! Which failures a fault explains.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use tonic::Code;

use super::{
    client::Heard,
    wire::{Failed, now_ms},
    world::World,
};

/// How long after a fault its failures may be told: the client has to hear of it first.
const SLACK_MS: u64 = 1_000;

/// Faults that may cost RPCs, and how often each kind of fault came.
#[derive(Debug, Default)]
pub(super) struct Costs {
    windows: Vec<Window>,
    times: BTreeMap<&'static str, usize>,
}

/// From when to when RPCs may fail.
#[derive(Clone, Copy, Debug)]
struct Window {
    from_ms: u64,
    until_ms: u64,
}

/// What became of the failures.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) explained: usize,
    pub(super) unexplained: Vec<String>,
}

// === impl Costs ===

impl Costs {
    /// A fault of that kind begins, which must not cost anything.
    pub(super) fn free(&mut self, kind: &'static str) {
        *self.times.entry(kind).or_default() += 1;
    }

    /// A fault of that kind begins, which may cost what is under way, until it
    /// [is over](Self::over).
    pub(super) fn begin(&mut self, kind: &'static str) {
        self.free(kind);
        self.windows.push(Window {
            from_ms: now_ms(),
            until_ms: u64::MAX,
        });
    }

    /// The fault that began last costs nothing more.
    pub(super) fn over(&mut self) {
        if let Some(window) = self.windows.last_mut() {
            window.until_ms = now_ms() + SLACK_MS;
        }
    }

    /// A failure is explained if it is UNAVAILABLE and came while a fault might cost something. Those of
    /// the steady load may be no more than the RPCs whose HEADERS such a fault's connections took and
    /// whose answers never came.
    pub(super) fn judge(&self, heard: &Heard, world: &World) -> Verdict {
        let (fine, poor): (Vec<&Failed>, Vec<&Failed>) = heard
            .failed
            .iter()
            .partition(|failed| self.explains(failed));
        let mut unexplained: Vec<String> = poor.iter().map(|f| format!("{f:?}")).collect();
        let lost = world.lost(&heard.answered);
        let steady = fine.iter().filter(|failed| failed.steady).count();
        for n in lost..steady {
            unexplained.push(format!("steady failure {n}, where {lost} RPCs were lost"));
        }
        println!("{lost} RPCs of the steady load were lost, {steady} failed");
        Verdict {
            explained: heard.failed.len().saturating_sub(unexplained.len()),
            unexplained,
        }
    }

    fn explains(&self, failed: &Failed) -> bool {
        let at = |window: &Window| (window.from_ms..=window.until_ms).contains(&failed.ended_ms);
        Code::from(failed.code) == Code::Unavailable && self.windows.iter().any(at)
    }
}

impl Display for Costs {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, (kind, times)) in self.times.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{times} {kind}")?;
        }
        Ok(())
    }
}
