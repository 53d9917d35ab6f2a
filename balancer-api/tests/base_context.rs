//! What the base tells a policy's hooks, and what it does for a policy that has none.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{
    ConnectivityState as S,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
    *,
};
use support::{Asked, Driver, Recorder, endpoints};

/// Has nothing but the choice.
struct Plain;

impl PickerBuilder for Plain {
    type Data = ();
    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
    fn build_picker(&mut self, _: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(QueuePicker)
    }
}

/// What a hook found in its context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    config: Option<u8>,
    zone: Option<&'static str>,
    now: u64,
    random: u64,
    shown: String,
}

/// Looks around whenever it makes a picker, and sets a timer.
#[derive(Clone, Default)]
struct Curious(Arc<Mutex<Seen>>);

impl PickerBuilder for Curious {
    type Data = ();
    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
    fn build_picker(&mut self, _: &ReadySet, cx: &BaseContext<'_>) -> Arc<dyn Picker> {
        *self.0.lock().unwrap() = Seen {
            config: cx
                .config()
                .and_then(|config| config.downcast_ref().copied()),
            zone: cx.attributes().get().copied(),
            now: cx.now().as_nanos(),
            random: cx.random(),
            shown: format!("{cx:?}"),
        };
        cx.client_conn().set_timer(Duration::from_secs(3));
        Arc::new(QueuePicker)
    }
}

#[test]
fn a_hook_sees_the_result_the_clock_and_chance() {
    let curious = Curious::default();
    let make = curious.clone();
    let mut driver = Driver::new(&BaseBuilder::new("curious", move || make.clone()));
    driver.cc.script_random([0, 77]);
    driver.cc.set_now(5);
    let list = endpoints(&["a:1"])
        .with_config(Some(LbConfig::new("{}", 42u8)))
        .with_attributes(Attributes::new().with("west"));
    driver.resolved(Ok(list)).expect("a good list");
    driver.cc.take();
    driver.ready(0);
    let seen = curious.0.lock().unwrap().clone();
    assert_eq!((seen.config, seen.zone), (Some(42), Some("west")));
    assert_eq!((seen.now, seen.random), (5, 77));
    for part in ["42", "west"] {
        assert!(seen.shown.contains(part), "{part} in {}", seen.shown);
    }
    let timer = Asked::SetTimer(1, Duration::from_secs(3));
    assert_eq!(driver.cc.take(), [timer, Asked::Publish(S::Ready)]);
}

#[test]
fn a_policy_without_hooks_makes_no_picker_that_nobody_needs() {
    let mut driver = Driver::new(&BaseBuilder::new("plain", || Plain));
    driver.resolve(&["a:1"]).expect("a good list");
    driver.ready(0);
    driver.cc.take();
    driver.balancer.handle_timer(TimerId::from_raw(1));
    driver.balancer.settle();
    let end = CallEvent::End {
        status: Status::unavailable("reset"),
        trailers: Default::default(),
    };
    driver.balancer.handle_call_event(CallId::from_raw(1), end);
    driver.balancer.settle();
    driver.balancer.settle();
    assert_eq!(driver.cc.take(), [], "nothing has changed");
}

#[test]
fn a_hook_that_wants_a_new_picker_gets_one() {
    /// Wants one after a message, after its timer, and never else.
    struct Reporting;
    impl PickerBuilder for Reporting {
        type Data = ();
        fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
        fn build_picker(&mut self, _: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
            Arc::new(QueuePicker)
        }
        fn handle_timer(&mut self, _: TimerId, _: &BaseContext<'_>) -> bool {
            true
        }
        fn handle_call_event(&mut self, _: CallId, event: CallEvent, _: &BaseContext<'_>) -> bool {
            matches!(event, CallEvent::Message(_))
        }
    }
    let mut driver = Driver::new(&BaseBuilder::new("reporting", || Reporting));
    driver.resolve(&["a:1"]).expect("a good list");
    driver.ready(0);
    driver.cc.take();
    let message = CallEvent::Message(Default::default());
    let headers = CallEvent::Headers(Default::default());
    for (event, news) in [(message.clone(), 1), (headers.clone(), 0)] {
        driver
            .balancer
            .handle_call_event(CallId::from_raw(1), event);
        driver.balancer.settle();
        assert_eq!(driver.cc.take(), vec![Asked::Publish(S::Ready); news]);
    }
    // What one of them wants, the next one does not take back.
    driver.balancer.handle_timer(TimerId::from_raw(1));
    driver
        .balancer
        .handle_call_event(CallId::from_raw(1), headers);
    driver.balancer.settle();
    assert_eq!(driver.cc.take(), [Asked::Publish(S::Ready)]);
    driver.balancer.close();
    driver
        .balancer
        .handle_call_event(CallId::from_raw(1), message);
    driver.balancer.settle();
    assert_eq!(driver.cc.take(), [], "closed");
}

