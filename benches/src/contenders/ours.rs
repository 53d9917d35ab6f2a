//! This workspace's channel on `round_robin`.

use std::time::Duration;

use balancer_channel::{Channel, TlsConfig};

use super::{Backends, SERVER_NAME};
use crate::caller::Error;

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
