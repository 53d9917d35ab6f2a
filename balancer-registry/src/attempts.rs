//! How often an RPC may be tried: retries and hedging (gRFC A6).

use std::{fmt, sync::Arc, time::Duration};

use balancer_api::Code;

use crate::{
    Limits,
    fields::{Fields, Unknown, whole},
    json::{Kind, Value},
    path::Path,
    report::Report,
    shape::{HEDGING_POLICY, RETRY_POLICY},
};

/// What a method's config says of further attempts of an RPC: to retry or to hedge, never both.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Attempts {
    /// Neither.
    #[default]
    Once,
    /// Try again after a failure.
    Retry(Arc<RetryPolicy>),
    /// Try more than once at the same time.
    Hedge(Arc<HedgingPolicy>),
}

/// When and how often a failed RPC is tried again.
///
/// Attempt n waits for `min(initial_backoff · backoff_multiplier^(n-1), max_backoff)`, jittered by
/// the channel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts in all, the first one included: from 2 to [`Limits::max_attempts`].
    pub max_attempts: u32,
    /// At least 1 ms.
    pub initial_backoff: Duration,
    /// At least 1 ms.
    pub max_backoff: Duration,
    /// Greater than 0, finite.
    pub backoff_multiplier: f64,
    /// Not empty, without OK.
    pub retryable_status_codes: CodeSet,
}

/// When and how often an RPC is sent once more before the earlier attempts have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgingPolicy {
    /// Attempts in all, the first one included: from 2 to [`Limits::max_attempts`].
    pub max_attempts: u32,
    /// How long to wait before the next attempt; zero sends all at once.
    pub hedging_delay: Duration,
    /// A failure with one of these starts the next attempt at once; any other ends the RPC. May be
    /// empty.
    pub non_fatal_status_codes: CodeSet,
}

/// A set of status codes.
///
/// ```
/// use balancer_api::Code;
/// use balancer_registry::CodeSet;
/// let codes: CodeSet = [Code::Unavailable, Code::Aborted].into_iter().collect();
/// assert!(codes.contains(Code::Aborted) && !codes.contains(Code::Ok));
/// assert_eq!(format!("{codes:?}"), "{ABORTED, UNAVAILABLE}");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CodeSet(u32);

/// A config from the network may not make a client spin.
const MIN_BACKOFF: Duration = Duration::from_millis(1);

// === impl Attempts ===

impl Attempts {
    /// Reads `retryPolicy` or `hedgingPolicy` of a method config.
    pub(crate) fn read(
        method: &Fields<'_, '_>,
        path: &Path<'_>,
        limits: &Limits,
        unknown: &Unknown<'_>,
        report: &mut Report,
    ) -> Self {
        let retry = method.value("retryPolicy");
        let hedging = method.value("hedgingPolicy");
        if let (Some(_), Some(hedging)) = (retry, hedging) {
            let rule = "must not stand beside a retryPolicy: a method has one or the other";
            method.error("hedgingPolicy", hedging.raw(), rule, report);
        }
        let retry = retry.and_then(|value| {
            let path = Path::Key(path, "retryPolicy");
            let fields = Fields::read(value, &path, &RETRY_POLICY, unknown, report)?;
            RetryPolicy::read(&fields, &path, limits, report)
        });
        let hedging = hedging.and_then(|value| {
            let path = Path::Key(path, "hedgingPolicy");
            let fields = Fields::read(value, &path, &HEDGING_POLICY, unknown, report)?;
            HedgingPolicy::read(&fields, &path, limits, report)
        });
        match (retry, hedging) {
            (Some(retry), _) => Self::Retry(Arc::new(retry)),
            (None, Some(hedging)) => Self::Hedge(Arc::new(hedging)),
            (None, None) => Self::Once,
        }
    }
}

// === impl RetryPolicy ===

