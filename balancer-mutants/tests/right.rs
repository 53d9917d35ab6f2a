//! Right policies, usual and unusual: the kit must stay silent.

use balancer_api::Reconnect;
use balancer_mutants::{
    happy_first::{self, HappyFirst},
    least_busy::{self, least_busy},
    pick_first::{self, PickFirst},
    prober::{self, prober},
    round_robin::{self, RoundRobin},
    unusual::{self, Batching, NeverReuses, PageRoundRobin},
    unusual_more::{self, Failover, LazyRoundRobin, Split},
};
use balancer_testkit::{Profile, conformance};

conformance!(shipped_round_robin: balancer_roundrobin::builder(), Profile::exact().either_mode());
conformance!(shipped_pick_first: balancer_pickfirst::builder(), Profile::sticks().lazy());

// The mutants without their bugs.
conformance!(plain_round_robin: RoundRobin(round_robin::Bug::None), Profile::exact().either_mode());
conformance!(plain_pick_first: PickFirst(pick_first::Bug::None), Profile::sticks().lazy());
conformance!(sub_conn_per_address: HappyFirst(happy_first::Bug::None), Profile::sticks().lazy());
conformance!(fewest_in_flight: least_busy(least_busy::Bug::None), Profile::spreads().either_mode());
conformance!(probing: prober(prober::Bug::None), Profile::spreads());

conformance!(random: unusual::random(), Profile::even().either_mode());
conformance!(
    random_with_health: unusual::random_with_health(Reconnect::WhenAsked),
    Profile::even().either_mode()
);
conformance!(weighted: unusual::weighted(), Profile::spreads());
conformance!(batching: Batching, Profile::exact().either_mode());
conformance!(never_reuses: NeverReuses, Profile::exact().either_mode());
conformance!(as_the_page_has_it: PageRoundRobin, Profile::exact().either_mode());

conformance!(two_choices: unusual_more::two_choices(), Profile::spreads());
conformance!(by_method: unusual_more::by_method(), Profile::spreads());
conformance!(by_session: unusual_more::by_session(), Profile::spreads());
conformance!(first_ready: unusual_more::first_ready(), Profile::sticks());
conformance!(lazy_round_robin: LazyRoundRobin, Profile::spreads().lazy().not_sticky());
conformance!(split: Split, Profile::spreads());
conformance!(failover: Failover, Profile::spreads().selective());
