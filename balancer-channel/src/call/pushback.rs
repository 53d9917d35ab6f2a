//! What a server says of further attempts: `grpc-retry-pushback-ms` (gRFC A6).

use std::time::Duration;

use http::{HeaderMap, HeaderName};

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// A server's wish about the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushback {
    /// It says nothing.
    None,
    /// After exactly so long.
    After(Duration),
    /// None at all.
    Never,
}

// === impl Pushback ===

impl Pushback {
    /// Reads a response's trailers. What cannot be read means never, and so do two values.
    pub(super) fn of(trailers: &HeaderMap) -> Self {
        let mut values = trailers.get_all(PUSHBACK).iter();
        let (value, more) = (values.next(), values.next());
        let Some(value) = value else {
            return Self::None;
        };
        let millis = value
            .to_str()
            .ok()
            .filter(|_| more.is_none())
            .and_then(|text| text.parse::<i64>().ok())
            .and_then(|millis| u64::try_from(millis).ok());
        millis.map_or(Self::Never, |millis| {
            Self::After(Duration::from_millis(millis))
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> Pushback {
        let mut trailers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
            trailers.append(PUSHBACK, value);
        }
        Pushback::of(&trailers)
    }

    #[test]
    fn a_number_is_a_wait_and_anything_else_a_no() {
        assert_eq!(read(&[]), Pushback::None);
        assert_eq!(read(&["0"]), Pushback::After(Duration::ZERO));
        assert_eq!(read(&["250"]), Pushback::After(Duration::from_millis(250)));
        let most = Duration::from_millis(i64::MAX as u64);
        assert_eq!(read(&["9223372036854775807"]), Pushback::After(most));
        for no in ["-1", "", "1s", "1.5", " 1", "9223372036854775808", "ä"] {
            assert_eq!(read(&[no]), Pushback::Never, "{no:?}");
        }
        assert_eq!(read(&["1", "1"]), Pushback::Never, "which one?");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(0x20_u8..0x7f, 0..24)) {
            let value = HeaderValue::from_bytes(&bytes).expect("printable");
            let mut trailers = HeaderMap::new();
            trailers.append(PUSHBACK, value);
            prop_assert_ne!(Pushback::of(&trailers), Pushback::None);
        }
    }
}
