//! The channel that applications hold.

use std::{
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use balancer_api::{Code, ConnectivityState, PickOptions, Status};
use balancer_channel_core::{ConnectivityStates, Core, Env as _, PickOutcome, Snapshot};
use futures_util::{
    StreamExt,
    future::{Either, select},
};
use tonic::body::Body;
use tower_service::Service;

use crate::{builder::ChannelBuilder, call::ResponseFuture, env::TokioEnv, status};

/// A gRPC channel: sends each RPC over one of many connections, which one being a policy's choice.
///
/// It is a [`tower::Service`](tower_service::Service) of what tonic's generated clients send, so it
/// goes where tonic's own channel goes, interceptors and `ServiceBuilder` stacks included. It is
/// always ready: an RPC that has to wait for a connection waits in its own future, not in
/// `poll_ready`. Clones share one channel and cost a reference count.
///
/// # Life
/// A channel starts IDLE: nothing is resolved or connected before the first RPC or
/// [`connect`](Self::connect). When the last clone is dropped, RPCs in flight finish and everything
/// ends; [`close`](Self::close) cancels them and waits for the end.
///
/// # Errors
/// RPCs fail with a [`tonic::Status`]. Those that were never sent: UNAVAILABLE with the last real
/// error when nothing is connected, unless they [wait for ready](crate::WaitForReady);
/// DEADLINE_EXCEEDED when their deadline (`grpc-timeout`, or the service config's) passes, which
/// counts from the call on and ends a response also while nobody reads it; CANCELLED when the channel closes; RESOURCE_EXHAUSTED when too many
/// wait already; INTERNAL when the policy is broken; UNAUTHENTICATED when an RPC with
/// [call credentials](crate::CallCredentials) meets a connection that is not encrypted. A message
/// that is larger than the channel or the service config allows ends its RPC with
/// RESOURCE_EXHAUSTED.
///
/// # More than one attempt
/// As in gRFC A6; each attempt is a pick of its own, which knows where the ones before went.
///
/// - An RPC that never left is picked for again until its deadline; one that a server's library
///   refused unseen, once, if it is the first attempt. Nobody notices, and nothing has to be
///   configured.
/// - `retryPolicy` and `hedgingPolicy` of a method config hold with everything A6 says of them: at
///   most five attempts, jitter, `retryThrottling` (one count for the channel, which outlives
///   configs that say the same), `grpc-retry-pushback-ms`, `grpc-previous-rpc-attempts`, one
///   deadline for all attempts. When a policy drops an RPC there is no other attempt.
/// - An RPC is committed to an attempt when its response headers have come (a response that is only
///   a status does not count), and when its request is larger than is
///   [remembered](ChannelBuilder::replay_buffer). Nothing is buffered of responses.
/// - Beyond A6: a failure of the request's own body, and a message above a limit, is never tried
///   again. Hedges avoid where the other attempts are, if the policy does.
///
/// # Example
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use balancer_channel::Channel;
///
/// let channel = Channel::builder("dns:///greeter.prod:50051")
///     .plaintext()
///     .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
///     .build()?;
/// channel.connect().await?;
/// // let mut client = GreeterClient::new(channel.clone());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Channel {
    core: Core<TokioEnv>,
}

// === impl Channel ===

impl Channel {
    /// Starts to describe a channel to `target`; see [`Target`](crate::Target) for the forms.
    pub fn builder(target: impl Into<String>) -> ChannelBuilder {
        ChannelBuilder::new(target.into())
    }

    pub(crate) fn new(core: Core<TokioEnv>) -> Self {
        Self { core }
    }

    /// Connects now rather than with the first RPC.
    ///
    /// # Errors
    /// What an RPC would fail with, at the first TRANSIENT_FAILURE; CANCELLED when the channel is
    /// closed. It has no time limit of its own.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the channel connecting.
    pub async fn connect(&self) -> Result<(), tonic::Status> {
        let mut states = self.core.states();
        self.core.state(true);
        while let Some(state) = states.next().await {
            match state {
                ConnectivityState::Ready => return Ok(()),
                ConnectivityState::TransientFailure => return Err(self.failure()),
                ConnectivityState::Idle => self.core.connect(),
                ConnectivityState::Connecting | ConnectivityState::Shutdown => {}
            }
        }
        Err(self.failure())
    }

