//! Texts that nobody thought of, from applications, proxies and servers: nothing panics, and what can be
//! written is read back.

use std::{
    net::{SocketAddrV4, SocketAddrV6},
    time::Duration,
};

use http::{HeaderMap, HeaderValue};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{HttpProxy, Target, orca, target::Kind, timeout};

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Pieces that targets are made of, in any order, most of them behind a scheme that is known: without
/// one hardly any text gets far.
fn shreds() -> impl Strategy<Value = String> {
    let shred = prop_oneof![
        "dns|ipv4|ipv6|unix|passthrough|https?|xds",
        "[:/,.%@\\[\\]]{1,3}",
        "[0-9]{1,6}",
        "[a-zA-Z0-9_-]{1,12}",
        "1\\.2\\.3\\.4|::1|\\[fe80::1%251\\]|localhost",
        "[a-z]{1,4}(:[a-z]{1,4})?@",
        "%[0-9a-f]{0,2}",
        ".{0,4}",
    ];
    let scheme = select(vec![
        "",
        "dns:",
        "dns:///",
        "dns://",
        "ipv4:",
        "ipv6:",
        "unix:",
        "passthrough:",
        "passthrough:///",
        "http://",
        "https://",
    ]);
    (scheme, vec(shred, 0..10)).prop_map(|(scheme, shreds)| scheme.to_owned() + &shreds.concat())
}

/// Proxies, as far as somebody gets who has heard of them.
fn proxies() -> impl Strategy<Value = String> {
    "http://([a-z%]{0,4}(:[a-z%]{0,4})?@)?[a-z.\\[\\]:]{0,6}(:[0-9]{0,6})?[/?#]{0,2}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * config().cases, ..config() })]

    #[test]
    fn any_target_gets_an_answer(text in prop_oneof![shreds(), ".{0,60}"]) {
        match text.parse::<Target>() {
            Ok(target) => {
                let authority = target.authority();
                prop_assert!(!authority.contains('@') && !authority.contains('%'), "{}", authority);
                prop_assert!(
                    authority.parse::<http::uri::Authority>().is_ok(),
                    "{:?} is no authority", authority
                );
                let again: Target = target.to_string().parse().expect("as it was");
                prop_assert_eq!(again, target);
            }
            Err(error) => {
                let said = error.to_string();
                prop_assert!(!said.chars().any(char::is_control), "{:?}", said);
                prop_assert!(said.chars().count() < 2_000, "{:?}", said);
            }
        }
    }

}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn addresses_are_those_of_the_standard_library(
        v4 in any::<[u8; 4]>(), v6 in any::<[u16; 8]>(), port in any::<u16>(),
    ) {
        let v4 = SocketAddrV4::new(v4.into(), port);
        let v6 = SocketAddrV6::new(v6.into(), port, 0, 0);
        for (target, address) in [
            (format!("ipv4:{v4}"), v4.to_string()),
            (v4.to_string(), v4.to_string()),
            (format!("ipv6:{v6}"), v6.to_string()),
            (format!("dns:///{v6}"), v6.to_string()),
        ] {
            match target.parse::<Target>() {
                Err(_) => prop_assert_eq!(port, 0, "{}", target),
                Ok(parsed) => {
                    let Kind::Fixed(endpoints) = parsed.kind() else {
                        return Err(TestCaseError::fail("an address needs no DNS"));
                    };
                    prop_assert_eq!(endpoints[0].addresses()[0].addr(), &address);
                    prop_assert_eq!(parsed.authority(), &address);
                }
            }
        }
    }

    #[test]
    fn any_proxy_gets_an_answer(text in prop_oneof![proxies(), shreds(), ".{0,60}"]) {
        match text.parse::<HttpProxy>() {
            Ok(proxy) => prop_assert!(!format!("{proxy:?}").contains('@'), "{:?}", proxy),
            Err(error) => prop_assert!(error.to_string().chars().count() < 2_000),
        }
    }

    #[test]
    fn a_timeout_that_is_written_is_read_and_not_shorter(nanos in any::<u64>(), shift in 0..64_u32) {
        let wanted = Duration::from_nanos(nanos >> shift);
        let read = timeout::parse(&timeout::format(wanted)).expect("what we write is readable");
        prop_assert!(read >= wanted, "{:?} became {:?}", wanted, read);
        // A unit is at most sixty of the next finer one, and has eight digits.
        prop_assert!(read <= wanted + wanted / 100_000 + Duration::from_nanos(1));
    }

    #[test]
    fn any_timeout_gets_an_answer(text in "[0-9]{0,10}[HMSmun]|[ -~]{0,12}") {
        let value = HeaderValue::try_from(text).expect("printable");
        if let Some(read) = timeout::parse(&value) {
            prop_assert!(read <= Duration::from_secs(99_999_999 * 3600));
        }
    }

    #[test]
    fn any_load_report_gets_an_answer(bytes in vec(0x20..0x7f_u8, 0..80)) {
        let mut trailers = HeaderMap::new();
        let value = HeaderValue::from_bytes(&bytes).expect("printable");
        trailers.insert("endpoint-load-metrics-bin", value);
        let report = orca::load_report(&trailers);
        prop_assert!(report.is_none_or(|report| report.len() <= bytes.len()));
    }
}
