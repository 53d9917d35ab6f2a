//! What the load drives: whoever can echo.

use std::future::Future;

use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tonic::{
    Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
};

use crate::echo::{self, Payload};

/// Why a contender cannot be had.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A contender, connected. Each of the load's tasks has its own clone.
pub trait Caller: Clone + Send + 'static {
    /// One unary RPC.
    fn unary(&mut self, payload: Payload) -> impl Future<Output = Result<Payload, Status>> + Send;

    /// Opens an RPC whose messages go both ways.
    fn open(&mut self) -> impl Future<Output = Result<Conversation, Status>> + Send {
        std::future::ready(Err(Status::unimplemented("this contender does not stream")))
    }
}

/// Both directions of an open RPC.
pub struct Conversation {
    /// What is to be sent.
    pub send: mpsc::Sender<Payload>,
    /// What comes back.
    pub receive: BoxStream<'static, Result<Payload, Status>>,
}

/// A service under tonic's client.
#[derive(Clone)]
pub struct Tonic<S>(Grpc<S>);

// === impl Conversation ===

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conversation")
    }
}

// === impl Tonic ===

impl<S> Tonic<S> {
    /// Puts tonic's client on a service.
    pub fn new(service: S) -> Self {
        Self(Grpc::new(service))
    }
}

impl<S> std::fmt::Debug for Tonic<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tonic")
    }
}

impl<S> Caller for Tonic<S>
where
    S: GrpcService<Body> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<Error> + Send,
{
    async fn unary(&mut self, payload: Payload) -> Result<Payload, Status> {
        ready(&mut self.0).await?;
        let request = Request::new(payload);
        let answer = self.0.unary(request, echo::unary_path(), echo::codec());
        Ok(answer.await?.into_inner())
    }

    async fn open(&mut self) -> Result<Conversation, Status> {
        ready(&mut self.0).await?;
        // One message at a time is under way.
        let (send, messages) = mpsc::channel(1);
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        let request = Request::new(messages);
        let answer = self
            .0
            .streaming(request, echo::stream_path(), echo::codec());
        Ok(Conversation {
            send,
            receive: Box::pin(answer.await?.into_inner()),
        })
    }
}

async fn ready<S>(client: &mut Grpc<S>) -> Result<(), Status>
where
    S: GrpcService<Body>,
{
    let ready = client.ready().await;
    ready.map_err(|error| Status::unknown(error.into().to_string()))
}
