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

/// From when to when RPCs may fail, and whose.
#[derive(Clone, Debug)]
struct Window {
    /// The life of a backend that ended then.
    life: String,
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
    /// [is over](Self::over). It ends this life of a backend.
    pub(super) fn begin(&mut self, kind: &'static str, life: &str) {
        self.free(kind);
        self.windows.push(Window {
            life: life.to_owned(),
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
    /// the steady load may be no more than the RPCs whose HEADERS the connections took that this very
    /// fault ended, and whose answers never came.
    pub(super) fn judge(&self, heard: &Heard, world: &World) -> Verdict {
        let mut unexplained = Vec::new();
        let mut steady = vec![0; self.windows.len()];
        for failed in &heard.failed {
            match self.window_of(failed) {
                Some(n) => steady[n] += usize::from(failed.steady),
                None => unexplained.push(format!("{failed:?}")),
            }
        }
        for (window, failed) in self.windows.iter().zip(steady) {
            let life = &window.life;
            let lost = world.lost(life, &heard.answered);
            for _ in lost..failed {
                unexplained.push(format!("{life} lost {lost} RPCs, and {failed} failed"));
            }
        }
        Verdict {
            explained: heard.failed.len().saturating_sub(unexplained.len()),
            unexplained,
        }
    }

    /// The last fault that may have cost this RPC.
    fn window_of(&self, failed: &Failed) -> Option<usize> {
        let at = |window: &Window| (window.from_ms..=window.until_ms).contains(&failed.ended_ms);
        let unavailable = Code::from(failed.code) == Code::Unavailable;
        self.windows.iter().rposition(at).filter(|_| unavailable)
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
