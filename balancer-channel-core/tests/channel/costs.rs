//! What an RPC's own path costs: no allocation, no lock of ours, whatever the balancer does.

use balancer_api::{DoneInfo, PickOptions};
use balancer_channel_core::PickOutcome;

use crate::support::Fixture;

#[test]
fn a_pick_allocates_nothing() {
    let fixture = Fixture::new("x y");
    fixture.connect();
    let core = &fixture.core;
    let pick = || {
        let options = PickOptions::new("/s/m").with_source(core.source());
        match core.current().pick(&options) {
            PickOutcome::Complete(attempt) => {
                attempt
                    .done
                    .complete(&DoneInfo::new().with_source(core.source()));
            }
            other => panic!("{other:?}"),
        }
    };
    // The puppet's observer writes down what it is told: that is the test's cost, not the channel's.
    fixture.a.dones.log.lock().unwrap().reserve(10_000);
    for _ in 0..10 {
        pick();
    }
    fixture.run();
    let puppet = allocation_counter::measure(|| drop("ok".to_owned())).count_total;
    let counted = allocation_counter::measure(|| (0..1_000).for_each(|_| pick()));
    assert_eq!(
        counted.count_total,
        1_000 * puppet,
        "beside the observer's line"
    );
}

#[test]
fn however_many_rpcs_find_the_channel_asleep_one_of_them_wakes_it() {
    let fixture = Fixture::new("x");
    let core = &fixture.core;
    let wait = || {
        let picked = core.current().pick(&PickOptions::new("/s/m"));
        assert!(matches!(picked, PickOutcome::Wait { .. }), "{picked:?}");
    };
    // One item in the balancer's queue, whose room grows a few at a time.
    wait();
    let counted = allocation_counter::measure(|| (0..1_000).for_each(|_| wait()));
    assert_eq!(counted.count_total, 0, "a wish that is on its way already");
    fixture.run();
    assert!(!core.is_idle());
}
