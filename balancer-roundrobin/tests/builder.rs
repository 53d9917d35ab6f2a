//! What people see of the policy: the name that a service config says, and a line about it.

use balancer_api::{Builder, NoChildren, ParseContext};
use balancer_roundrobin::{NAME, RoundRobin, builder};

#[test]
fn a_service_config_finds_it_under_grpcs_name() {
    assert_eq!(NAME, "round_robin");
    assert_eq!(RoundRobin::new().name(), "round_robin");
    assert_eq!(RoundRobin::default().name(), "round_robin");
    assert_eq!(builder().name(), "round_robin", "as it is registered");
}

#[test]
fn a_list_of_policies_says_what_it_does() {
    let line = "each RPC to the next READY backend in turn";
    assert_eq!(RoundRobin::new().description(), line);
    assert_eq!(builder().description(), line);
    assert_eq!(format!("{:?}", RoundRobin::new()), "RoundRobin");
}

#[test]
fn a_configuration_that_it_cannot_have_is_accepted_and_warned_of() {
    for (json, warnings) in [("{}", 0), (r#"{"shuffleAddressList":true}"#, 1)] {
        let mut cx = ParseContext::new(&NoChildren, 0);
        let config = RoundRobin::new().parse_config(json, &mut cx);
        assert_eq!(config.expect("anything goes").json(), json);
        assert_eq!(cx.warnings().len(), warnings, "{json}");
    }
}