#[test]
fn each_kind_of_news_makes_a_picker_and_no_news_makes_none() {
    let mut driver = Driver::new(&BaseBuilder::new("plain", || Plain));
    let (one, two) = (LbConfig::new("{}", 1u8), LbConfig::new("{}", 2u8));
    let list = |config: Option<&LbConfig>, zone: &'static str| {
        let attributes = Attributes::new().with(zone);
        let list = endpoints(&["a:1"]).with_attributes(attributes);
        list.with_config(config.cloned())
    };
    driver
        .resolved(Ok(list(Some(&one), "west")))
        .expect("a good list");
    driver.ready(0);
    driver.cc.take();
    for (config, zone, news) in [
        (Some(&one), "west", 0),
        (Some(&two), "west", 1),
        (Some(&two), "west", 0),
        (Some(&two), "east", 1),
        (Some(&two), "east", 0),
        (None, "east", 1),
        (None, "east", 0),
        (Some(&one), "west", 1),
    ] {
        driver
            .resolved(Ok(list(config, zone)))
            .expect("a good list");
        let asked = vec![Asked::Publish(S::Ready); news];
        assert_eq!(driver.cc.take(), asked, "{config:?} {zone}");
    }
}

#[test]
fn a_resolver_that_is_well_again_is_no_longer_complained_of() {
    let mut driver = Driver::new(&BaseBuilder::new("plain", || Plain));
    driver.resolve(&["a:1"]).expect("a good list");
    driver.failed(0);
    let broken = Err(ResolveError::new("no such host"));
    driver.resolved(broken).expect("an error is not rejected");
    let text = |driver: &Driver| driver.cc.pick().expect_err("all have failed").to_string();
    let both = "sc0: connection refused; resolver: no such host";
    assert_eq!(text(&driver), both);
    driver.resolve(&["a:1"]).expect("the same list");
    assert_eq!(text(&driver), "sc0: connection refused");
}

#[test]
fn a_builder_has_its_name_its_line_and_its_parser() {
    let builder = BaseBuilder::new("plain", || Plain).with_description("queues");
    assert_eq!((builder.name(), builder.description()), ("plain", "queues"));
    assert_eq!(BaseBuilder::new("terse", || Plain).description(), "");
    let shown = format!("{builder:?}");
    assert!(
        shown.contains(r#""plain""#) && shown.contains("WhenAsked"),
        "{shown}"
    );

    for (json, warnings) in [("", 0), ("{}", 0), (" null ", 0), (r#"{"a":1}"#, 1)] {
        let mut cx = ParseContext::new(&NoChildren, 0);
        let config = builder.parse_config(json, &mut cx).expect("anything goes");
        assert_eq!((config.json(), cx.warnings().len()), (json, warnings));
    }
    let strict = builder.with_config_parser(|json, _| Err(ConfigError::new("", json, "no")));
    let mut cx = ParseContext::new(&NoChildren, 0);
    let refused = strict.parse_config("{}", &mut cx).expect_err("never right");
    assert_eq!((refused.value(), refused.rule()), ("{}", "no"));
}

#[test]
fn sub_conns_are_made_as_the_builder_was_told() {
    let made = |builder: &dyn Builder| {
        let cc = Recorder::new();
        let mut balancer = builder.build(cc.clone(), BuildOptions::new("fake:///target"));
        balancer
            .handle_resolved_addrs(Ok(endpoints(&["a:1"])))
            .expect("a good list");
        cc.options(0)
    };
    let usual = made(&BaseBuilder::new("plain", || Plain));
    assert_eq!(usual.reconnect, Reconnect::WhenAsked);
    assert_eq!(usual.attempt_delay, Some(Duration::from_millis(250)));
    assert_eq!(usual.health, HealthReporting::Off);
    let told = BaseBuilder::new("plain", || Plain)
        .with_reconnect(Reconnect::Immediately)
        .with_attempt_delay(None)
        .with_health(HealthReporting::On);
    let told = made(&told);
    assert_eq!(told.reconnect, Reconnect::Immediately);
    assert_eq!(
        (told.attempt_delay, told.health),
        (None, HealthReporting::On)
    );
}
