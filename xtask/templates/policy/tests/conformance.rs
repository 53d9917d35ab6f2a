//! Every law of the kit: first as it is without a configuration, then with one.

use balancer_testkit::{Profile, conformance};

conformance!(balancer_taking_turns::builder());

conformance!(
    configured: balancer_taking_turns::builder(),
    Profile::spreads().with_config(r#"{"inARow":2}"#)
);
