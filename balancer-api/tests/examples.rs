//! The examples do what they say.

mod support;

#[path = "../examples/composite.rs"]
mod composite;
#[path = "../examples/probing.rs"]
mod probing;

use std::{sync::Arc, time::Duration};

use balancer_api::{ConnectivityState as S, *};
use composite::InFlight;
use support::{Asked, Driver, Recorder, endpoints, number};

/// Knows the policy `probing`.
struct OnlyProbing;

impl ChildResolver for OnlyProbing {
    fn resolve_child(
        &self,
        list_json: &str,
        cx: &mut ParseContext<'_>,
    ) -> Result<ChildConfig, ConfigError> {
        if list_json != r#"[{"probing":{}}]"# {
            return Err(ConfigError::new("[0]", list_json, "no policy is known"));
        }
        let builder: Arc<dyn Builder> = Arc::new(probing::builder());
        let config = builder.parse_config("{}", cx)?;
        Ok(ChildConfig::new(builder, Some(config)))
    }
}

fn composite_config(policy: &InFlight, json: &str) -> Result<LbConfig, ConfigError> {
    policy.parse_config(json, &mut ParseContext::new(&OnlyProbing, 0))
}

struct Fixed(u64);

impl Source for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }
    fn random(&self) -> u64 {
        self.0
    }
}

fn end(code: Code) -> CallEvent {
    CallEvent::End {
        status: Status::new(code, ""),
        trailers: Default::default(),
    }
}

#[test]
fn composite_counts_what_is_in_flight_through_its_child() {
    let policy = InFlight::new();
    let totals = policy.totals();
    let config = composite_config(&policy, r#"{"childPolicy":[{"probing":{}}]}"#);
    let config = config.expect("a good configuration");
    let mut driver = Driver::new(&policy);
    driver.balancer.settle();
    let resolved = || endpoints(&["a:1", "b:1"]).with_config(Some(config.clone()));
    driver.resolved(Ok(resolved())).expect("a good list");
    driver.ready(1);
    assert_eq!(driver.cc.state(), Some(S::Ready), "the child's state");

    let picker = driver.cc.picker();
    let options = PickOptions::new("/s/m");
    let first = picker.pick(&options).expect("a READY SubConn");
    let second = picker.pick(&options).expect("a READY SubConn");
    assert_eq!(number(first.sub_conn()), 1);
    assert_eq!(totals.in_flight(), 2);
    let status = Status::unavailable("reset");
    first
        .into_parts()
        .0
        .complete(&DoneInfo::new().with_err(&status));
    assert_eq!((totals.in_flight(), totals.failed()), (1, 1));
    drop(second);
    assert_eq!(
        (totals.in_flight(), totals.failed()),
        (0, 2),
        "a dropped one is over, too"
    );

    // The same policy again is the same child: nothing is made anew.
    driver.cc.take();
    driver.resolved(Ok(resolved())).expect("a good list");
    let made = driver
        .cc
        .take()
        .into_iter()
        .filter(|a| matches!(a, Asked::New(..)));
    assert_eq!(made.count(), 0);

    driver
        .resolved(Err(ResolveError::new("no such host")))
        .expect("the child goes on");
    driver
        .resolve(&["a:1"])
        .expect_err("no configuration, no child policy");
    driver.cc.take();
    driver.balancer.close();
    let removed = driver
        .cc
        .take()
        .into_iter()
        .filter(|a| matches!(a, Asked::Remove(_)));
    assert_eq!(removed.count(), 2, "the child's SubConns are given back");
}

#[test]
fn composite_says_what_is_wrong_with_its_configuration() {
    let policy = InFlight::new();
    let error = composite_config(&policy, "{}").expect_err("no child");
    assert_eq!(error.to_string(), "childPolicy: is required");
    let unknown = r#"{"childPolicy":[{"nobody":{}}]}"#;
    let error = composite_config(&policy, unknown).expect_err("unknown child");
    assert_eq!(error.path(), "childPolicy[0]");
}

#[test]
fn probing_prefers_the_less_loaded() {
    let mut driver = Driver::new(&probing::builder());
    driver.resolve(&["a:1", "b:1"]).expect("a good list");
    driver.cc.take();
    driver.ready(0).ready(1);
    let asked = driver.cc.take();
    let method = "/load.Report/Get".to_owned();
    assert!(
        asked.contains(&Asked::StartCall(1, 0, method.clone())),
        "{asked:?}"
    );
    assert!(
        asked.contains(&Asked::SetTimer(2, Duration::from_secs(1))),
        "{asked:?}"
    );
    assert!(
        asked.contains(&Asked::StartCall(3, 1, method.clone())),
        "{asked:?}"
    );

    for (call, load) in [(1, 80u32), (3, 20)] {
        let id = CallId::from_raw(call);
        let message = CallEvent::Message(load.to_be_bytes().to_vec().into());
        driver.balancer.handle_call_event(id, message);
        driver.balancer.handle_call_event(id, end(Code::Ok));
    }
    let picker = driver.cc.picker();
    for random in [0, 1, u64::MAX, 1 << 32, 0x1234_5678_9abc_def0] {
        let source = Fixed(random);
        let options = PickOptions::new("/s/m").with_source(&source);
        let pick = picker.pick(&options).expect("a READY SubConn");
        assert_eq!(number(pick.sub_conn()), 1, "both are looked at, b is idler");
    }

    driver.balancer.handle_timer(TimerId::from_raw(2));
    driver.balancer.settle();
    let asked = [
        Asked::SetTimer(4, Duration::from_secs(1)),
        Asked::StartCall(5, 0, method.clone()),
        Asked::StartCall(6, 1, method.clone()),
    ];
    assert_eq!(driver.cc.take(), asked);
    driver.balancer.handle_timer(TimerId::from_raw(4));
    assert_eq!(
        driver.cc.take(),
        [Asked::SetTimer(7, Duration::from_secs(1))],
        "one at a time"
    );

    driver.idle(0).idle(1);
    let asked = driver.cc.take();
    assert!(asked.contains(&Asked::CancelCall(5)), "{asked:?}");
    assert!(
        asked.contains(&Asked::CancelTimer(7)),
        "nothing left to probe: {asked:?}"
    );
}

#[test]
fn probing_reads_its_configuration() {
    let mut cx = ParseContext::new(&NoChildren, 0);
    let json = r#"{"interval":"0.5s","method":"/x.Y/Z"}"#;
    let config = probing::builder()
        .parse_config(json, &mut cx)
        .expect("good");
    let mut driver = Driver::new(&probing::builder());
    let resolved = endpoints(&["a:1"]).with_config(Some(config));
    driver.resolved(Ok(resolved)).expect("a good list");
    driver.ready(0);
    let asked = driver.cc.take();
    assert!(
        asked.contains(&Asked::StartCall(1, 0, "/x.Y/Z".to_owned())),
        "{asked:?}"
    );
    assert!(
        asked.contains(&Asked::SetTimer(2, Duration::from_millis(500))),
        "{asked:?}"
    );
    let error = probing::builder().parse_config(r#"{"interval":5}"#, &mut cx);
    assert_eq!(error.expect_err("no duration").path(), "interval");
    let foreign = endpoints(&["a:1"]).with_config(Some(LbConfig::new("{}", ())));
    driver.resolved(Ok(foreign)).expect_err("another policy's");
}

#[test]
fn examples_build_without_a_channel() {
    let options = BuildOptions::new("fake:///target");
    let mut balancer = probing::builder().build(Recorder::new(), options);
    balancer.close();
}
