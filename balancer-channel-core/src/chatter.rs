//! How much one thing may say in the log.

use std::time::Duration;

use balancer_api::Timestamp;

/// Counts lines: what happens over and over is told a few times, then counted in silence for a while.
///
/// ```
/// use balancer_api::Timestamp;
/// use balancer_channel_core::Chatter;
///
/// let mut chatter = Chatter::default();
/// let start = Timestamp::ZERO;
/// let told = (0..1_000).filter(|_| chatter.may_speak(start).is_some()).count();
/// assert_eq!(told, Chatter::LINES as usize);
/// let later = start + Chatter::WINDOW;
/// assert_eq!(chatter.may_speak(later), Some(1_000 - u64::from(Chatter::LINES)));
/// assert_eq!(chatter.may_speak(later), Some(0));
/// ```
#[derive(Debug, Default)]
pub struct Chatter {
    /// When the first line of this window was told.
    since: Timestamp,
    told: u32,
    untold: u64,
}

// === impl Chatter ===

impl Chatter {
    /// How many lines there are in a window.
    pub const LINES: u32 = 20;

    /// How long a window is.
    pub const WINDOW: Duration = Duration::from_secs(30);

    /// Whether a line may be told now; with it, how many were not told before it.
    pub fn may_speak(&mut self, now: Timestamp) -> Option<u64> {
        if self.told == 0 || now - self.since >= Self::WINDOW {
            self.since = now;
            self.told = 0;
        }
        if self.told < Self::LINES {
            self.told += 1;
            return Some(std::mem::take(&mut self.untold));
        }
        self.untold += 1;
        None
    }
}
