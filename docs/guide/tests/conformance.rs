//! Steps 2 and 6: every law of the kit on the policies of the chapter.

use std::time::Duration;

use balancer_testkit::{Profile, conformance};

conformance!(random: balancer_guide::random::builder(), Profile::even().either_mode());

conformance!(
    least_request: balancer_guide::least_request::builder(),
    Profile::spreads().either_mode()
);

conformance!(
    cautious: balancer_guide::cautious::builder(),
    Profile::spreads().leaves_out_for(Duration::from_secs(30))
);

conformance!(
    very_cautious: balancer_guide::cautious::builder(),
    Profile::spreads()
        .leaves_out_for(Duration::from_secs(10))
        .with_config(r#"{"failuresInARow":1,"timeOut":"10s"}"#)
);
