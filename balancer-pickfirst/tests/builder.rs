//! What people see of the policy: the name that a service config says, and a line about it.

use balancer_api::Builder;
use balancer_pickfirst::{NAME, PickFirst, PickFirstConfig, builder};

#[test]
fn a_service_config_finds_it_under_grpcs_name() {
    assert_eq!(NAME, "pick_first");
    assert_eq!(PickFirst::new().name(), "pick_first");
    assert_eq!(builder().name(), "pick_first", "as it is registered");
}

#[test]
fn a_list_of_policies_says_what_it_does() {
    let line = "every RPC to the first backend that connects";
    assert_eq!(PickFirst::new().description(), line);
    assert_eq!(builder().description(), line);
}

#[test]
fn the_resolvers_order_is_kept_unless_somebody_asks() {
    let config = PickFirstConfig::new();
    assert!(!config.shuffle_address_list);
    let config = config.with_shuffle_address_list(true);
    assert!(config.shuffle_address_list);
    assert!(!config.with_shuffle_address_list(false).shuffle_address_list);
}
