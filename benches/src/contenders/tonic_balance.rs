//! tonic's own `Channel::balance_list`.

use tonic::transport::{Channel, Endpoint};

/// A channel to `addresses`.
///
/// # Errors
/// An address is malformed.
pub fn connect(addresses: &[String]) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    let endpoints: Result<Vec<Endpoint>, _> = addresses
        .iter()
        .map(|address| Endpoint::from_shared(format!("http://{address}")))
        .map(|endpoint| endpoint.map(|endpoint| endpoint.tcp_nodelay(true)))
        .collect();
    Ok(Channel::balance_list(endpoints?.into_iter()))
}
