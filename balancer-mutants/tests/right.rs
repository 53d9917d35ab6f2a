//! Right policies: the kit must stay silent.

use balancer_testkit::{Profile, conformance};

conformance!(round_robin: balancer_roundrobin::builder(), Profile::exact().either_mode());
conformance!(pick_first: balancer_pickfirst::builder(), Profile::sticks().lazy());
