//! The floor: tonic's client on the barest `h2` service.
//!
//! No state machine, no reconnect, no deadline, no accounting: an atomic round robin over `h2`
//! handles, a unary body sent inline from `call`, a named future. What a channel costs is measured
//! against this, in the same run. Frozen: a change needs its own before and after.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::uri::{Authority, Scheme};
use http_body::{Body as _, Frame};
use tokio::net::TcpStream;
use tonic::{Status, body::Body};
use tower_service::Service;

/// Round robin over connections.
#[derive(Clone)]
pub struct DirectH2(Arc<Inner>);

struct Inner {
    handles: Vec<(SendRequest<Bytes>, Authority)>,
    next: AtomicUsize,
}

/// An RPC on its way.
pub struct ResponseFuture(Result<h2::client::ResponseFuture, Option<Status>>);

/// What comes of it.
pub struct ResponseBody {
    recv: RecvStream,
    data_ended: bool,
}

// === impl DirectH2 ===

impl DirectH2 {
    /// Connects to every address.
    ///
    /// # Errors
    /// A connection fails.
    pub async fn connect(
        addresses: &[String],
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut handles = Vec::new();
        for address in addresses {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (handle, connection) = h2::client::Builder::new()
                .enable_push(false)
                .initial_window_size(1 << 20)
                .initial_connection_window_size(1 << 21)
                .handshake::<_, Bytes>(stream)
                .await?;
            tokio::spawn(connection);
            let handle = handle.ready().await?;
            handles.push((handle, address.parse()?));
        }
        Ok(Self(Arc::new(Inner {
            handles,
            next: AtomicUsize::new(0),
        })))
    }
}

impl Service<http::Request<Body>> for DirectH2 {
    type Response = http::Response<ResponseBody>;
    type Error = Status;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> ResponseFuture {
        ResponseFuture(self.send(request).map_err(Some))
    }
}

impl DirectH2 {
    fn send(&self, request: http::Request<Body>) -> Result<h2::client::ResponseFuture, Status> {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (handle, authority) = &self.0.handles[turn % self.0.handles.len()];
        let (mut parts, mut body) = request.into_parts();
        let mut uri = parts.uri.into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority.clone());
        parts.uri = http::Uri::from_parts(uri).map_err(|e| Status::internal(e.to_string()))?;
        parts.version = http::Version::HTTP_2;
        let head = http::Request::from_parts(parts, ());
        let mut handle = handle.clone();
        let failed = |error: h2::Error| Status::unavailable(error.to_string());
        let (response, mut stream) = handle.send_request(head, false).map_err(failed)?;
        // A unary body is all there: it needs nobody to wake it.
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            if let Ok(data) = frame?.into_data() {
                let end = body.is_end_stream();
                stream.send_data(data, end).map_err(failed)?;
                if end {
                    return Ok(response);
                }
            }
        }
        stream.send_data(Bytes::new(), true).map_err(failed)?;
        Ok(response)
    }
}

impl std::fmt::Debug for DirectH2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DirectH2({})", self.0.handles.len())
    }
}

// === impl ResponseFuture ===

impl Future for ResponseFuture {
    type Output = Result<http::Response<ResponseBody>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(response) => {
                let response = ready!(Pin::new(response).poll(cx));
                let response = response.map_err(|error| Status::unavailable(error.to_string()))?;
                Poll::Ready(Ok(response.map(|recv| ResponseBody {
                    recv,
                    data_ended: false,
                })))
            }
            Err(status) => {
                let status = status.take();
                Poll::Ready(Err(
                    status.unwrap_or_else(|| Status::internal("polled twice"))
                ))
            }
        }
    }
}

impl std::fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}

// === impl ResponseBody ===

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseBody")
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let failed = |error: h2::Error| Status::unavailable(error.to_string());
        if !self.data_ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    let length = data.len();
                    let released = self.recv.flow_control().release_capacity(length);
                    released.map_err(failed)?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(failed(error)))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.recv.poll_trailers(cx)).map_err(failed)?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
