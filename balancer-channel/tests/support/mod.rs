//! What the channel's tests share: a client without generated code, a policy that counts, a future
//! that is dropped on the way.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod counted;
pub(crate) mod cut;
pub(crate) mod drip;
pub(crate) mod harness;
pub(crate) mod pipes;
pub(crate) mod starved;

use balancer_channel::Channel;
use balancer_testpeer::{Answer, Backend, Response as Answers};
use http::uri::PathAndQuery;
use prost::Message;
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

/// The kinds of RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ServerStreaming,
    ClientStreaming,
    Bidirectional,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [
        Self::Unary,
        Self::ServerStreaming,
        Self::ClientStreaming,
        Self::Bidirectional,
    ];

    fn path(self) -> PathAndQuery {
        PathAndQuery::from_static(match self {
            Self::Unary => "/test.Echo/Unary",
            Self::ServerStreaming => "/test.Echo/Many",
            Self::ClientStreaming => "/test.Echo/Collect",
            Self::Bidirectional => "/test.Echo/Stream",
        })
    }
}

/// A backend for all kinds: one answer to a message, or as many as the kind wants.
pub(crate) fn of_all_kinds(name: &str) -> Backend {
    let one = text("one").encode_to_vec();
    let many = Answers::grpc().message(&one).message(&one).message(&one);
    let many = Answer::from(many.status(0, ""));
    let collected = Answer::ok(&one);
    Backend::new(name).answers(move |request| match request.path() {
        "/test.Echo/Many" => many.clone(),
        "/test.Echo/Collect" => collected.clone(),
        _ => Answer::Echo,
    })
}

/// An RPC of a kind from its first poll to its end; what is streamed is three times `message`.
pub(crate) async fn rpc(channel: &Channel, kind: Kind, message: &Text) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await?;
    let codec = ProstCodec::<Text, Text>::default();
    let (path, message) = (kind.path(), message.clone());
    let three = tokio_stream::iter([message.clone(), message.clone(), message.clone()]);
    let mut answers = match kind {
        Kind::Unary => {
            client.unary(message.into_request(), path, codec).await?;
            return Ok(());
        }
        Kind::ClientStreaming => {
            client
                .client_streaming(tonic::Request::new(three), path, codec)
                .await?;
            return Ok(());
        }
        Kind::ServerStreaming => {
            let request = message.into_request();
            client.server_streaming(request, path, codec).await?
        }
        Kind::Bidirectional => {
            let request = tonic::Request::new(three);
            client.streaming(request, path, codec).await?
        }
    }
    .into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

/// A unary RPC whose answer is not looked into: peers by hand do not say it in protobuf. Waits for a
/// connection.
pub(crate) async fn any_answer(channel: &Channel) -> Result<Vec<u8>, Status> {
    let one = text("hello").encode_to_vec();
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(one.len()).expect("short").to_be_bytes());
    message.extend_from_slice(&one);
    let body = tonic::body::Body::new(http_body_util::Full::new(message.into()));
    let request = http::Request::post("/test.Echo/Unary")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .extension(balancer_channel::WaitForReady(true))
        .body(body)
        .expect("a request");
    let response = tower::ServiceExt::oneshot(channel.clone(), request).await?;
    let body = http_body_util::BodyExt::collect(response.into_body()).await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    match Status::from_header_map(&trailers) {
        Some(status) if status.code() != tonic::Code::Ok => Err(status),
        _ => Ok(body.to_bytes().to_vec()),
    }
}
