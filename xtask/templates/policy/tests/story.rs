//! What the policy does, told as stories; and what it refuses.

use std::sync::Arc;

use balancer_registry::{Registry, ServiceConfig};
use balancer_testkit::{Script, Setup};

use balancer_taking_turns::{NAME, builder};

#[test]
fn each_backend_gets_some_in_a_row() {
    let mut conn = Script::with(builder(), Setup::new().config(r#"{"inARow":2}"#));
    conn.update(["a", "b"]).ready("a").ready("b");
    assert_eq!(conn.picks(5), ["a", "a", "b", "b", "a"]);
}

#[test]
fn a_lost_connection_leaves_the_turns_and_comes_back() {
    let mut conn = Script::start(builder(), ["a", "b"]);
    conn.ready("a").ready("b");
    conn.lost("b");
    assert_eq!(conn.picks(2), ["a", "a"], "must skip an IDLE connection");
    assert_eq!(conn.connects(), ["b"], "must reconnect it at once");

    conn.ready("b");
    assert_eq!(conn.picks(2), ["a", "b"], "must take it back");
}

#[test]
fn a_service_config_chooses_it_by_name() {
    let registry = Registry::new();
    registry.register(Arc::new(builder())).unwrap();
    let service_config = |policy_config: &str| {
        let json = format!(r#"{{"loadBalancingConfig":[{{"{NAME}":{policy_config}}}]}}"#);
        ServiceConfig::parse(json, &registry)
    };
    let config = service_config(r#"{"inARow":3}"#).unwrap();
    assert_eq!(config.resolve().name(), NAME);

    let refused = service_config(r#"{"inARow":0}"#).unwrap_err();
    let rule = "inARow: 0: must be a whole number from 1 to 1000";
    assert!(refused.to_string().ends_with(rule), "{refused}");
}
