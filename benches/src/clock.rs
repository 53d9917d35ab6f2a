//! The CPU time of this process.

use std::time::Duration;

use cpu_time::ProcessTime;

/// User and system time of all its threads, ended ones too; `None` where the system does not tell.
pub fn cpu() -> Option<Duration> {
    ProcessTime::try_now().ok().map(|spent| spent.as_duration())
}
