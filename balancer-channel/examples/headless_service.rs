//! A name that DNS resolves to every backend, as a Kubernetes headless service does: each address
//! is an endpoint, and the channel asks DNS again when one is lost.
//!
//! `cargo run -p balancer-channel --example headless_service -- dns:///greeter.prod:50051`
//! Without a target it starts a server of its own and calls `localhost`.

#[path = "greeter/mod.rs"]
mod greeter;

use std::time::Duration;

use balancer_channel::Channel;
use greeter::{Greetings, pb::helloworld::greeter_client::GreeterClient};

/// The main part, apart from `main` so that a test can run it.
pub(crate) async fn run(target: &str) -> Result<Greetings, Box<dyn std::error::Error>> {
    let channel = Channel::builder(target)
        .plaintext()
        .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
        // How soon DNS may be asked again: a rolling update is followed within this time.
        .min_resolution_interval(Duration::from_secs(10))
        .build()?;

    // Not needed: the first RPC connects too. Here, a name that does not exist is told at once.
    channel.connect().await?;

    let mut client = GreeterClient::new(channel.clone());
    let greetings = greeter::greet(&mut client, 9, |_, _| {}).await?;
    channel.close().await;
    Ok(greetings)
}

/// Runs it against a server of its own, as `localhost`.
pub(crate) async fn run_on_localhost() -> Result<Greetings, Box<dyn std::error::Error>> {
    let servers = greeter::start(1).await?;
    run(&format!("dns:///localhost:{}", servers[0].address.port())).await
}

#[tokio::main]
#[allow(dead_code, reason = "the test runs `run`")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let greetings = match std::env::args().nth(1) {
        Some(target) => run(&target).await?,
        None => run_on_localhost().await?,
    };
    println!("{greetings:?}");
    Ok(())
}
