//! tonic's own `Channel`: to one endpoint, and `balance_list`.

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::{Backends, SERVER_NAME};
use crate::caller::Error;

/// A channel to the first of the backends.
///
/// # Errors
/// It cannot be connected.
pub async fn single(backends: &Backends) -> Result<Channel, Error> {
    let first = endpoints(backends)?.next().ok_or("no backend")?;
    Ok(first?.connect().await?)
}

/// A channel to all of them.
///
/// # Errors
/// An address is malformed.
pub fn balance(backends: &Backends) -> Result<Channel, Error> {
    let endpoints: Result<Vec<_>, _> = endpoints(backends)?.collect();
    Ok(Channel::balance_list(endpoints?.into_iter()))
}

fn endpoints(
    backends: &Backends,
) -> Result<impl Iterator<Item = Result<Endpoint, Error>> + '_, Error> {
    let tls = backends.ca.as_ref().map(|ca| {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .domain_name(SERVER_NAME)
    });
    Ok(backends.addresses.iter().map(move |address| {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?.tcp_nodelay(true);
        Ok(match &tls {
            Some(tls) => endpoint.tls_config(tls.clone())?,
            None => endpoint,
        })
    }))
}
