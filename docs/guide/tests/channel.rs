//! Step 9: RPCs of a tonic client, balanced by the policy.

use std::sync::Arc;

use balancer_channel::Channel;
use balancer_guide::cautious;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_tonic_client_is_balanced_by_it() -> Result<(), Box<dyn std::error::Error>> {
    let servers = [serve()?, serve()?];
    let channel = Channel::builder(format!("ipv4:{}", servers.join(",")))
        .plaintext()
        .policy(Arc::new(cautious::builder()))
        .default_service_config(r#"{"loadBalancingConfig":[{"cautious":{}}]}"#)
        .build()?;
    let mut client = HealthClient::new(channel);

    for _ in 0..20 {
        client.check(HealthCheckRequest::default()).await?;
    }
    Ok(())
}

/// Starts a server of gRPC's health service on a free port, and answers where it is.
fn serve() -> Result<String, Box<dyn std::error::Error>> {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?;
    let address = incoming.local_addr()?.to_string();
    let (_, health) = tonic_health::server::health_reporter();
    tokio::spawn(
        Server::builder()
            .add_service(health)
            .serve_with_incoming(incoming),
    );
    Ok(address)
}