impl RetryPolicy {
    fn read(
        fields: &Fields<'_, '_>,
        path: &Path<'_>,
        limits: &Limits,
        report: &mut Report,
    ) -> Option<Self> {
        for name in RETRY_POLICY.fields {
            fields.require(name, report);
        }
        let max_attempts = max_attempts(fields, limits, report);
        let initial_backoff = backoff(fields, "initialBackoff", report);
        let max_backoff = backoff(fields, "maxBackoff", report);
        let backoff_multiplier = fields.positive("backoffMultiplier", report);
        let codes = codes(fields, path, "retryableStatusCodes", report);
        if let Some((value, codes)) = codes
            && codes.is_empty()
            && value
                .elements()
                .is_some_and(|mut codes| codes.next().is_none())
        {
            let rule = "must name at least one status code";
            fields.error("retryableStatusCodes", value.raw(), rule, report);
        }
        Some(Self {
            max_attempts: max_attempts?,
            initial_backoff: initial_backoff?,
            max_backoff: max_backoff?,
            backoff_multiplier: backoff_multiplier?,
            retryable_status_codes: codes?.1,
        })
    }
}

// === impl HedgingPolicy ===

impl HedgingPolicy {
    fn read(
        fields: &Fields<'_, '_>,
        path: &Path<'_>,
        limits: &Limits,
        report: &mut Report,
    ) -> Option<Self> {
        fields.require("maxAttempts", report);
        let max_attempts = max_attempts(fields, limits, report);
        let hedging_delay = fields.duration("hedgingDelay", report);
        let codes = codes(fields, path, "nonFatalStatusCodes", report);
        Some(Self {
            max_attempts: max_attempts?,
            hedging_delay: hedging_delay.unwrap_or_default(),
            non_fatal_status_codes: codes.map(|(_, codes)| codes).unwrap_or_default(),
        })
    }
}

/// `maxAttempts`: more than one; more than the client allows counts as what it allows.
fn max_attempts(fields: &Fields<'_, '_>, limits: &Limits, report: &mut Report) -> Option<u32> {
    const NAME: &str = "maxAttempts";
    let asked = fields.u32(NAME, 2..=u32::MAX, report)?;
    let allowed = limits.max_attempts;
    if asked > allowed {
        fields.warn(NAME, report, || {
            format!("{asked} attempts are more than the client allows; {allowed} are used")
        });
    }
    Some(asked.min(allowed))
}

fn backoff(fields: &Fields<'_, '_>, name: &'static str, report: &mut Report) -> Option<Duration> {
    let asked = fields.positive_duration(name, report)?;
    if asked < MIN_BACKOFF {
        fields.warn(name, report, || {
            "less than the client allows; 1 ms is used".to_owned()
        });
    }
    Some(asked.max(MIN_BACKOFF))
}

/// A list of status codes, by name in any case or by number.
fn codes<'d>(
    fields: &Fields<'d, '_>,
    path: &Path<'_>,
    name: &'static str,
    report: &mut Report,
) -> Option<(Value<'d>, CodeSet)> {
    let value = fields.value(name)?;
    let list = fields.list(name, report)?;
    let path = Path::Key(path, name);
    let mut codes = CodeSet::default();
    for (i, element) in list.enumerate() {
        let path = Path::Index(&path, i);
        match code(element) {
            Some(Code::Ok) => {
                report.error(&path, element.raw(), "must not be OK, which is no failure")
            }
            Some(code) => codes.insert(code),
            None => {
                let rule = "must be a status code, such as \"UNAVAILABLE\" or 14";
                report.error(&path, element.raw(), rule);
            }
        }
    }
    Some((value, codes))
}

fn code(value: Value<'_>) -> Option<Code> {
    match value.kind() {
        Kind::Number => Code::ALL.get(whole(value)? as usize).copied(),
        _ => Code::from_name(&value.as_str()?),
    }
}

// === impl CodeSet ===

impl CodeSet {
    /// Whether `code` is in the set.
    pub fn contains(self, code: Code) -> bool {
        self.0 & bit(code) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The codes, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Code> {
        Code::ALL
            .into_iter()
            .filter(move |code| self.contains(*code))
    }

    fn insert(&mut self, code: Code) {
        self.0 |= bit(code);
    }
}

impl FromIterator<Code> for CodeSet {
    fn from_iter<I: IntoIterator<Item = Code>>(codes: I) -> Self {
        let mut set = Self::default();
        codes.into_iter().for_each(|code| set.insert(code));
        set
    }
}

impl fmt::Debug for CodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .iter()
            .map(|code| format_args!("{}", code.as_str()).to_string());
        write!(f, "{{{}}}", names.collect::<Vec<_>>().join(", "))
    }
}

fn bit(code: Code) -> u32 {
    1 << code as u32
}
