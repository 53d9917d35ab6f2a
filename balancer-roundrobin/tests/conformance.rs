//! Every law of the kit, in both reconnect modes.

use balancer_roundrobin::RoundRobin;
use balancer_testkit::{Profile, conformance};

conformance!(RoundRobin::new(), Profile::exact().either_mode());
