//! Moving from tonic's `Channel::balance_list`: before and after. Only the channel changes; the
//! generated client and all that is called on it stay.
//!
//! `cargo run -p balancer-channel --example moving_from_balance_list`

#[path = "greeter/mod.rs"]
mod greeter;

use std::time::Duration;

use greeter::{Greetings, pb::helloworld::greeter_client::GreeterClient};

/// How many greetings each asks for.
pub(crate) const COUNT: usize = 300;

/// Before: the list is fixed, each RPC takes a random endpoint, and one that is down fails its
/// share of them.
pub(crate) async fn before(addresses: &[String]) -> Result<Greetings, Box<dyn std::error::Error>> {
    use tonic::transport::{Channel, Endpoint};

    let mut endpoints = Vec::new();
    for address in addresses {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        endpoints.push(endpoint.timeout(Duration::from_secs(5)));
    }
    let channel = Channel::balance_list(endpoints.into_iter());

    let mut client = GreeterClient::new(channel);
    Ok(greeter::greet(&mut client, COUNT, |_, _| {}).await?)
}

/// After: RPCs go round the endpoints that are connected.
pub(crate) async fn after(addresses: &[String]) -> Result<Greetings, Box<dyn std::error::Error>> {
    use balancer_channel::Channel;

    let channel = Channel::builder(format!("ipv4:{}", addresses.join(",")))
        // `http://` said it by the way; here it is a decision.
        .plaintext()
        .default_service_config(
            // What `Endpoint::timeout` was is a method's config, here of all methods.
            r#"{
                "loadBalancingConfig": [{"round_robin": {}}],
                "methodConfig": [{"name": [{}], "timeout": "5s"}]
            }"#,
        )
        .build()?;

    let mut client = GreeterClient::new(channel);
    Ok(greeter::greet(&mut client, COUNT, |_, _| {}).await?)
}

/// Both, against the same servers.
pub(crate) async fn run() -> Result<[Greetings; 2], Box<dyn std::error::Error>> {
    let servers = greeter::start(3).await?;
    let addresses: Vec<String> = servers.iter().map(|s| s.address.to_string()).collect();
    Ok([before(&addresses).await?, after(&addresses).await?])
}

#[tokio::main]
#[allow(dead_code, reason = "the test runs `run`")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [before, after] = run().await?;
    println!("before: {before:?}");
    println!("after:  {after:?}");
    Ok(())
}
