//! One line proves a policy; what breaks a law is shown by a short script that can be replayed.

mod common;

use std::sync::Arc;

use balancer_api::{
    Balancer, BuildOptions, Builder, ClientConn, Rejected, ResolveError, ResolvedAddrs, SubConn,
    SubConnState,
};
use balancer_testkit::{
    Conformance, Knobs, Law, LawSet, List, PassThrough, Profile, Scenario, conformance, judge,
    strategy,
};
use common::{round_robin, round_robin_with_health};
use proptest::{prelude::*, test_runner::TestRunner};

conformance!(round_robin(), Profile::exact().either_mode());
conformance!(with_health: round_robin_with_health(), Profile::exact());
conformance!(nested: PassThrough::around(Arc::new(round_robin())), Profile::exact());

/// Round robin that forgets to ask for fresh addresses, and accepts empty lists.
struct Careless;

struct CarelessBalancer(Box<dyn Balancer>);

/// Hands everything on but `resolve_now`.
struct Deaf(Arc<dyn ClientConn>);

impl Builder for Careless {
    fn name(&self) -> &'static str {
        "careless"
    }
    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let inner = round_robin().build(Arc::new(Deaf(cc)), options);
        Box::new(CarelessBalancer(inner))
    }
}

impl Balancer for CarelessBalancer {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        self.0.handle_sub_conn_state_change(sub_conn, state);
    }
    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let _ = self.0.handle_resolved_addrs(resolved);
        Ok(())
    }
    fn close(&mut self) {
        self.0.close();
    }
    fn settle(&mut self) {
        self.0.settle();
    }
}

mod deaf {
    //! The ClientConn without `resolve_now`.
    use super::*;
    use balancer_api::*;
    use std::time::Duration;

    impl ClientConn for Deaf {
        fn new_sub_conn(
            &self,
            addresses: Vec<Address>,
            options: NewSubConnOptions,
        ) -> Result<SubConn, NewSubConnError> {
            self.0.new_sub_conn(addresses, options)
        }
        fn remove_sub_conn(&self, sub_conn: &SubConn) {
            self.0.remove_sub_conn(sub_conn);
        }
        fn update_balancer_state(&self, state: ConnectivityState, picker: Arc<dyn Picker>) {
            self.0.update_balancer_state(state, picker);
        }
        fn target(&self) -> &str {
            self.0.target()
        }
        fn resolve_now(&self) {}
        fn now(&self) -> Timestamp {
            self.0.now()
        }
        fn random(&self) -> u64 {
            self.0.random()
        }
        fn set_timer(&self, after: Duration) -> TimerId {
            self.0.set_timer(after)
        }
        fn cancel_timer(&self, id: TimerId) {
            self.0.cancel_timer(id);
        }
        fn wake(&self) {
            self.0.wake();
        }
        fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
            self.0.start_call(sub_conn, request)
        }
        fn send_call_message(&self, id: CallId, message: bytes::Bytes) {
            self.0.send_call_message(id, message);
        }
        fn close_call_send(&self, id: CallId) {
            self.0.close_call_send(id);
        }
        fn cancel_call(&self, id: CallId) {
            self.0.cancel_call(id);
        }
        fn new_lookaside(
            &self,
            target: &str,
            credentials: Option<Arc<dyn TransportCredentials>>,
            dialer: Option<Arc<dyn Dialer>>,
        ) -> Result<SubConn, NewSubConnError> {
            self.0.new_lookaside(target, credentials, dialer)
        }
    }
}

fn quick() -> Knobs {
    let mut knobs = Knobs::from_env();
    knobs.depth = 4;
    knobs.cases = 50;
    knobs.script = None;
    knobs
}

#[test]
fn each_broken_law_is_found_and_shown_shortly() {
    let suite = Conformance::with_knobs(Careless, Profile::exact(), quick());
    let failures = suite.failures();
    let mut laws: Vec<Law> = failures.iter().map(|f| f.violation.law).collect();
    laws.sort_unstable();
    assert_eq!(laws, [Law::ResolveNowAsked, Law::EmptyListFails]);
    for failure in &failures {
        assert!(failure.script.events().len() <= 3, "{failure}");
    }
}

#[test]
fn a_failure_reads_as_a_conversation_and_can_be_replayed() {
    let laws = LawSet::of(&[Law::ResolveNowAsked]);
    let suite = Conformance::with_knobs(Careless, Profile::exact().only(laws), quick());
    let failure = suite.first_failure().expect("it never asks");
    let text = failure.to_string();
    for part in [
        "law `resolve_now_asked`",
        "why:",
        "source:",
        "is TRANSIENT_FAILURE",
        "BALANCER_KIT_SCRIPT='update ",
    ] {
        assert!(text.contains(part), "{part} must be in:\n{text}");
    }
    // What was printed is a script that fails again.
    let script: Scenario = failure.script.one_line().parse().unwrap();
    let builder: Arc<dyn Builder> = Arc::new(Careless);
    let again = judge(&builder, &Profile::exact().only(laws), &script).unwrap_err();
    assert_eq!(again.violation.law, Law::ResolveNowAsked);
}

#[test]
#[should_panic(expected = "a stored regression is back")]
fn stored_regressions_run_first() {
    let script = "update a b\n# nobody asks to resolve again\nconnecting a\nfailed a";
    let profile = Profile::exact().regression(script);
    let suite = Conformance::with_knobs(Careless, profile, quick());
    suite.check(balancer_testkit::Family::Resolver);
}

#[test]
fn a_law_that_is_off_is_not_judged() {
    let profile = Profile::exact()
        .without(Law::ResolveNowAsked)
        .without(Law::EmptyListFails);
    let suite = Conformance::with_knobs(Careless, profile, quick());
    assert!(suite.failures().is_empty());
}

#[test]
fn random_scripts_of_proptest_find_and_shrink() {
    let builder: Arc<dyn Builder> = Arc::new(Careless);
    let laws = LawSet::of(&[Law::EmptyListFails]);
    let mut runner = TestRunner::deterministic();
    let found = runner.run(&strategy::scenarios(20), |scenario| {
        judge(&builder, &Profile::exact().only(laws), &scenario)
            .map_err(|failure| TestCaseError::fail(failure.to_string()))
    });
    assert!(found.is_err(), "an empty list is among the first scripts");
}

#[test]
fn thousands_of_endpoints_are_no_different() {
    let builder: Arc<dyn Builder> = Arc::new(round_robin());
    let names = |from: usize| (from..from + 2_000).map(|n| format!("s{n}"));
    let script = format!(
        "update {}; connecting s5; ready s5; update {}; lost s5; again; update",
        List::named(names(0)),
        List::named(names(3).chain(names(3))),
    );
    let laws = LawSet::all().without(Law::Liveness);
    let script: Scenario = script.parse().unwrap();
    if let Err(failure) = judge(&builder, &Profile::exact().only(laws), &script) {
        panic!("{}", failure.violation);
    }
}
