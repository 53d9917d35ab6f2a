//! A floor: gRPC's frames on hyper's client by hand, without tonic.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Status;

use super::{frame, head};
use crate::{
    caller::{Caller, Error},
    echo::Payload,
};

/// Round robin over connections.
#[derive(Clone)]
pub struct RawHyper(Arc<Inner>);

struct Inner {
    handles: Vec<(SendRequest<Full<Bytes>>, http::Request<()>)>,
    next: AtomicUsize,
}

/// One connection, with the windows of `direct_h2`.
///
/// # Errors
/// It fails.
pub(super) async fn connection<B>(address: &str) -> Result<SendRequest<B>, Error>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Error>,
{
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (handle, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 21)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    Ok(handle)
}

// === impl RawHyper ===

impl RawHyper {
    /// Connects to every address.
    ///
    /// # Errors
    /// A connection fails.
    pub async fn connect(addresses: &[String]) -> Result<Self, Error> {
        let mut handles = Vec::new();
        for address in addresses {
            handles.push((connection(address).await?, head(address)?));
        }
        let next = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner { handles, next })))
    }

    async fn echo(&self, payload: Payload) -> Result<Payload, Error> {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (handle, head) = &self.0.handles[turn % self.0.handles.len()];
        let request = head.clone().map(|()| Full::new(frame(&payload)));
        let response = handle.clone().send_request(request).await?;
        let body = response.into_body().collect().await?;
        let trailers = body.trailers().ok_or("no trailers")?;
        if trailers.get("grpc-status").is_none_or(|code| code != "0") {
            return Err("the RPC failed".into());
        }
        let mut answer = body.to_bytes();
        if answer.len() < super::PREFIX {
            return Err("no message".into());
        }
        answer.advance(super::PREFIX);
        Ok(Payload::decode(answer)?)
    }
}

impl Caller for RawHyper {
    async fn unary(&mut self, payload: Payload) -> Result<Payload, Status> {
        let answer = self.echo(payload).await;
        answer.map_err(|error| Status::unknown(error.to_string()))
    }
}

impl std::fmt::Debug for RawHyper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawHyper({})", self.0.handles.len())
    }
}
