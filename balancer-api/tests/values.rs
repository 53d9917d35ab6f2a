//! Identity of addresses, endpoints and attributes; the evaluator; what errors show.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use balancer_api::{ConnectivityState as S, *};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Weight(u32);
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Zone(&'static str);

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn weight(weight: u32) -> Attributes {
    Attributes::new().with(Weight(weight))
}

#[test]
fn attributes_are_a_set_of_one_value_per_type() {
    let both = Attributes::new().with(Weight(1)).with(Zone("z"));
    let turned = Attributes::new().with(Zone("z")).with(Weight(1));
    assert_eq!(both, turned, "order must not matter");
    assert_eq!(hash(&both), hash(&turned));
    assert_eq!((both.len(), both.get::<Zone>()), (2, Some(&Zone("z"))));
    assert_ne!(both, both.with(Weight(2)));
    assert_ne!(both, both.without::<Zone>());
    assert_eq!(both.without::<Zone>(), weight(1));
    assert_eq!(
        both.without::<Zone>().without::<Weight>(),
        Attributes::new()
    );
    assert!(both.get::<u32>().is_none());
}

#[test]
fn an_address_is_its_text_name_and_attributes() {
    let plain = Address::new("a:1");
    assert_eq!(plain, Address::from("a:1"));
    assert_ne!(plain, Address::new("a:2"));
    assert_ne!(plain, plain.clone().with_server_name("a"));
    assert_ne!(plain, plain.clone().with_attributes(weight(1)));
    let weighted = plain.clone().with_balancer_attributes(weight(1));
    assert_eq!(plain, weighted, "news for the policy only");
    assert_eq!(hash(&plain), hash(&weighted));
}

#[test]
fn an_endpoint_is_the_set_of_its_addresses_and_its_attributes() {
    let of = |list: &[&str]| Endpoint::new(list.iter().copied().map(Address::from));
    let endpoint = of(&["a:1", "b:1"]);
    assert_eq!(endpoint, of(&["b:1", "a:1", "b:1"]));
    assert_eq!(hash(&endpoint), hash(&of(&["b:1", "a:1"])));
    assert_ne!(endpoint, of(&["a:1"]));
    assert_ne!(of(&["a:1"]), endpoint, "nor the other way round");
    assert_ne!(endpoint, of(&["a:1", "c:1"]));
    assert_ne!(endpoint, endpoint.clone().with_attributes(weight(1)));
    let weighted = endpoint.clone().with_balancer_attributes(weight(1));
    assert_eq!(endpoint, weighted);
    assert_eq!(hash(&endpoint), hash(&weighted));
}

#[test]
fn identical_is_more_than_equal() {
    let endpoint = Endpoint::new([Address::new("a:1"), Address::new("b:1")]);
    let turned = Endpoint::new([Address::new("b:1"), Address::new("a:1")]);
    let again = Endpoint::new([Address::new("a:1"), Address::new("b:1")]);
    let of_address = Endpoint::new([
        Address::new("a:1").with_balancer_attributes(weight(1)),
        Address::new("b:1"),
    ]);
    assert!(endpoint.is_identical(&endpoint.clone()) && endpoint.is_identical(&again));
    assert!(!endpoint.is_identical(&turned), "another order");
    let weighted = endpoint.clone().with_balancer_attributes(weight(1));
    assert!(
        !endpoint.is_identical(&weighted),
        "other news for the policy"
    );
    assert!(
        !endpoint.is_identical(&of_address),
        "other news of an address"
    );
}

#[test]
fn one_state_alone_is_the_aggregate() {
    for (state, expected) in [
        (S::Idle, S::Idle),
        (S::Connecting, S::Connecting),
        (S::Ready, S::Ready),
        (S::TransientFailure, S::TransientFailure),
        (S::Shutdown, S::TransientFailure),
    ] {
        let mut all = ConnectivityStateEvaluator::new();
        assert_eq!(all.record_transition(None, state), expected);
    }
}

#[test]
fn the_better_state_wins() {
    for (states, expected) in [
        (
            &[S::Idle, S::TransientFailure, S::Connecting, S::Ready][..],
            S::Ready,
        ),
        (
            &[S::TransientFailure, S::Connecting, S::Idle],
            S::Connecting,
        ),
        (&[S::TransientFailure, S::Idle], S::Idle),
        (
            &[S::TransientFailure, S::TransientFailure],
            S::TransientFailure,
        ),
        (&[], S::TransientFailure),
    ] {
        let mut all = ConnectivityStateEvaluator::new();
        for state in states {
            all.record_transition(None, *state);
        }
        assert_eq!(all.current(), expected, "{states:?}");
    }
}

#[test]
fn what_was_never_recorded_is_not_counted_below_zero() {
    let mut all = ConnectivityStateEvaluator::new();
    all.record_transition(Some(S::Ready), S::Idle);
    assert_eq!(all.record_transition(None, S::Ready), S::Ready);
}

#[test]
fn sentinels_say_what_they_are() {
    assert_eq!(ERR_NO_SUB_CONN_AVAILABLE, PickError::NoSubConnAvailable);
    assert_eq!(ERR_TRANSIENT_FAILURE, PickError::TransientFailure(None));
    assert_ne!(
        ERR_TRANSIENT_FAILURE,
        PickError::transient_failure("refused")
    );
    assert_eq!(PickError::failed("no").to_string(), "no");
}

#[test]
fn codes_of_servers_are_not_for_the_control_plane() {
    let refused: Vec<_> = Code::ALL
        .into_iter()
        .filter(|code| !code.is_allowed_from_control_plane())
        .map(Code::as_str)
        .collect();
    let a54 = [
        "OK",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "DATA_LOSS",
    ];
    assert_eq!(refused, a54);
    for (number, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(Code::from_i32(number as i32), code);
        assert_eq!(Code::from_name(code.as_str()), Some(code));
    }
    for outside in [-1, 17, i32::MIN, i32::MAX] {
        assert_eq!(Code::from_i32(outside), Code::Unknown);
    }
}

#[test]
fn a_config_error_shows_untrusted_text_harmlessly() {
    let hostile = "line\nbreak \u{1b}[2J \u{202e}turned \0";
    let error = ConfigError::new("name", hostile, "must be nice");
    let shown = error.to_string();
    assert!(
        shown.chars().all(|c| !c.is_control() && c != '\u{202e}'),
        "{shown}"
    );
    assert!(error.value().contains(r"\n") && error.value().contains(r"\u{1b}"));
    assert_eq!(
        ConfigError::new("", r#"{"a":1}"#, "no").value(),
        r#"{"a":1}"#
    );
}

#[test]
fn a_value_is_cut_at_256_characters_and_not_before() {
    let shown = |length: usize| {
        ConfigError::new("p", "é".repeat(length), "r")
            .value()
            .to_owned()
    };
    assert_eq!(shown(255), "é".repeat(255), "is shown whole");
    let cut = format!("{}…", "é".repeat(255));
    assert_eq!(shown(256), cut);
    assert_eq!(shown(10_000), cut);
    let escapes = ConfigError::new("p", "\n".repeat(200), "r");
    assert_eq!(
        escapes.value(),
        format!("{}…", r"\n".repeat(127)),
        "none is cut in two"
    );
}

#[test]
fn a_config_error_knows_its_path() {
    let error = ConfigError::new("[0]", "x", "no")
        .within("childPolicy")
        .within("outer");
    assert_eq!(error.path(), "outer.childPolicy[0]");
    assert_eq!(ConfigError::new("", "", "no").to_string(), "no");
    assert_eq!(
        ConfigError::new("a", "", "no").within("").to_string(),
        "a: no"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shown_value_has_at_most_256_printable_characters(value in ".{0,400}", tail in "\\PC*") {
        let error = ConfigError::new("p", format!("{value}\u{0}{tail}"), "r");
        prop_assert!(error.value().chars().count() <= 256);
        prop_assert!(error.value().chars().all(|c| !c.is_control()));
    }

    #[test]
    fn evaluator_agrees_with_a_list(moves in prop::collection::vec((0usize..6, 0usize..5), 0..60)) {
        let states = [S::Idle, S::Connecting, S::Ready, S::TransientFailure, S::Shutdown];
        let mut all = ConnectivityStateEvaluator::new();
        let mut list: [Option<S>; 6] = [None; 6];
        for (who, state) in moves {
            let old = list[who].replace(states[state]);
            let answer = all.record_transition(old, states[state]);
            // By rank: READY, CONNECTING, IDLE, and TRANSIENT_FAILURE when there is nothing else.
            let best = [S::Ready, S::Connecting, S::Idle]
                .into_iter()
                .find(|state| list.contains(&Some(*state)));
            prop_assert_eq!(answer, best.unwrap_or(S::TransientFailure));
        }
    }

    #[test]
    fn equal_endpoints_hash_alike(mut list in prop::collection::vec("[a-d]:1", 1..6), by in 0usize..6) {
        let endpoint = Endpoint::new(list.iter().map(|a| Address::new(a.as_str())));
        let by = by % list.len();
        list.rotate_left(by);
        let turned = Endpoint::new(list.iter().map(|a| Address::new(a.as_str())));
        prop_assert_eq!(&endpoint, &turned);
        prop_assert_eq!(hash(&endpoint), hash(&turned));
    }
}
