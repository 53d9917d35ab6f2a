//! How long to wait before the next attempt (gRPC's connection back-off protocol).

use std::time::Duration;

/// The back-off between passes over a SubConn's addresses, between resolutions that failed, and
/// before a policy that panicked is built again.
///
/// The n-th wait is `initial · multiplierⁿ`, at most `max`, times 1 ± `jitter`.
///
/// ```
/// use balancer_channel_core::Backoff;
/// use std::time::Duration;
/// let backoff = Backoff::default();
/// assert_eq!(backoff.exact(0), Duration::from_secs(1));
/// assert_eq!(backoff.exact(1), Duration::from_millis(1600));
/// assert_eq!(backoff.exact(1_000), Duration::from_secs(120));
/// let longest = backoff.jittered(0, u64::MAX);
/// assert!(longest <= Duration::from_millis(1200) && longest > Duration::from_millis(1199));
/// assert_eq!(backoff.jittered(0, 0), Duration::from_millis(800));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first wait. At least [`Backoff::FLOOR`].
    pub initial: Duration,
    /// The growth from one wait to the next. At least 1.
    pub multiplier: f64,
    /// The part by which a wait may be shorter or longer, 0 to 1.
    pub jitter: f64,
    /// No wait is longer than this, before jitter.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            multiplier: 1.6,
            jitter: 0.2,
            max: Duration::from_secs(120),
        }
    }
}

impl Backoff {
    /// No first wait is shorter, whatever was configured: a client must not hammer a backend.
    pub const FLOOR: Duration = Duration::from_millis(100);

    /// This back-off with `initial` as its first wait.
    #[must_use]
    pub fn with_initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// This back-off with no wait longer than `max` (before jitter).
    #[must_use]
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// The n-th wait without jitter.
    pub fn exact(&self, n: u32) -> Duration {
        let initial = self.initial.max(Self::FLOOR);
        let max = self.max.max(initial);
        let multiplier = if self.multiplier >= 1.0 {
            self.multiplier
        } else {
            1.0
        };
        let factor = multiplier.powi(i32::try_from(n).unwrap_or(i32::MAX));
        let seconds = initial.as_secs_f64() * factor;
        if seconds.is_finite() && seconds < max.as_secs_f64() {
            Duration::from_secs_f64(seconds)
        } else {
            max
        }
    }

    /// The n-th wait with jitter from 64 random bits.
    pub fn jittered(&self, n: u32, random: u64) -> Duration {
        let jitter = if (0.0..=1.0).contains(&self.jitter) {
            self.jitter
        } else {
            0.0
        };
        // The 53 high bits make a number in [0, 1) without rounding.
        let unit = (random >> 11) as f64 / (1u64 << 53) as f64;
        self.exact(n).mul_f64(1.0 - jitter + 2.0 * jitter * unit)
    }
}
