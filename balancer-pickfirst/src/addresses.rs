//! From endpoints to the order in which addresses are dialled.

use std::{
    collections::{HashSet, VecDeque, hash_map::DefaultHasher},
    hash::BuildHasherDefault,
    net::{Ipv4Addr, Ipv6Addr},
};

use balancer_api::{Address, ClientConn, Endpoint};

/// A set without a seed: the same in every run.
type Distinct<'a> = HashSet<&'a Address, BuildHasherDefault<DefaultHasher>>;

/// What takes turns in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    /// Names, paths: whatever the dialer understands.
    Other,
}

/// Puts the endpoints, not the addresses within one, in random order.
pub(crate) fn shuffle(endpoints: &mut [Endpoint], cc: &dyn ClientConn) {
    // Fisher and Yates, from the end. A list of one draws no number.
    for last in (1..endpoints.len()).rev() {
        // The bias of the remainder is below n / 2^64.
        let other = cc.random() % (last as u64 + 1);
        endpoints.swap(last, other as usize);
    }
}

/// All addresses in order, each once, with the families taking turns (RFC 8305 section 4): the
/// first address stays the first, and its family begins.
pub(crate) fn flatten(endpoints: &[Endpoint]) -> Vec<Address> {
    let mut seen = Distinct::default();
    let mut families: Vec<(Family, VecDeque<&Address>)> = Vec::with_capacity(3);
    for address in endpoints.iter().flat_map(Endpoint::addresses) {
        if !seen.insert(address) {
            continue;
        }
        let family = Family::of(address.addr());
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, queue)) => queue.push_back(address),
            None => families.push((family, VecDeque::from([address]))),
        }
    }
    let mut order = Vec::with_capacity(seen.len());
    while order.len() < seen.len() {
        let turn = families
            .iter_mut()
            .filter_map(|(_, queue)| queue.pop_front());
        order.extend(turn.cloned());
    }
    order
}

// === impl Family ===

impl Family {
    /// The family of an address's text: `ip:port`, `[ip6]:port`, with or without a zone.
    fn of(addr: &str) -> Self {
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
        if host.parse::<Ipv4Addr>().is_ok() {
            return Self::V4;
        }
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        // `fe80::1%eth0`: the zone says which link, not which family.
        let ip = bracketed.map(|ip| ip.split_once('%').map_or(ip, |(ip, _)| ip));
        match ip.and_then(|ip| ip.parse::<Ipv6Addr>().ok()) {
            // An IPv4 address in IPv6 clothes is dialled as IPv4.
            Some(ip) if ip.to_ipv4_mapped().is_some() => Self::V4,
            Some(_) => Self::V6,
            None => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(addresses: &[&str]) -> Vec<String> {
        let endpoints: Vec<_> = addresses.iter().copied().map(Endpoint::from).collect();
        let flat = flatten(&endpoints);
        flat.iter().map(|a| a.addr().to_owned()).collect()
    }

    #[test]
    fn families_take_turns_and_the_first_begins() {
        let mixed = ["1.1.1.1:1", "1.1.1.2:1", "[2::1]:1", "[2::2]:1", "[2::3]:1"];
        let expected = ["1.1.1.1:1", "[2::1]:1", "1.1.1.2:1", "[2::2]:1", "[2::3]:1"];
        assert_eq!(order(&mixed), expected, "must begin with IPv4");

        let mixed = ["[2::1]:1", "[2::2]:1", "1.1.1.1:1"];
        let expected = ["[2::1]:1", "1.1.1.1:1", "[2::2]:1"];
        assert_eq!(order(&mixed), expected, "must begin with IPv6");

        let mixed = [
            "a.example:1",
            "b.example:1",
            "[2::1]:1",
            "1.1.1.1:1",
            "1.1.1.2:1",
        ];
        let expected = [
            "a.example:1",
            "[2::1]:1",
            "1.1.1.1:1",
            "b.example:1",
            "1.1.1.2:1",
        ];
        assert_eq!(order(&mixed), expected, "names are a family of their own");
    }

    #[test]
    fn an_address_counts_once_wherever_it_stands() {
        let repeated = ["1.1.1.1:1", "1.1.1.2:1", "1.1.1.1:1"];
        assert_eq!(order(&repeated), ["1.1.1.1:1", "1.1.1.2:1"]);
        let repeated = ["1.1.1.1:1", "1.1.1.1:1", "1.1.1.2:1"];
        assert_eq!(order(&repeated), ["1.1.1.1:1", "1.1.1.2:1"]);
    }

    #[test]
    fn the_family_is_that_of_the_ip() {
        for (addr, family) in [
            ("127.0.0.1:80", Family::V4),
            ("[::1]:80", Family::V6),
            ("[fe80::1%eth0]:80", Family::V6),
            ("[::ffff:127.0.0.1]:80", Family::V4),
            ("localhost:80", Family::Other),
            ("unix:/run/a:1", Family::Other),
            ("unix:[::1]", Family::Other),
            ("", Family::Other),
            ("[]:1", Family::Other),
        ] {
            assert_eq!(Family::of(addr), family, "{addr}");
        }
    }
}
