//! This workspace's channel on `round_robin`.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use balancer_channel::{Channel, TlsConfig};
use http::HeaderValue;
use tonic::body::Body;
use tower_service::Service;

use super::{Backends, SERVER_NAME};
use crate::caller::Error;

/// Longer than any RPC takes, so that only having a deadline is measured.
const TIMEOUT: HeaderValue = HeaderValue::from_static("30S");

/// A channel whose RPCs have a deadline. A type of its own: had it tonic's client in common with the
/// channel itself, the compiler would make that a function that is called where it was none.
#[derive(Clone, Debug)]
pub struct WithDeadline(Channel);

/// A channel to all backends, connected, with a deadline for each RPC.
///
/// # Errors
/// The channel cannot be built or connected.
pub async fn with_deadline(backends: &Backends) -> Result<WithDeadline, Error> {
    Ok(WithDeadline(connect(backends).await?))
}

/// A channel to all backends, connected.
///
/// # Errors
/// The channel cannot be built or connected.
pub async fn connect(backends: &Backends) -> Result<Channel, Error> {
    let channel = Channel::builder(format!("ipv4:{}", backends.addresses.join(",")))
        .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
        .warm_up(Duration::from_secs(10));
    let channel = match &backends.ca {
        None => channel.plaintext(),
        Some(ca) => {
            let trusted = TlsConfig::new().ca_certificates_pem(ca.clone());
            channel.tls(trusted).authority(SERVER_NAME)
        }
    };
    let channel = channel.build()?;
    channel.connect().await?;
    Ok(channel)
}

// === impl WithDeadline ===

impl Service<http::Request<Body>> for WithDeadline {
    type Response = <Channel as Service<http::Request<Body>>>::Response;
    type Error = <Channel as Service<http::Request<Body>>>::Error;
    type Future = <Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.headers_mut().insert("grpc-timeout", TIMEOUT);
        self.0.call(request)
    }
}
