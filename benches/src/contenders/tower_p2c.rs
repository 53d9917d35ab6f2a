//! tower's power of two choices, in the `Buffer` that makes it `Clone`: as tonic builds its own, but
//! with a load to choose by, which tonic's has not.

use tonic::{body::Body, transport::Channel};
use tower::{
    BoxError,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequests},
};
use tower_service::Service;

use super::{Backends, direct_h2::DirectH2, tonic_channel};
use crate::caller::Error;

/// What tonic has for a buffer.
const BUFFER: usize = 1024;

type Request = http::Request<Body>;
type Balanced<S> = Balance<ServiceList<Vec<PendingRequests<S>>>, Request>;

/// The service, over what carries the RPCs.
pub type TowerP2c<S> = Buffer<Request, <Balanced<S> as Service<Request>>::Future>;

/// Over tonic's channels, one for each backend: what its users have.
///
/// # Errors
/// A connection fails.
pub async fn over_channels(backends: &Backends) -> Result<TowerP2c<Channel>, Error> {
    let mut services = Vec::new();
    for address in &backends.addresses {
        let one = Backends {
            addresses: vec![address.clone()],
            ca: backends.ca.clone(),
        };
        services.push(tonic_channel::single(&one).await?);
    }
    Ok(balanced(services))
}

/// Over the floor's connections: the choice alone, on a transport that nobody can have.
///
/// # Errors
/// A connection fails.
pub async fn over_floor(addresses: &[String]) -> Result<TowerP2c<DirectH2>, Error> {
    let mut services = Vec::new();
    for address in addresses {
        services.push(DirectH2::connect(std::slice::from_ref(address)).await?);
    }
    Ok(balanced(services))
}

fn balanced<S>(services: Vec<S>) -> TowerP2c<S>
where
    S: Service<Request, Error: Into<BoxError> + Send, Future: Send> + Send + 'static,
{
    let counted = |service| PendingRequests::new(service, CompleteOnResponse::default());
    let services = services.into_iter().map(counted).collect();
    let balanced: Balanced<S> = Balance::new(ServiceList::new(services));
    Buffer::new(balanced, BUFFER)
}
