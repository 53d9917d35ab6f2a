//! Hashes of addresses and endpoints: what differs hashes apart, alike in every run.
//!
//! A policy of ten thousand endpoints finds each by its hash; if they fell together, a new list would
//! cost the square of its length.

mod support;

use std::{
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
};

use balancer_api::{Address, Attributes, ClientConn, Endpoint, NewSubConnOptions, SubConn};
use support::Recorder;

/// Shows what a value gives to a map's hasher.
#[derive(Default)]
struct Shown(u64);

impl Hasher for Shown {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut shown = Shown::default();
    value.hash(&mut shown);
    shown.finish()
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::from(text)
}

fn with<T: Clone + Eq + Hash + std::fmt::Debug + Send + Sync + 'static>(value: T) -> Attributes {
    Attributes::new().with(value)
}

/// What a service of ten thousand pods looks like.
fn pods() -> impl Iterator<Item = Endpoint> {
    (0..10_000).map(|i| endpoint(&format!("10.0.{}.{}:443", i / 256, i % 256)))
}

fn assert_apart(endpoints: &[Endpoint]) {
    let mut by_hash = HashMap::new();
    for endpoint in endpoints {
        let other = by_hash.insert(hash(endpoint), endpoint);
        assert!(other.is_none(), "{endpoint:?} and {other:?} fall together");
    }
}

#[test]
fn every_part_of_an_identity_counts() {
    let plain = || Address::new("a:1");
    let addresses = [
        plain(),
        Address::new("a:2"),
        plain().with_server_name(""),
        plain().with_server_name("a"),
        plain().with_attributes(with(1u8)),
        plain().with_attributes(with(2u8)),
        plain().with_attributes(with(3u64)),
        plain().with_attributes(with(4u64)),
        plain().with_attributes(with(5usize)),
        plain().with_attributes(with(6usize)),
        plain().with_attributes(with("zone")),
        plain().with_attributes(with("zone").with(1u8)),
    ];
    let mut all: Vec<_> = addresses.into_iter().map(Endpoint::from).collect();
    let of_the_endpoint = [with(7u8), with(8usize), with("rack")];
    all.extend(of_the_endpoint.map(|attributes| endpoint("a:1").with_attributes(attributes)));
    all.push(Endpoint::new([]));
    all.push(Endpoint::new(["a:1", "a:2"].map(Address::from)));
    assert_apart(&all);
}

#[test]
fn an_address_hashes_by_its_text_its_name_and_its_attributes() {
    let plain = || Address::new("a:1");
    let others = [
        Address::new("a:2"),
        plain().with_server_name("a"),
        plain().with_attributes(with("zone")),
    ];
    for other in others {
        assert_ne!(hash(&plain()), hash(&other), "{other:?}");
    }
    assert_ne!(hash(&with(1u8)), hash(&with(2u8)), "nor do attributes");
    assert_ne!(hash(&with("zone")), hash(&with("zone").with(1u8)));
}

#[test]
fn sub_conns_hash_by_who_they_are() {
    let cc = Recorder::new();
    let make = || {
        let addresses = vec![Address::new("a:1")];
        let made = cc.new_sub_conn(addresses, NewSubConnOptions::new());
        made.expect("a SubConn")
    };
    let all: Vec<SubConn> = (0..100).map(|_| make()).collect();
    let hashes: HashSet<u64> = all.iter().map(hash).collect();
    assert_eq!(hashes.len(), 100, "though all have one address");
    assert_eq!(hash(&all[0]), hash(&all[0].clone()));
}

#[test]
fn each_letter_counts_wherever_it_stands_and_however_long_the_text_is() {
    let mut all = Vec::new();
    for length in 1..=26 {
        for at in 0..length {
            for letter in ['b', '\u{1}', 'B', '\u{0}'] {
                let mut text = vec!['a'; length];
                text[at] = letter;
                all.push(endpoint(&text.into_iter().collect::<String>()));
            }
        }
        all.push(endpoint(&"a".repeat(length)));
    }
    assert_apart(&all);
}

#[test]
fn ten_thousand_pods_fall_apart_and_every_bit_is_a_coin() {
    let pods: Vec<_> = pods().collect();
    assert_apart(&pods);
    for bit in 0..64 {
        let heads = pods.iter().filter(|pod| hash(*pod) >> bit & 1 == 1).count();
        // Five standard deviations of a fair coin.
        assert!((4_750..=5_250).contains(&heads), "bit {bit}: {heads}");
    }
}
