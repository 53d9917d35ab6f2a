//! Every example runs, and does what it says.

#![allow(
    clippy::duplicate_mod,
    reason = "each example brings the greeter it calls"
)]

#[path = "../examples/custom_policy.rs"]
mod custom_policy;
#[path = "support/harness.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod harness;
#[path = "../examples/headless_service.rs"]
mod headless_service;
#[path = "../examples/helloworld.rs"]
mod helloworld;
#[path = "../examples/moving_from_balance_list.rs"]
mod moving_from_balance_list;
#[path = "../examples/tower_and_interceptors.rs"]
mod tower_and_interceptors;

use std::{collections::BTreeSet, fs, path::Path};

#[tokio::test(crate = "crate::harness")]
async fn helloworld_is_shared_by_three() {
    let greetings = helloworld::run().await.expect("the servers are up");
    let counts: Vec<usize> = greetings.into_values().collect();
    assert_eq!(counts, [3, 3, 3], "round_robin must go round");
}

#[tokio::test(crate = "crate::harness")]
async fn the_custom_policy_keeps_each_tenant_on_one_server() {
    let by_tenant = custom_policy::run().await.expect("the servers are up");
    let mut servers = BTreeSet::new();
    for (tenant, greetings) in by_tenant {
        let one: Vec<_> = greetings.into_iter().collect();
        assert_eq!(one.len(), 1, "{tenant} must stay on one server: {one:?}");
        assert_eq!(one[0].1, 5, "{tenant} must be greeted every time");
        servers.insert(one[0].0.clone());
    }
    assert!(servers.len() > 1, "not all tenants on one: {servers:?}");
}

#[tokio::test(crate = "crate::harness")]
async fn a_dns_name_is_resolved_and_balanced() {
    let greetings = headless_service::run_on_localhost().await;
    let greetings = greetings.expect("localhost is this machine");
    assert_eq!(greetings["server 0"], 9, "every RPC must be answered");
}

#[tokio::test(crate = "crate::harness")]
async fn before_and_after_the_move_all_servers_greet() {
    let both = moving_from_balance_list::run().await;
    let [before, after] = both.expect("the servers are up");
    for (when, greetings) in [("before", &before), ("after", &after)] {
        let count: usize = greetings.values().sum();
        assert_eq!(count, moving_from_balance_list::COUNT, "{when}: none lost");
    }
    assert_eq!(after.len(), 3, "all must have greeted: {after:?}");
}

#[tokio::test(crate = "crate::harness")]
async fn a_stack_and_an_interceptor_go_around_the_channel() {
    let run = tower_and_interceptors::run().await;
    let (greetings, [layer, interceptor]) = run.expect("the servers are up");
    let counts: Vec<usize> = greetings.into_values().collect();
    assert_eq!(counts, [3, 3, 3], "round_robin must go round");
    assert_eq!([layer, interceptor], [9, 9], "each must see every RPC");
}

/// A new example needs a test here.
#[test]
fn no_example_is_forgotten() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let this = fs::read_to_string(root.join("tests/examples.rs")).expect("this file");
    let mut found = 0;
    for entry in fs::read_dir(root.join("examples")).expect("the examples") {
        let name = entry.expect("an example").file_name();
        let name = name.to_str().expect("a name in UTF-8");
        if let Some(example) = name.strip_suffix(".rs") {
            let line = format!("\nmod {example};");
            assert!(this.contains(&line), "{name} must be run here");
            found += 1;
        }
    }
    assert!(found >= 5, "only {found} examples were found");
}
