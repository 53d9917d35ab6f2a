//! RPCs that wait: what they are told when the time is over, and that the channel stays awake for them.

use std::{sync::Arc, time::Duration};

use balancer_api::{
    Balancer, BuildOptions, Builder, ClientConn, ConnectivityState as State, Endpoint,
    FailingPicker, PickError, QueuePicker, Rejected, ResolveError, ResolvedAddrs, SubConn,
    SubConnState, TimerId,
};
use balancer_channel::{Channel, ManualResolver, Resolution, WaitForReady};
use balancer_testpeer::Answer;
use futures_util::StreamExt;
use tonic::{Code, Request, Status};

use crate::{
    stage::{Stage, built, pushing_back},
    support::{echo, text},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A policy that has no SubConn and says, a second apart, what it is given to say.
struct Speaker(&'static [fn(&dyn ClientConn)]);

struct Speaking {
    cc: Arc<dyn ClientConn>,
    rest: std::slice::Iter<'static, fn(&dyn ClientConn)>,
}

impl Builder for Speaker {
    fn name(&self) -> &str {
        "speaker"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        let rest = self.0.iter();
        Box::new(Speaking { cc, rest })
    }
}

impl Speaking {
    fn speak(&mut self) {
        if let Some(say) = self.rest.next() {
            say(&*self.cc);
            self.cc.set_timer(Duration::from_secs(1));
        }
    }
}

impl Balancer for Speaking {
    fn handle_resolved_addrs(
        &mut self,
        _: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.speak();
        Ok(())
    }

    fn handle_timer(&mut self, _: TimerId) {
        self.speak();
    }

    fn handle_sub_conn_state_change(&mut self, _: &SubConn, _: &SubConnState<'_>) {}

    fn close(&mut self) {}
}

fn spoken_for(says: &'static [fn(&dyn ClientConn)], rest: &str) -> Channel {
    let config = format!(r#"{{"loadBalancingConfig":[{{"speaker":{{}}}}]{rest}}}"#);
    let channel = Channel::builder("ipv4:10.0.0.1:1").plaintext();
    let channel = channel.policy(Arc::new(Speaker(says)));
    built(channel.default_service_config(config))
}

/// How an RPC ends that nobody serves.
async fn ended(channel: &Channel, request: Request<crate::support::Text>) -> Status {
    let ended = tokio::time::timeout(MINUTE, echo(channel, request)).await;
    let ended = ended.expect("must end in time");
    channel.close().await;
    ended.expect_err("nobody serves")
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_configured_time_out_counts_under_a_policy_that_never_speaks() {
    let rest = r#","methodConfig":[{"name":[{}],"timeout":"2s"}]"#;
    let channel = spoken_for(&[], rest);
    let status = ended(&channel, Request::new(text("hello"))).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_deadline_names_what_went_wrong_last() {
    let channel = spoken_for(
        &[
            |cc| {
                let error = PickError::transient_failure("the disk is full");
                let picker = Arc::new(FailingPicker::new(error));
                cc.update_balancer_state(State::TransientFailure, picker);
            },
            |cc| cc.update_balancer_state(State::Connecting, Arc::new(QueuePicker)),
        ],
        "",
    );
    let mut request = Request::new(text("hello"));
    request.extensions_mut().insert(WaitForReady(true));
    request.set_timeout(Duration::from_secs(5));
    let status = ended(&channel, request).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("the disk is full"), "{status:?}");
}

/// What the channel's state was while an RPC ran.
async fn states_during<T>(channel: &Channel, rpc: impl Future<Output = T>) -> (T, Vec<State>) {
    let mut states = channel.states();
    let mut seen = Vec::new();
    let mut rpc = std::pin::pin!(rpc);
    loop {
        tokio::select! {
            biased;
            Some(state) = states.next() => seen.push(state),
            ended = &mut rpc => return (ended, seen),
        }
    }
}

const AWAKE: [State; 3] = [State::Idle, State::Connecting, State::Ready];

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn an_rpc_between_two_attempts_keeps_the_channel_awake() {
    let stage = Stage::new([vec![pushing_back("10000"), Answer::Echo]]);
    let policy = r#""retryPolicy":{"maxAttempts":3,"initialBackoff":"1s","maxBackoff":"1s",
        "backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}"#;
    let channel = built(stage.builder(policy).idle_timeout(Duration::from_secs(4)));
    let (ended, seen) = states_during(&channel, echo(&channel, text("hello"))).await;
    ended.expect("the second attempt is answered");
    stage.end(channel).await;
    assert_eq!(seen, AWAKE);
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn an_rpc_that_waits_for_a_stream_keeps_the_channel_awake() {
    let stage = Stage::narrow(0);
    let patient = stage.builder(r#""waitForReady":true"#);
    let channel = built(patient.idle_timeout(Duration::from_secs(4)));
    let mut request = Request::new(text("hello"));
    request.set_timeout(MINUTE);
    let (ended, seen) = states_during(&channel, echo(&channel, request)).await;
    ended.expect_err("there is never a stream");
    let dials = stage.servers[0].journal().accepted();
    channel.close().await;
    assert_eq!((&seen[..], dials), (&AWAKE[..], 1));
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_fixed_policy_does_not_care_what_a_config_names() {
    let stage = Stage::new([vec![Answer::Echo]]);
    let configs = [
        r#"{"loadBalancingConfig":[{"xds_experimental":{}}]}"#,
        r#"{"loadBalancingConfig":[],"loadBalancingPolicy":"round_robin"}"#,
        r#"{"loadBalancingPolicy":7}"#,
    ];
    for config in configs {
        let found = Resolution::new([Endpoint::from("10.0.0.0:1")]).with_service_config(config);
        let resolver = ManualResolver::silent();
        resolver.update(Ok(found));
        let channel = stage.builder(r#""waitForReady":false"#).resolver(resolver);
        let channel = built(channel.fixed_policy("pick_first"));
        let mut request = Request::new(text("hello"));
        request.set_timeout(MINUTE);
        let ended = echo(&channel, request).await;
        ended.unwrap_or_else(|status| panic!("{config}: {status:?}"));
        let snapshot = channel.snapshot();
        channel.close().await;
        assert_eq!(snapshot.policy.as_deref(), Some("pick_first"), "{config}");
    }
}
