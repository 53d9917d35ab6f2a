//! A floor: gRPC's frames on `h2` by hand, without tonic.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Status;

use super::{PREFIX, frame, head};
use crate::{
    caller::{Caller, Error},
    echo::Payload,
};

/// Round robin over connections.
#[derive(Clone)]
pub struct RawH2(Arc<Inner>);

struct Inner {
    handles: Vec<(SendRequest<Bytes>, http::Request<()>)>,
    next: AtomicUsize,
}

/// What the prefix says, with itself.
fn frame_length(start: &[u8]) -> usize {
    let length = start.get(1..PREFIX).and_then(|bytes| bytes.try_into().ok());
    PREFIX + length.map_or(0, |bytes| u32::from_be_bytes(bytes) as usize)
}

/// One connection, with the windows of `direct_h2`.
///
/// # Errors
/// It fails.
pub async fn connect(address: &str) -> Result<SendRequest<Bytes>, Error> {
    let (handle, connection) = open(address, usize::MAX).await?;
    tokio::spawn(connection);
    Ok(handle.ready().await?)
}

/// One connection whose peer has sent its SETTINGS.
///
/// # Errors
/// It fails.
pub async fn connect_settled(address: &str) -> Result<SendRequest<Bytes>, Error> {
    // What `h2` takes for the peer's limit before it was told, and no server says.
    let unknown = 12_345;
    let (handle, mut connection) = open(address, unknown).await?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err("the connection was closed".into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(Error::from(error))),
        Poll::Pending if connection.max_concurrent_send_streams() != unknown => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn open(
    address: &str,
    streams: usize,
) -> Result<(SendRequest<Bytes>, Connection<TcpStream, Bytes>), Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let opened = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 21)
        .initial_max_send_streams(streams)
        .handshake(stream)
        .await?;
    Ok(opened)
}

// === impl RawH2 ===

impl RawH2 {
    /// Connects to every address, with the windows of `direct_h2`.
    ///
    /// # Errors
    /// A connection fails.
    pub async fn connect(addresses: &[String]) -> Result<Self, Error> {
        let mut handles = Vec::new();
        for address in addresses {
            handles.push((connect(address).await?, head(address)?));
        }
        let next = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner { handles, next })))
    }

    async fn echo(&self, payload: Payload) -> Result<Payload, Error> {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (handle, head) = &self.0.handles[turn % self.0.handles.len()];
        let (response, mut stream) = handle.clone().send_request(head.clone(), false)?;
        stream.send_data(frame(&payload), true)?;
        let mut body = response.await?.into_body();
        // One message comes in one piece, or in several when it is large.
        let (mut answer, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(data) = poll_fn(|cx| Pin::new(&mut body).poll_data(cx)).await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            if answer.is_empty() {
                answer = data;
            } else {
                if rest.is_empty() {
                    rest.reserve(frame_length(&answer));
                    rest.extend_from_slice(&answer);
                }
                rest.extend_from_slice(&data);
            }
        }
        if !rest.is_empty() {
            answer = rest.freeze();
        }
        let trailers = body.trailers().await?.ok_or("no trailers")?;
        if trailers.get("grpc-status").is_none_or(|code| code != "0") {
            return Err("the RPC failed".into());
        }
        if answer.len() < PREFIX {
            return Err("no message".into());
        }
        answer.advance(PREFIX);
        Ok(Payload::decode(answer)?)
    }
}

impl Caller for RawH2 {
    async fn unary(&mut self, payload: Payload) -> Result<Payload, Status> {
        let answer = self.echo(payload).await;
        answer.map_err(|error| Status::unknown(error.to_string()))
    }
}

impl std::fmt::Debug for RawH2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawH2({})", self.0.handles.len())
    }
}
