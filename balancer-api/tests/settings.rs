//! What a caller sets is what the other side reads, and what nobody set has its stated default.

mod support;

use std::{io, sync::Arc, time::Duration};

use balancer_api::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use support::Recorder;

struct FiveAndFour;

impl Source for FiveAndFour {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(5)
    }
    fn random(&self) -> u64 {
        4
    }
}

struct Nowhere;

#[async_trait::async_trait]
impl Dialer for Nowhere {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Io>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug)]
struct NoTrust;

#[async_trait::async_trait]
impl TransportCredentials for NoTrust {
    async fn client_handshake(
        &self,
        _: &str,
        _: Box<dyn Io>,
    ) -> Result<(Box<dyn Io>, AuthInfo), HandshakeError> {
        Err(HandshakeError::new("nobody is trusted"))
    }
}

fn headers(name: &'static str, value: &'static str) -> HeaderMap {
    let pair = (
        HeaderName::from_static(name),
        HeaderValue::from_static(value),
    );
    HeaderMap::from_iter([pair])
}

fn sub_conn() -> SubConn {
    Recorder::new()
        .new_sub_conn(vec![Address::new("a:1")], NewSubConnOptions::new())
        .expect("a SubConn")
}

#[test]
fn a_picker_learns_of_the_rpc_what_the_channel_knows() {
    let options = PickOptions::new("/s/m");
    assert_eq!(options.method(), "/s/m");
    assert!(options.headers().is_empty() && options.attributes().is_empty());
    assert_eq!((options.deadline(), options.attempt()), (None, 0));
    assert!(options.tried().is_empty() && !options.wait_for_ready());
    assert_eq!((options.now(), options.random()), (Timestamp::ZERO, 0));

    let (headers, tried) = (headers("key", "k1"), [sub_conn()]);
    let attributes = Attributes::new().with("zone");
    let deadline = Timestamp::from_nanos(9);
    let options = options
        .with_headers(&headers)
        .with_deadline(Some(deadline))
        .with_attempt(1, &tried)
        .with_wait_for_ready(true)
        .with_attributes(&attributes)
        .with_source(&FiveAndFour);
    assert_eq!(options.method(), "/s/m");
    assert_eq!(options.headers()["key"], "k1");
    assert_eq!(options.deadline(), Some(deadline));
    assert_eq!((options.attempt(), options.tried()), (1, &tried[..]));
    assert!(options.wait_for_ready());
    assert_eq!(options.attributes().get(), Some(&"zone"));
    assert_eq!((options.now().as_nanos(), options.random()), (5, 4));
}

#[test]
fn an_observer_learns_how_the_rpc_ended() {
    let info = DoneInfo::new();
    assert_eq!((info.err(), info.trailers()), (None, None));
    assert!(!info.bytes_sent() && !info.bytes_received());
    assert_eq!((info.server_load(), info.now()), (None, Timestamp::ZERO));

    let (err, trailers) = (Status::unavailable("reset"), headers("t", "1"));
    let load = Bytes::from_static(b"orca");
    let info = info
        .with_err(&err)
        .with_trailers(&trailers)
        .with_server_load(&load)
        .with_source(&FiveAndFour);
    assert_eq!((info.err(), info.trailers()), (Some(&err), Some(&trailers)));
    assert_eq!(info.server_load(), Some(&load));
    assert_eq!(info.now().as_nanos(), 5);
    let sent = info.with_bytes_sent(true);
    assert!(sent.bytes_sent() && !sent.bytes_received());
    let received = info.with_bytes_received(true);
    assert!(!received.bytes_sent() && received.bytes_received());
}

#[test]
fn a_pick_carries_its_sub_conn_and_the_metadata_to_send() {
    let sub_conn = sub_conn();
    let token = |pick: Pick<'static>| {
        let name = HeaderName::from_static("lb-token");
        pick.with_metadata(name.clone(), HeaderValue::from_static("t1"))
            .with_metadata(name, HeaderValue::from_static("t2"))
    };
    for pick in [
        Pick::new(&sub_conn).into_owned(),
        Pick::owned(sub_conn.clone()),
        Pick::owned(sub_conn.clone()).into_owned(),
    ] {
        assert_eq!(pick.sub_conn(), &sub_conn);
        assert!(pick.metadata().is_none());
        let pick = token(pick);
        let sent = |map: Option<&HeaderMap>| map.map(|map| map.get_all("lb-token").iter().count());
        assert_eq!(sent(pick.metadata()), Some(2), "both are sent");
        let (done, metadata) = pick.into_owned().into_parts();
        assert_eq!(sent(metadata.as_deref()), Some(2));
        assert!(done.is_none(), "nobody wants to know");
    }
}

