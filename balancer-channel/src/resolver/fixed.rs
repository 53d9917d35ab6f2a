//! Endpoints that the target names itself.

use std::time::Duration;

use balancer_api::{Endpoint, ResolveError};
use balancer_channel_core::{BoxFuture, Resolution, Resolver};

/// Always the same endpoints.
#[derive(Debug)]
pub(crate) struct FixedResolver(pub(crate) Vec<Endpoint>);

impl Resolver for FixedResolver {
    fn resolve(&self) -> BoxFuture<Result<Resolution, ResolveError>> {
        let resolution = Resolution::new(self.0.iter().cloned());
        Box::pin(std::future::ready(Ok(resolution)))
    }

    fn min_interval(&self) -> Option<Duration> {
        // Asking again brings nothing new; never mind how often somebody asks.
        Some(Duration::from_secs(30))
    }
}
