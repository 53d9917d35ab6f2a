//! When retries stop because too many RPCs fail (gRFC A6).

use crate::{
    fields::{Fields, Unknown},
    path::Path,
    report::Report,
    shape::RETRY_THROTTLING,
};

/// A budget of tokens for the retries and hedges of all RPCs to a server name.
///
/// It starts full; a failure takes one token and a success gives [`token_ratio`](Self::token_ratio)
/// back; there is no retry or hedge unless more than half of the tokens are left. Tokens are
/// counted in thousandths, so that there is no rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryThrottling {
    /// Thousandths of tokens when it is full: 1,000 to 1,000,000.
    pub max_milli_tokens: u32,
    /// Thousandths of a token for each success: 1 to 1,000,000.
    pub milli_token_ratio: u32,
}

const MAX_TOKENS: u32 = 1000;

// === impl RetryThrottling ===

impl RetryThrottling {
    pub(crate) fn read(
        top: &Fields<'_, '_>,
        unknown: &Unknown<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let value = top.value("retryThrottling")?;
        let path = Path::Key(&Path::Root, "retryThrottling");
        let fields = Fields::read(value, &path, &RETRY_THROTTLING, unknown, report)?;
        fields.require("maxTokens", report);
        fields.require("tokenRatio", report);
        let max_tokens = fields.u32("maxTokens", 1..=MAX_TOKENS, report);
        let ratio = fields.positive("tokenRatio", report);
        let milli = ratio.map(thousandths);
        if let (Some(0), Some(value)) = (milli, fields.value("tokenRatio")) {
            let rule = "must be at least 0.001: more than three decimals are not looked at";
            fields.error("tokenRatio", value.raw(), rule, report);
        }
        Some(Self {
            max_milli_tokens: max_tokens? * 1000,
            milli_token_ratio: milli?,
        })
    }

    /// `maxTokens` as configured.
    pub fn max_tokens(&self) -> u32 {
        self.max_milli_tokens / 1000
    }

    /// `tokenRatio` as configured, cut to three decimals.
    pub fn token_ratio(&self) -> f64 {
        f64::from(self.milli_token_ratio) / 1000.0
    }
}

/// Cuts to three decimals. Multiplying would turn 1.001 into 1000.9999.
fn thousandths(ratio: f64) -> u32 {
    // More than all tokens at once cannot be given.
    if ratio >= f64::from(MAX_TOKENS) {
        return MAX_TOKENS * 1000;
    }
    let text = ratio.to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let decimals: String = decimals.chars().chain("000".chars()).take(3).collect();
    let read = |digits: &str| digits.parse::<u32>().unwrap_or(0);
    read(whole) * 1000 + read(&decimals)
}
