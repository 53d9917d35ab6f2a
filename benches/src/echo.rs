//! The service that everybody calls: answers what it is sent.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, NamedService, StreamingService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// The unary method.
pub const UNARY: &str = "/bench.Echo/Unary";

/// The method with a stream either way.
pub const STREAM: &str = "/bench.Echo/Stream";

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

struct Stream;

/// The path of the unary method.
pub fn unary_path() -> PathAndQuery {
    PathAndQuery::from_static(UNARY)
}

/// The path of the method with streams.
pub fn stream_path() -> PathAndQuery {
    PathAndQuery::from_static(STREAM)
}

/// The codec of either side.
pub fn codec() -> ProstCodec<Payload, Payload> {
    ProstCodec::default()
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
            let mut grpc = Grpc::new(codec());
            Ok(match request.uri().path() {
                STREAM => grpc.streaming(Stream, request).await,
                _ => grpc.unary(Unary, request).await,
            })
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

impl StreamingService<Payload> for Stream {
    type Response = Payload;
    type ResponseStream = Streaming<Payload>;
    type Future = std::future::Ready<Result<Response<Streaming<Payload>>, Status>>;

    fn call(&mut self, request: Request<Streaming<Payload>>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}
