//! Work that is shared by a few threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often progress is told.
const TELL: Duration = Duration::from_secs(10);

/// Does `work` for each of `all` on so many threads, and tells on stderr how far it is; what came of each,
/// in the order of `all`.
///
/// # Errors
/// The first that occurs. What has been begun is still done.
pub(super) fn share<T: Sync, R: Send>(
    threads: usize,
    what: &str,
    all: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let done: Mutex<(Vec<(usize, R)>, Duration)> = Mutex::new((Vec::new(), Duration::ZERO));
    let worker = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Relaxed);
            let Some(item) = all.get(index) else {
                return Ok(());
            };
            let result = work(item).inspect_err(|_| next.store(all.len(), Relaxed))?;
            let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            done.0.push((index, result));
            let elapsed = started.elapsed();
            if elapsed > done.1 + TELL || done.0.len() == all.len() {
                done.1 = elapsed;
                let (count, seconds) = (done.0.len(), elapsed.as_secs());
                eprintln!("{what}: {count} of {} in {seconds} s", all.len());
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let (mut done, _) = done
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
