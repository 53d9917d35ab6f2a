//! Durations as the command line writes them: `200ms`, `5s`, `1m`.

use std::time::Duration;

/// Nobody waits longer, and sums of such durations stay within the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Parses a duration longer than nothing.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    match parse_or_zero(text)? {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        duration => Ok(duration),
    }
}

/// Parses a number, decimals allowed, with its unit: `ms`, `s` or `m`.
pub(crate) fn parse_or_zero(text: &str) -> Result<Duration, String> {
    const RULE: &str = "must be a number with a unit: 200ms, 5s or 1m";
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or(RULE)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(RULE.to_owned()),
    };
    let starts_with_digit = number.starts_with(|c: char| c.is_ascii_digit());
    let ends_with_digit = number.ends_with(|c: char| c.is_ascii_digit());
    let number: f64 = match number.parse() {
        Ok(number) if starts_with_digit && ends_with_digit => number,
        _ => return Err(RULE.to_owned()),
    };
    match Duration::try_from_secs_f64(number * seconds_per_unit) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err("must be at most a year".to_owned()),
    }
}
