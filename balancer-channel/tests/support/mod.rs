//! What the channel's tests share: a unary client without generated code.

#![allow(dead_code, reason = "each test binary uses its own part")]

use balancer_channel::Channel;
use http::uri::PathAndQuery;
use tonic::{IntoRequest, Response, Status, client::Grpc};
use tonic_prost::ProstCodec;

/// A message of one field.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Text {
    /// The text.
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

/// Calls a unary method that answers what it is sent.
pub(crate) async fn echo(
    channel: &Channel,
    request: impl IntoRequest<Text>,
) -> Result<Response<Text>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await?;
    let path = PathAndQuery::from_static("/test.Echo/Unary");
    client
        .unary(
            request.into_request(),
            path,
            ProstCodec::<Text, Text>::default(),
        )
        .await
}

/// Which backend answered.
pub(crate) fn backend<T>(response: &Response<T>) -> String {
    let name = response
        .metadata()
        .get("x-backend")
        .expect("a backend says who it is");
    name.to_str().expect("a name is text").to_owned()
}

/// A message.
pub(crate) fn text(text: &str) -> Text {
    Text {
        text: text.to_owned(),
    }
}

/// Streams messages to a method that answers each, and collects the answers.
pub(crate) async fn echo_stream(
    channel: &Channel,
    messages: tokio::sync::mpsc::UnboundedReceiver<Text>,
) -> Result<Vec<String>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await?;
    let messages = tokio_stream::wrappers::UnboundedReceiverStream::new(messages);
    let path = PathAndQuery::from_static("/test.Echo/Stream");
    let codec = ProstCodec::<Text, Text>::default();
    let request = tonic::Request::new(messages);
    let mut answers = client.streaming(request, path, codec).await?.into_inner();
    let mut words = Vec::new();
    while let Some(answer) = answers.message().await? {
        words.push(answer.text);
    }
    Ok(words)
}
