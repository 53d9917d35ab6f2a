//! The service that everybody calls: answers what it is sent.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use tonic::{
    Request, Response, Status,
    body::Body,
    client::GrpcService,
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// A message with a payload.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// The payload.
    #[prost(bytes = "bytes", tag = "1")]
    pub bytes: bytes::Bytes,
}

/// The server's side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

struct Unary;

/// Calls the service once.
///
/// # Errors
/// The RPC's.
pub async fn call<S>(
    client: &mut tonic::client::Grpc<S>,
    payload: Payload,
) -> Result<Payload, Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    client
        .ready()
        .await
        .map_err(|error| Status::unknown(error.into().to_string()))?;
    let path = PathAndQuery::from_static("/bench.Echo/Unary");
    let codec = ProstCodec::<Payload, Payload>::default();
    Ok(client
        .unary(Request::new(payload), path, codec)
        .await?
        .into_inner())
}

// === impl Echo ===

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Payload, Payload>::default());
            Ok(grpc.unary(Unary, request).await)
        })
    }
}

impl UnaryService<Payload> for Unary {
    type Response = Payload;
    type Future = std::future::Ready<Result<Response<Payload>, Status>>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}
