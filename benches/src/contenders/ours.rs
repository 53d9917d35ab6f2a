//! This workspace's channel on `round_robin`.

use std::time::Duration;

use balancer_channel::Channel;

/// A channel to `addresses`, with all of them connected.
///
/// # Errors
/// The channel cannot be built or connected.
pub async fn connect(
    addresses: &[String],
) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    let channel = Channel::builder(format!("ipv4:{}", addresses.join(",")))
        .plaintext()
        .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
        .warm_up(Duration::from_secs(10))
        .build()?;
    channel.connect().await?;
    Ok(channel)
}
