//! What is watched is what is sent, through a policy inside a policy too.

use std::sync::Arc;

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, Child, ChildConfig, ChildEvent, ClientConn,
    ConfigError, ConfigFields, LbConfig, ParseContext, Rejected, ResolveError, ResolvedAddrs,
    SubConn, SubConnState, TimerId,
};
use balancer_channel::{Channel, Registry};
use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::{Request, client::Grpc};

use super::{Tally, watched};
use crate::{Backend, call::RawCodec, policies::shipped};

/// A policy that leaves everything to the one inside it.
struct Outer;

struct OuterBalancer {
    cc: Arc<dyn ClientConn>,
    options: BuildOptions,
    child: Option<Child>,
}

#[derive(Debug)]
struct OuterConfig(ChildConfig);

/// A registry with `outer` and the shipped policies.
fn plain() -> Registry {
    let registry = shipped();
    let registered = registry.register(Arc::new(Outer));
    registered.expect("it has a name");
    registry
}

async fn attempts_of(config: &str, rpcs: usize) -> Vec<u64> {
    let (a, b) = (Backend::start().await, Backend::start().await);
    let backends = [a.expect("a backend"), b.expect("a backend")];
    let target = backends.each_ref().map(|b| b.addr().to_string()).join(",");
    let tally = Arc::new(Tally::default());
    let channel = Channel::builder(format!("ipv4:{target}"))
        .plaintext()
        .default_service_config(config)
        .registry(watched(&plain(), &tally))
        .warm_up(std::time::Duration::from_secs(60))
        .build()
        .expect("a channel");
    for _ in 0..rpcs {
        let mut client = Grpc::new(channel.clone());
        client.ready().await.expect("always ready");
        let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let answer = client.unary(Request::new(Bytes::new()), path, RawCodec);
        answer.await.expect("an answer");
    }
    channel.close().await;
    let begun: u64 = backends.iter().map(Backend::begun).sum();
    let attempts = tally.attempts();
    assert_eq!(begun, attempts.values().sum::<u64>(), "no more, no less");
    attempts.into_values().collect()
}

#[tokio::test]
async fn attempts_are_counted_where_they_went() {
    let config = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;
    assert_eq!(attempts_of(config, 10).await, [5, 5]);
    let config = r#"{"loadBalancingConfig":[{"pick_first":{}}]}"#;
    assert_eq!(attempts_of(config, 10).await, [10]);
}

#[tokio::test]
async fn an_attempt_through_two_policies_counts_once() {
    let config = r#"{"loadBalancingConfig":[{"outer":{"childPolicy":[{"round_robin":{}}]}}]}"#;
    assert_eq!(attempts_of(config, 10).await, [5, 5]);
}

#[test]
fn warnings_about_what_is_inside_are_passed_on() {
    let registry = watched(&plain(), &Arc::default());
    let json = r#"{"loadBalancingConfig":[{"outer":{"childPolicy":[{"round_robin":{"x":1}}]}}]}"#;
    let watched = balancer_registry::ServiceConfig::parse(json, &registry);
    let plain = balancer_registry::ServiceConfig::parse(json, &plain());
    let (watched, plain) = (watched.expect("valid"), plain.expect("valid"));
    assert!(!plain.warnings().is_empty(), "x means nothing there");
    assert_eq!(watched.warnings(), plain.warnings(), "must be the same");
}

// === impl Outer ===

impl Builder for Outer {
    fn name(&self) -> &str {
        "outer"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        Box::new(OuterBalancer {
            cc,
            options,
            child: None,
        })
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        let child = ConfigFields::parse(json)?.child_policy("childPolicy", cx)?;
        let child = child.ok_or_else(|| ConfigError::new("childPolicy", "", "is required"))?;
        Ok(LbConfig::new(json, OuterConfig(child)))
    }
}

// === impl OuterBalancer ===

impl OuterBalancer {
    fn pass_on(&mut self, event: ChildEvent<'_>) -> Result<(), Rejected> {
        let child = self.child.as_mut();
        child.map_or(Ok(()), |child| child.handle(event).into_result())
    }
}

impl Balancer for OuterBalancer {
    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let config = resolved.as_ref().ok().and_then(|r| r.config.clone());
        if let Some(config) = config.as_ref().and_then(LbConfig::downcast_ref) {
            let OuterConfig(config) = config;
            self.child
                .get_or_insert_with(|| Child::build(self.cc.clone(), config, &self.options));
        }
        let resolved = resolved.map(|resolved| resolved.with_config(None));
        self.pass_on(ChildEvent::Resolved(resolved))
    }

    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        let _ = self.pass_on(ChildEvent::SubConnState(sub_conn, state));
    }

    fn handle_timer(&mut self, id: TimerId) {
        let _ = self.pass_on(ChildEvent::Timer(id));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        let _ = self.pass_on(ChildEvent::Call(id, &event));
    }

    fn exit_idle(&mut self) {
        if let Some(child) = &mut self.child {
            child.exit_idle();
        }
    }

    fn settle(&mut self) {
        let _ = self.pass_on(ChildEvent::Settle);
        let output = self.child.as_mut().and_then(Child::take_output);
        if let Some((state, picker)) = output {
            self.cc.update_balancer_state(state, picker);
        }
    }

    fn close(&mut self) {
        self.child = None;
    }
}
