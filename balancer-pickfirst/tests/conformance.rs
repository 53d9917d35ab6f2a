//! Every law of the kit, with the resolver's order and with a shuffled one.

use balancer_pickfirst::PickFirst;
use balancer_testkit::{Profile, conformance};

conformance!(PickFirst::new(), Profile::sticks().lazy());

conformance!(shuffled: PickFirst::new(), Profile::sticks()
    .lazy()
    .with_config(r#"{"shuffleAddressList":true}"#));
