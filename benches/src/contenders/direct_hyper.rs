//! A floor: tonic's client straight on hyper's connections, and an atomic round robin.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use http::uri::{Authority, Scheme};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use tonic::body::Body;
use tower_service::Service;

use super::raw_hyper::connection;
use crate::caller::Error;

/// Round robin over connections.
#[derive(Clone)]
pub struct DirectHyper(Arc<Inner>);

struct Inner {
    handles: Vec<(SendRequest<Body>, Authority)>,
    next: AtomicUsize,
}

// === impl DirectHyper ===

impl DirectHyper {
    /// Connects to every address.
    ///
    /// # Errors
    /// A connection fails.
    pub async fn connect(addresses: &[String]) -> Result<Self, Error> {
        let mut handles = Vec::new();
        for address in addresses {
            handles.push((connection(address).await?, address.parse()?));
        }
        let next = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner { handles, next })))
    }
}

impl Service<http::Request<Body>> for DirectHyper {
    type Response = http::Response<Incoming>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (handle, authority) = &self.0.handles[turn % self.0.handles.len()];
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority.clone());
        match http::Uri::from_parts(uri) {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => return std::future::ready(Err(error.into())).boxed(),
        }
        let response = handle.clone().send_request(request);
        Box::pin(response.map(|result| result.map_err(Error::from)))
    }
}

impl std::fmt::Debug for DirectHyper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DirectHyper({})", self.0.handles.len())
    }
}
