//! tonic's helloworld on `round_robin`: three servers share the greetings.
//!
//! `cargo run -p balancer-channel --example helloworld`

#[path = "greeter/mod.rs"]
mod greeter;

use std::time::Duration;

use balancer_channel::Channel;
use greeter::{Greetings, pb::helloworld::greeter_client::GreeterClient};

/// The main part, apart from `main` so that a test can run it.
pub(crate) async fn run() -> Result<Greetings, Box<dyn std::error::Error>> {
    let servers = greeter::start(3).await?;

    let channel = Channel::builder(format!("ipv4:{}", greeter::list(&servers)))
        .plaintext()
        .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
        // Try every server before the first RPC goes, so that the first ones are spread too.
        .warm_up(Duration::from_millis(500))
        .build()?;

    // The generated client takes it as it takes tonic's own channel.
    let mut client = GreeterClient::new(channel.clone());
    let greetings = greeter::greet(&mut client, 9, |_, _| {}).await?;

    channel.close().await;
    Ok(greetings)
}

#[tokio::main]
#[allow(dead_code, reason = "the test runs `run`")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (server, count) in run().await? {
        println!("{server} greeted {count} times");
    }
    Ok(())
}
