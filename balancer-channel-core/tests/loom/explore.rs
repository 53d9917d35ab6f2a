//! Runs a model through its interleavings, and says how many there were and within which bound.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use loom::model::Builder;

/// A model that has not ended after so long is explored within [`SMALL`] instead.
const LONG: Duration = Duration::from_secs(5 * 60);

/// So many preemptions are always explored. What needs more is rarer than what a model misses.
const SMALL: usize = 2;

/// Explores every interleaving of `check` with up to `BALANCER_LOOM_BOUND` preemptions.
///
/// # Panics
/// An interleaving fails, or ends in a deadlock.
pub(crate) fn model(name: &str, check: impl Fn() + Send + Sync + 'static) {
    let check = Arc::new(check);
    let wanted = std::env::var("BALANCER_LOOM_BOUND").map_or(SMALL, |bound| {
        bound
            .parse()
            .unwrap_or_else(|_| panic!("BALANCER_LOOM_BOUND={bound}: must be a number"))
    });
    if let Some(explored) = explore(wanted, (wanted > SMALL).then_some(LONG), &check) {
        println!("model {name}: {explored} interleavings, bound {wanted}");
        return;
    }
    let explored = explore(SMALL, None, &check).unwrap_or_default();
    println!(
        "model {name}: {explored} interleavings, bound {SMALL} ({wanted} does not end in {} s)",
        LONG.as_secs()
    );
}

/// How many interleavings there are; `None` when there was not the time for all of them.
fn explore(
    bound: usize,
    limit: Option<Duration>,
    check: &Arc<impl Fn() + Send + Sync + 'static>,
) -> Option<usize> {
    /// What an exploration that takes too long is left with.
    struct TooLong;

    let mut builder = Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = 100_000;
    let explored = Arc::new(AtomicUsize::new(0));
    let (check, counted, started) = (check.clone(), explored.clone(), Instant::now());
    let all = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            let before = counted.fetch_add(1, Relaxed);
            if before % 64 == 0 && limit.is_some_and(|limit| started.elapsed() > limit) {
                std::panic::panic_any(TooLong);
            }
            check();
        });
    }));
    match all {
        Ok(()) => Some(explored.load(Relaxed)),
        Err(panic) if panic.is::<TooLong>() => None,
        Err(panic) => resume_unwind(panic),
    }
}
