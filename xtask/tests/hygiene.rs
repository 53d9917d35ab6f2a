//! The rules of `cargo xtask hygiene` that need no build find what they are for.

use cargo_metadata::semver::Version;
use xtask::hygiene::{Needs, changes, strangers, too_young};

#[test]
fn a_dependency_that_asks_for_a_younger_compiler_is_named() {
    let needs = |package: &str, minor| Needs {
        package: package.into(),
        rust: Version::new(1, minor, 0),
    };
    let all = [
        needs("old 1.0.0", 63),
        needs("same 1.0.0", 88),
        needs("young 2.0.0", 90),
    ];
    let young = too_young(&all, &Version::new(1, 88, 0));
    assert_eq!(young, ["young 2.0.0 (asks for 1.90.0)"]);
}

#[test]
fn a_changed_api_shows_what_went_and_what_came() {
    let before = "pub fn a::kept()\npub fn a::gone()\n";
    let now = "pub fn a::kept()\npub fn a::new()\n";
    assert_eq!(
        changes(before, now),
        "- pub fn a::gone()\n+ pub fn a::new()\n"
    );
    assert_eq!(changes(now, now), "", "an unchanged API must show nothing");
}

#[test]
fn the_contract_shows_nobody_elses_stack() {
    let listing = "pub fn balancer_api::a(serde_json::value::Value)\n\
        pub fn balancer_api::b(http::header::HeaderMap)\n\
        pub balancer_api::C::tokio: u8\n";
    let found = strangers("balancer-api", listing);
    assert_eq!(found, ["pub fn balancer_api::a(serde_json::value::Value)"]);
    assert!(
        strangers("balancer-channel", listing).is_empty(),
        "the channel is built on such a stack"
    );
}
