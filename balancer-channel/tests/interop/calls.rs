//! What a generated client of `interop.Test` would have: messages are `google.protobuf.BytesValue`.

use balancer_channel::Channel;
use http::uri::PathAndQuery;
use tonic::{
    IntoRequest, Response, Status, Streaming, client::Grpc, codec::CompressionEncoding,
    codegen::tokio_stream::Stream,
};
use tonic_prost::ProstCodec;

/// A client of the service.
#[derive(Clone, Debug)]
pub(crate) struct Client(Grpc<Channel>);

type Codec = ProstCodec<Vec<u8>, Vec<u8>>;

// === impl Client ===

impl Client {
    pub(crate) fn new(channel: &Channel) -> Self {
        let grpc = Grpc::new(channel.clone());
        Self(grpc.max_decoding_message_size(usize::MAX))
    }

    /// Sends compressed messages, and says that it reads them.
    pub(crate) fn compressed(channel: &Channel) -> Self {
        let Self(grpc) = Self::new(channel);
        Self(
            grpc.send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip),
        )
    }

    pub(crate) async fn unary(
        &self,
        method: &str,
        request: impl IntoRequest<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Status> {
        let mut grpc = self.ready().await?;
        grpc.unary(request.into_request(), path(method), Codec::default())
            .await
    }

    pub(crate) async fn client_stream(
        &self,
        method: &str,
        messages: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<Response<Vec<u8>>, Status> {
        let mut grpc = self.ready().await?;
        grpc.client_streaming(
            tonic::Request::new(messages),
            path(method),
            Codec::default(),
        )
        .await
    }

    pub(crate) async fn server_stream(
        &self,
        method: &str,
        request: impl IntoRequest<Vec<u8>>,
    ) -> Result<Response<Streaming<Vec<u8>>>, Status> {
        let mut grpc = self.ready().await?;
        grpc.server_streaming(request.into_request(), path(method), Codec::default())
            .await
    }

    pub(crate) async fn bidi(
        &self,
        method: &str,
        messages: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<Response<Streaming<Vec<u8>>>, Status> {
        let mut grpc = self.ready().await?;
        grpc.streaming(
            tonic::Request::new(messages),
            path(method),
            Codec::default(),
        )
        .await
    }

    /// For methods of other services.
    pub(crate) fn grpc(&self) -> Grpc<Channel> {
        self.0.clone()
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await?;
        Ok(grpc)
    }
}

fn path(method: &str) -> PathAndQuery {
    let path = format!("/interop.Test/{method}");
    path.try_into().expect("a method's name is a path")
}

/// All messages of a stream.
pub(crate) async fn all(mut stream: Streaming<Vec<u8>>) -> Result<Vec<Vec<u8>>, Status> {
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}
