//! One line on the terminal that says how far a long run is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::MissedTickBehavior};

use crate::{format, output};

/// Counts that everybody adds to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ended: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// What the run is heading for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    Count(u64),
    Duration(Duration),
}

/// Shows the counts while it lives.
#[derive(Debug)]
pub(crate) struct Progress(Option<JoinHandle<()>>);

/// Shorter runs need no progress, only a result.
const PATIENCE: Duration = Duration::from_secs(1);
const REFRESH: Duration = Duration::from_millis(200);

// === impl Progress ===

impl Progress {
    /// On a terminal only.
    pub(crate) fn start(counts: &Arc<Counts>, goal: Goal) -> Self {
        if !output::is_watched() {
            return Self(None);
        }
        let counts = counts.clone();
        let started = Instant::now();
        Self(Some(tokio::spawn(async move {
            let first = tokio::time::Instant::now() + PATIENCE;
            let mut ticks = tokio::time::interval_at(first, REFRESH);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                output::say_over(&line(&counts, goal, started.elapsed()));
            }
        })))
    }

    /// Wipes the line.
    pub(crate) fn end(self, ran: Duration) {
        let Some(task) = self.0 else { return };
        task.abort();
        if ran >= PATIENCE {
            output::say_over("");
        }
    }
}

fn line(counts: &Counts, goal: Goal, elapsed: Duration) -> String {
    let ended = counts.ended.load(Ordering::Relaxed);
    let failed = counts.failed.load(Ordering::Relaxed);
    let part = match goal {
        Goal::Count(goal) => ended as f64 / goal as f64,
        Goal::Duration(goal) => elapsed.as_secs_f64() / goal.as_secs_f64(),
    };
    const WIDTH: usize = 24;
    let full = ((part.clamp(0.0, 1.0)) * WIDTH as f64) as usize;
    let bar = "█".repeat(full) + &"░".repeat(WIDTH - full);
    let rate = format::count((ended as f64 / elapsed.as_secs_f64()) as u64);
    format!(
        "{bar} {:3.0} %  {}  {rate}/s  {} failed  {}",
        part.clamp(0.0, 1.0) * 100.0,
        format::counted(ended, "RPC", "RPCs"),
        format::count(failed),
        format::time(elapsed),
    )
}
