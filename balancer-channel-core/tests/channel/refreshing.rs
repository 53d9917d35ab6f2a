//! Results that say how long they may be believed.

use std::time::Duration;

use balancer_channel_core::{ManualResolver, Resolution};

use crate::support::{Fixture, endpoints};

/// A channel whose resolver's results are good for `seconds`.
fn believing(seconds: u64, refresh: bool) -> (Fixture, ManualResolver) {
    let fixture = Fixture::unresolved_with(|settings| settings.refresh = refresh);
    fixture.connect();
    let resolution = Resolution::new(endpoints("x")).with_valid_for(Duration::from_secs(seconds));
    fixture.resolver.update(Ok(resolution));
    fixture.run();
    let resolver = fixture.resolver.clone();
    (fixture, resolver)
}

#[test]
fn a_result_is_asked_for_again_when_its_time_is_over_and_a_tenth_later_at_most() {
    let (fixture, resolver) = believing(100, true);
    let asked = resolver.resolutions();
    fixture.pass(99.0);
    assert_eq!(resolver.resolutions(), asked, "still believed");
    fixture.pass(11.1);
    assert_eq!(resolver.resolutions(), asked + 1);
    fixture.pass(1_100.0);
    let again = resolver.resolutions() - asked - 1;
    assert!((10..=11).contains(&again), "and again and again: {again}");
}

#[test]
fn a_time_of_nothing_does_not_make_a_loop() {
    let (fixture, resolver) = believing(0, true);
    let asked = resolver.resolutions();
    fixture.pass(60.0);
    let again = resolver.resolutions() - asked;
    assert!(
        (50..=60).contains(&again),
        "once a second without a floor: {again}"
    );
}

#[test]
fn nobody_asks_where_it_is_not_wanted() {
    let (fixture, resolver) = believing(1, false);
    let asked = resolver.resolutions();
    fixture.pass(1_000.0);
    assert_eq!(resolver.resolutions(), asked);
}

#[test]
fn a_service_config_that_cannot_be_had_counts_as_an_invalid_one() {
    let fixture = Fixture::unresolved();
    fixture.connect();
    let broken = Resolution::new(endpoints("x")).with_service_config_error("unreadable TXT record");
    fixture.resolver.update(Ok(broken.clone()));
    fixture.run();
    let outcome = fixture.rpc().outcome();
    assert!(outcome.contains("unreadable TXT record"), "{outcome}");
    assert_eq!(fixture.a.built(), 0, "there is no config to go by");

    // After a good one the addresses count, and the config stays.
    fixture.resolve_with("x", "a/one");
    fixture.log.take();
    let mut moved = broken;
    moved.endpoints = endpoints("y");
    fixture.resolver.update(Ok(moved));
    fixture.run();
    assert_eq!(fixture.told()[0], "a1: addrs [y] config one");
}
