//! The `grpc-timeout` header: how long an RPC may take, on its way to the server.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Reads a value: at most eight digits and a unit. `None` for anything else.
pub(crate) fn parse(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// Writes a value in the finest unit that eight digits can hold, rounded up: a server must not give
/// up before the client does.
pub(crate) fn format(timeout: Duration) -> HeaderValue {
    const MAX: u128 = 99_999_999;
    let nanos = timeout.as_nanos();
    let units: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let fitting = units
        .into_iter()
        .map(|(unit, letter)| (nanos.div_ceil(unit), letter))
        .find(|(n, _)| *n <= MAX);
    let (n, letter) = fitting.unwrap_or((MAX, 'H'));
    HeaderValue::try_from(format!("{n}{letter}"))
        .unwrap_or_else(|_| HeaderValue::from_static("99999999H"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_never_shorter() {
        for nanos in [0, 1, 99_999_999, 100_000_000, 1_234_567_891, u64::MAX] {
            let timeout = Duration::from_nanos(nanos);
            let read = parse(&format(timeout)).expect("what we write must be readable");
            assert!(read >= timeout, "{timeout:?} must not become {read:?}");
        }
        assert_eq!(format(Duration::from_millis(1500)), "1500000u");
    }

    #[test]
    fn nonsense_is_not_a_timeout() {
        for bad in [
            "",
            "S",
            "1",
            "123456789S",
            "-1S",
            "1.5S",
            "1s",
            " 1S",
            "1SS",
            "ä",
        ] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).expect("a header value");
            assert_eq!(parse(&value), None, "{bad:?} must not be read");
        }
    }
}