#[test]
fn a_policy_is_built_with_what_the_channel_has() {
    let options = BuildOptions::new("dns:///greeter");
    assert_eq!(
        (&*options.target, &*options.authority),
        ("dns:///greeter", "dns:///greeter"),
        "the target is the authority where nothing else is said"
    );
    assert!(options.dialer.is_none() && options.dial_creds.is_none() && options.config.is_none());

    let config = LbConfig::new("{}", 7u8);
    let options = options
        .with_authority("greeter.prod")
        .with_config(Some(config.clone()))
        .with_dialer(Some(Arc::new(Nowhere)))
        .with_dial_creds(Some(Arc::new(NoTrust)));
    assert_eq!(&*options.target, "dns:///greeter");
    assert_eq!(&*options.authority, "greeter.prod");
    assert!(options.config.is_some_and(|given| given.is_same(&config)));
    assert!(options.dialer.is_some());
    let creds = options.dial_creds.expect("was given");
    assert_eq!(format!("{creds:?}"), "NoTrust");
}

#[test]
fn a_shared_builder_is_the_builder() {
    struct Inner;
    impl Builder for Inner {
        fn name(&self) -> &str {
            "inner"
        }
        fn description(&self) -> &str {
            "what it does"
        }
        fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
            unreachable!("only parsed here")
        }
        fn parse_config(&self, _: &str, _: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
            Err(ConfigError::new("", "", "never right"))
        }
    }
    let shared = Arc::new(Inner);
    assert_eq!(shared.name(), "inner");
    assert_eq!(Builder::name(&shared), "inner");
    assert_eq!(Builder::description(&shared), "what it does");
    let mut cx = ParseContext::new(&NoChildren, 0);
    let refused = Builder::parse_config(&shared, "{}", &mut cx).expect_err("never right");
    assert_eq!(refused.rule(), "never right");
}

#[test]
fn a_builder_need_not_describe_itself() {
    struct Terse;
    impl Builder for Terse {
        fn name(&self) -> &str {
            "terse"
        }
        fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
            unreachable!("only described here")
        }
    }
    assert_eq!(Terse.description(), "");
}

#[test]
fn a_resolver_result_is_a_list_and_what_is_said_of_it() {
    let list = || ["a:1", "b:1"].map(Endpoint::from);
    let result = ResolvedAddrs::new(list());
    assert_eq!(*result.endpoints, list());
    assert!(result.config.is_none() && result.note.is_none() && result.attributes.is_empty());

    let config = LbConfig::new("{}", 7u8);
    let result = result
        .with_config(Some(config.clone()))
        .with_attributes(Attributes::new().with(3u16))
        .with_note("from a file")
        .with_endpoints([Endpoint::from("c:1")]);
    assert_eq!(*result.endpoints, [Endpoint::from("c:1")]);
    assert!(result.config.is_some_and(|given| given.is_same(&config)));
    assert_eq!(result.attributes.get(), Some(&3u16));
    assert_eq!(result.note.as_deref(), Some("from a file"));
}

#[test]
fn a_sub_conn_is_made_as_the_policy_asks() {
    let plain = NewSubConnOptions::new();
    assert_eq!(plain.reconnect, Reconnect::Immediately);
    assert_eq!((plain.attempt_delay, plain.tag.as_ref()), (None, None));
    assert_eq!(plain.health, HealthReporting::Off);

    let delay = Duration::from_millis(250);
    let asked = plain
        .with_reconnect(Reconnect::WhenAsked)
        .with_attempt_delay(Some(delay))
        .with_health(HealthReporting::On)
        .with_tag("probe");
    assert_eq!(asked.reconnect, Reconnect::WhenAsked);
    assert_eq!(asked.attempt_delay, Some(delay));
    assert_eq!(asked.health, HealthReporting::On);
    assert_eq!(asked.tag.as_deref(), Some("probe"));
}

#[test]
fn a_move_says_why_and_where() {
    let (error, address) = (Status::unavailable("reset"), Address::new("a:1"));
    let plain = SubConnState::new(ConnectivityState::Ready);
    assert_eq!((plain.error, plain.address), (None, None));
    assert_eq!(plain.cause, StateCause::Connectivity);
    let told = plain
        .with_error(&error)
        .with_address(&address)
        .with_cause(StateCause::Health);
    assert_eq!(told.state, ConnectivityState::Ready);
    assert_eq!((told.error, told.address), (Some(&error), Some(&address)));
    assert_eq!(told.cause, StateCause::Health);
}

#[test]
fn a_call_is_started_with_what_the_policy_gives() {
    let plain = CallRequest::new("/s/m");
    assert_eq!(&*plain.method, "/s/m");
    assert!(plain.headers.is_empty() && plain.first_message.is_none());
    assert!(!plain.half_close && plain.timeout.is_none());

    let second = Duration::from_secs(1);
    let call = plain
        .with_headers(headers("key", "k1"))
        .with_first_message(&b"hi"[..])
        .with_half_close(true)
        .with_timeout(Some(second));
    assert_eq!(call.headers["key"], "k1");
    assert_eq!(call.first_message.as_deref(), Some(&b"hi"[..]));
    assert!(call.half_close);
    assert_eq!(call.timeout, Some(second));
}

