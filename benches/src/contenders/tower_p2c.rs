//! tower's power of two choices over `direct_h2` connections, in the `Buffer` that makes it `Clone`:
//! as tonic builds its own, on the floor's transport.

use tonic::body::Body;
use tower::{
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequests},
};
use tower_service::Service;

use super::direct_h2::DirectH2;
use crate::caller::Error;

/// What tonic has for a buffer.
const BUFFER: usize = 1024;

type Request = http::Request<Body>;
type Balanced = Balance<ServiceList<Vec<PendingRequests<DirectH2>>>, Request>;

/// The service.
pub type TowerP2c = Buffer<Request, <Balanced as Service<Request>>::Future>;

/// Connects to every address.
///
/// # Errors
/// A connection fails.
pub async fn connect(addresses: &[String]) -> Result<TowerP2c, Error> {
    let mut services = Vec::new();
    for address in addresses {
        let one = DirectH2::connect(std::slice::from_ref(address)).await?;
        services.push(PendingRequests::new(one, CompleteOnResponse::default()));
    }
    Ok(Buffer::new(
        Balance::new(ServiceList::new(services)),
        BUFFER,
    ))
}