    /// The state; with `connect`, an idle channel starts to connect.
    pub fn state(&self, connect: bool) -> ConnectivityState {
        self.core.state(connect)
    }

    /// Waits until the state is another than `from`, and answers it.
    ///
    /// # Cancel safety
    /// Nothing is lost: asked again, it answers at once if the state has changed since.
    pub async fn wait_for_state_change(&self, from: ConnectivityState) -> ConnectivityState {
        let mut states = self.core.states();
        while let Some(state) = states.next().await {
            if state != from {
                return state;
            }
        }
        ConnectivityState::Shutdown
    }

    /// The states from now on, the current one first; none is skipped.
    pub fn states(&self) -> ConnectivityStates {
        self.core.states()
    }

    /// What the channel looks like now: policy, SubConns, errors. For people and logs.
    pub fn snapshot(&self) -> Snapshot {
        self.core.snapshot()
    }

    /// Gives up connections, policy and resolver until the next RPC or [`connect`](Self::connect).
    pub fn enter_idle(&self) {
        self.core.enter_idle();
    }

    /// Ends every running back-off, so that what is down is tried again at once: for a machine that
    /// has just found its network again.
    pub fn reset_backoff(&self) {
        self.core.reset_backoff();
    }

    /// Closes the channel: RPCs end with CANCELLED, those in flight too. Ends when no task and no
    /// socket of the channel is left. All clones are closed.
    ///
    /// # Cancel safety
    /// From the first poll on the channel closes, whether or not anybody waits for it. Called again, it
    /// waits for the same end.
    pub async fn close(&self) {
        self.core.close();
        let mut states = self.core.states();
        while let Some(state) = states.next().await {
            if state == ConnectivityState::Shutdown {
                break;
            }
        }
        self.end().await;
    }

    /// Closes the channel, but gives RPCs in flight `limit` to finish; then they end with CANCELLED. Ends
    /// when no task and no socket of the channel is left. [`close`](Self::close) shortens the wait.
    ///
    /// # Cancel safety
    /// From the first poll on the channel closes and `limit` runs, whether or not anybody waits for it.
    /// Called again, it waits for the same end; the first `limit` counts, or the later one if that is
    /// shorter.
    pub async fn close_gracefully(&self, limit: Duration) {
        self.core.close_gracefully(limit);
        let env = self.core.env();
        let late = env.sleep_until(env.now() + limit);
        // The tasks first: they end with their runtime, and its timers must not be polled then.
        if let Either::Right(_) = select(pin!(env.tasks_ended()), late).await {
            self.end().await;
        }
    }

    /// Ends what a closed channel has left: RPCs on connections that no SubConn has any more.
    async fn end(&self) {
        let status = Status::new(Code::Cancelled, "the channel is closing");
        self.core.env().abort_connections(&status);
        self.core.env().tasks_ended().await;
    }

    /// How many tasks the channel runs: its balancer, its resolver, one or two for each connection.
    /// For tests that look for leaks.
    pub fn task_count(&self) -> usize {
        self.core.env().task_count()
    }

    /// What an RPC would fail with now.
    fn failure(&self) -> tonic::Status {
        match self.core.current().pick(&PickOptions::new("/")) {
            PickOutcome::Fail(error) => status::of_pick(&error),
            PickOutcome::Closed(reason) => crate::transport::to_tonic(&reason),
            PickOutcome::Complete(_) | PickOutcome::Wait { .. } => {
                tonic::Status::unavailable("the connection failed")
            }
        }
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = tonic::Status;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tonic::Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> ResponseFuture {
        ResponseFuture::new(self.core.clone(), request)
    }
}
