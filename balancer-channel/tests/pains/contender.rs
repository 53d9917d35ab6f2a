//! Who carries the load: this channel, or tonic's own balanced one.

use std::{net::SocketAddr, time::Duration};

use balancer_api::ConnectivityState;
use balancer_channel::{Channel, WaitForReady};
use http::uri::PathAndQuery;
use tonic::{
    Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
    codegen::{Body as HttpBody, StdError},
    transport,
};
use tonic_prost::ProstCodec;

/// The service config of every scenario.
pub(crate) const ROUND_ROBIN: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

/// Who carries the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// `balancer_channel::Channel` on `round_robin`.
    Balancer,
    /// `tonic::transport::Channel::balance_list`.
    BalanceList,
}

/// A channel under load. Clones share it.
#[derive(Clone)]
pub(crate) enum Client {
    Balancer(Channel),
    Tonic(transport::Channel),
}

// === impl Contender ===

impl Contender {
    /// A channel to fixed addresses.
    pub(crate) fn to(self, addresses: &[SocketAddr]) -> Client {
        self.make(addresses, None)
    }

    /// The same; ours holds its first RPCs so long at most.
    pub(crate) fn warmed_up(self, addresses: &[SocketAddr], wait: Duration) -> Client {
        self.make(addresses, Some(wait))
    }

    fn make(self, addresses: &[SocketAddr], warm_up: Option<Duration>) -> Client {
        match self {
            Self::Balancer => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let mut builder = Channel::builder(format!("ipv4:{}", list.join(",")))
                    .plaintext()
                    .default_service_config(ROUND_ROBIN);
                if let Some(wait) = warm_up {
                    builder = builder.warm_up(wait);
                }
                Client::Balancer(builder.build().expect("a channel"))
            }
            Self::BalanceList => {
                let endpoints = addresses.iter().map(|address| endpoint(*address));
                Client::Tonic(transport::Channel::balance_list(endpoints))
            }
        }
    }
}

/// tonic's name for an address.
pub(crate) fn endpoint(address: SocketAddr) -> transport::Endpoint {
    transport::Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI")
}

// === impl Client ===

impl Client {
    /// One unary RPC; answers which backend served it.
    pub(crate) async fn call(&self) -> Result<String, Status> {
        self.send(Request::new("hello".to_owned())).await
    }

    /// One unary RPC that waits for a connection. tonic has no such thing: there it is an ordinary
    /// one.
    pub(crate) async fn call_waiting(&self) -> Result<String, Status> {
        let mut request = Request::new("hello".to_owned());
        request.extensions_mut().insert(WaitForReady(true));
        self.send(request).await
    }

    /// Waits until the channel has seen that its last connection is lost: an RPC sent before that
    /// ends with the connection's own error. tonic does not tell.
    pub(crate) async fn noticed(&self) {
        if let Self::Balancer(channel) = self {
            channel
                .wait_for_state_change(ConnectivityState::Ready)
                .await;
        }
    }

    /// Ends the channel; for ours, proves that nothing of it is left.
    pub(crate) async fn end(self) {
        if let Self::Balancer(channel) = self {
            channel.close().await;
            assert_eq!(
                channel.task_count(),
                0,
                "a closed channel must leave no task"
            );
        }
    }

    async fn send(&self, request: Request<String>) -> Result<String, Status> {
        match self {
            Self::Balancer(channel) => unary(channel.clone(), request).await,
            Self::Tonic(channel) => unary(channel.clone(), request).await,
        }
    }
}

/// What a generated client does for a unary method, with `google.protobuf.StringValue` both ways.
async fn unary<S>(service: S, request: Request<String>) -> Result<String, Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: HttpBody + Send + 'static,
    <S::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let mut client = Grpc::new(service);
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.into().to_string()))?;
    let path = PathAndQuery::from_static("/pains.Echo/Unary");
    let codec = ProstCodec::<String, String>::default();
    let response = client.unary(request, path, codec).await?;
    let name = response.metadata().get("x-backend");
    let name = name.and_then(|name| name.to_str().ok());
    Ok(name.expect("a backend names itself").to_owned())
}