#[test]
fn only_the_end_ends_a_call() {
    let end = CallEvent::End {
        status: Status::unavailable(""),
        trailers: HeaderMap::new(),
    };
    assert!(end.is_end());
    assert!(!CallEvent::Headers(HeaderMap::new()).is_end());
    assert!(!CallEvent::Message(Bytes::new()).is_end());
}

#[test]
fn ids_and_points_in_time_are_the_numbers_behind() {
    for number in [0, 1, 7, u64::MAX] {
        assert_eq!(TimerId::from_raw(number).as_raw(), number);
        assert_eq!(CallId::from_raw(number).as_raw(), number);
        assert_eq!(Timestamp::from_nanos(number).as_nanos(), number);
    }
    let start = Timestamp::from_nanos(1_000);
    let later = start + Duration::from_nanos(500);
    assert_eq!(later.as_nanos(), 1_500);
    assert_eq!(later - start, Duration::from_nanos(500));
    assert_eq!(later.saturating_duration_since(start), later - start);
    assert_eq!(start - later, Duration::ZERO, "never negative");
    assert_eq!(start + Duration::MAX, Timestamp::from_nanos(u64::MAX));
}

#[test]
fn an_address_and_an_endpoint_keep_what_they_are_given() {
    let (one, two) = (Attributes::new().with(1u8), Attributes::new().with(2u8));
    let plain = Address::from("a:1".to_owned());
    assert_eq!((plain.addr(), plain.server_name()), ("a:1", None));
    assert!(plain.attributes().is_empty() && plain.balancer_attributes().is_empty());
    let address = plain
        .with_server_name("a.example")
        .with_attributes(one.clone())
        .with_balancer_attributes(two.clone());
    assert_eq!(address.addr(), "a:1");
    assert_eq!(address.server_name(), Some("a.example"));
    assert_eq!(address.attributes(), &one);
    assert_eq!(address.balancer_attributes(), &two);

    let plain = Endpoint::from(address.clone());
    assert!(plain.attributes().is_empty() && plain.balancer_attributes().is_empty());
    let endpoint = plain
        .with_balancer_attributes(two.clone())
        .with_attributes(one.clone());
    assert_eq!(endpoint.addresses(), [address]);
    assert_eq!(endpoint.attributes(), &one);
    assert_eq!(endpoint.balancer_attributes(), &two, "both may be set");
    let dual = Endpoint::from_iter([Address::new("b:1"), Address::new("a:1")]);
    let texts: Vec<_> = dual.addresses().iter().map(Address::addr).collect();
    assert_eq!(texts, ["b:1", "a:1"], "in the resolver's order");
}

#[test]
fn a_child_is_named_by_its_builder_and_carries_its_configuration() {
    struct Named;
    impl Builder for Named {
        fn name(&self) -> &str {
            "named"
        }
        fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
            unreachable!("only named here")
        }
    }
    let builder: Arc<dyn Builder> = Arc::new(Named);
    let config = LbConfig::new("{}", 7u8);
    let child = ChildConfig::new(builder.clone(), Some(config.clone()));
    assert_eq!(child.name(), "named");
    assert!(Arc::ptr_eq(child.builder(), &builder));
    assert!(child.config().is_some_and(|given| given.is_same(&config)));
    assert!(ChildConfig::new(builder, None).config().is_none());
}

#[test]
fn a_handshake_says_what_it_established_or_why_not() {
    let info = AuthInfo::new("tls", SecurityLevel::PrivacyAndIntegrity);
    assert_eq!(&*info.protocol, "tls");
    assert_eq!(info.security_level, SecurityLevel::PrivacyAndIntegrity);
    assert!(SecurityLevel::None < SecurityLevel::IntegrityOnly);
    assert!(SecurityLevel::IntegrityOnly < SecurityLevel::PrivacyAndIntegrity);

    use std::error::Error;
    let plain = HandshakeError::new("certificate expired");
    assert_eq!(plain.to_string(), "certificate expired");
    assert!(plain.source().is_none());
    let caused = plain.with_source(io::Error::other("at noon"));
    assert_eq!(caused.to_string(), "certificate expired");
    let source = caused.source().map(ToString::to_string);
    assert_eq!(source.as_deref(), Some("at noon"), "the cause is kept");
}

#[test]
fn a_handle_is_found_again_by_the_channel_that_made_it() {
    struct Mine;
    struct Other;
    impl SubConnHandle for Mine {
        fn connect(&self) {}
        fn update_addresses(&self, _: Vec<Address>) {}
    }
    impl SubConnHandle for Other {
        fn connect(&self) {}
        fn update_addresses(&self, _: Vec<Address>) {}
    }
    let mine = SubConn::new(Arc::new(Mine));
    assert!(mine.downcast_ref::<Mine>().is_some());
    assert!(mine.downcast_ref::<Other>().is_none());
    assert_eq!(mine, mine.clone());
    assert_ne!(sub_conn(), sub_conn(), "two of the same address");
    assert_eq!(format!("{mine:?}"), "SubConn", "where nobody names it");
}
