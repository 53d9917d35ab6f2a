//! Right policies, usual and unusual: the kit must stay silent.

use std::sync::Arc;

use balancer_api::{Builder, Reconnect};
use balancer_mutants::{
    composite::{self, Halves, Wrapper},
    happy_first::{self, HappyFirst},
    least_busy::{self, least_busy},
    newcomers::{self, grudging, newcomers},
    page_first::{self, PageFirst},
    pick_first::{self, PickFirst},
    priority::{self, Priority},
    prober::{self, prober},
    round_robin::{self, RoundRobin},
    unusual::{self, Batching, NeverReuses, PageRoundRobin},
    unusual_more::{self, Failover, LazyRoundRobin, Split},
};
use balancer_testkit::{PassThrough, Profile, ScriptedChild, conformance};

conformance!(shipped_round_robin: balancer_roundrobin::builder(), Profile::exact().either_mode());
conformance!(shipped_pick_first: balancer_pickfirst::builder(), Profile::sticks().lazy());

// The mutants without their bugs.
conformance!(plain_round_robin: RoundRobin(round_robin::Bug::None), Profile::exact().either_mode());
conformance!(plain_pick_first: PickFirst(pick_first::Bug::None), Profile::sticks().lazy());
conformance!(
    as_the_page_picks: PageFirst(page_first::Bug::None),
    Profile::sticks().page_lazy().not_sticky()
);
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
conformance!(
    lazy_round_robin: LazyRoundRobin::default(),
    Profile::spreads().on_demand().not_sticky()
);
conformance!(split: Split, Profile::spreads().partitions());
conformance!(failover: Failover, Profile::spreads().fails_over().partitions());
conformance!(
    standing_by: Priority(priority::Bug::None),
    Profile::spreads().fails_over().partitions()
);
conformance!(
    warming_up: newcomers(newcomers::Bug::None),
    Profile::spreads().warms_up(newcomers::WARM_AFTER)
);
conformance!(
    leaving_out: grudging(newcomers::Grudge::None),
    Profile::spreads().leaves_out_for(newcomers::OUT_FOR)
);

// Composites, with children of ours and with scripted ones.
conformance!(
    passing: PassThrough::around(balancer_roundrobin::builder()),
    Profile::exact()
        .passes_through()
        .with_scripted_instance(PassThrough::around(scripted()))
);
conformance!(
    passing_twice: PassThrough::around(Arc::new(PassThrough::around(balancer_pickfirst::builder()))),
    Profile::sticks()
        .lazy()
        .passes_through()
        .with_scripted_instance(PassThrough::around(Arc::new(PassThrough::around(scripted()))))
);
conformance!(
    wrapper: Wrapper(composite::Bug::None, balancer_roundrobin::builder()),
    Profile::exact()
        .passes_through()
        .with_scripted_instance(Wrapper(composite::Bug::None, scripted()))
);
conformance!(
    halves: Halves(composite::Bug::None, balancer_roundrobin::builder()),
    Profile::spreads()
        .partitions()
        .aggregates()
        .with_scripted_instance(Halves(composite::Bug::None, scripted()))
);
conformance!(
    lazy_halves: Halves(composite::Bug::None, Arc::new(LazyRoundRobin::default())),
    Profile::spreads()
        .lazy()
        .not_sticky()
        .selective()
        .partitions()
        .aggregates()
        .with_scripted_instance(Halves(composite::Bug::None, scripted()))
);

fn scripted() -> Arc<dyn Builder> {
    Arc::new(ScriptedChild::new())
}
