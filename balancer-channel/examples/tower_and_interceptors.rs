//! The channel is a tower service: it goes into a `ServiceBuilder` stack and under a tonic
//! interceptor, both at once here.
//!
//! `cargo run -p balancer-channel --example tower_and_interceptors`

#[path = "greeter/mod.rs"]
mod greeter;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balancer_channel::Channel;
use greeter::{Greetings, pb::helloworld::greeter_client::GreeterClient};
use tonic::{Request, Status, body::Body, metadata::MetadataValue};
use tower::ServiceBuilder;

/// The main part, apart from `main` so that a test can run it: who greeted, and how many RPCs the
/// layer and the interceptor saw.
pub(crate) async fn run() -> Result<(Greetings, [usize; 2]), Box<dyn std::error::Error>> {
    let servers = greeter::start(3).await?;
    let channel = Channel::builder(format!("ipv4:{}", greeter::list(&servers)))
        .plaintext()
        .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
        .warm_up(Duration::from_secs(5))
        .build()?;

    let in_layer = Arc::new(AtomicUsize::new(0));
    let seen = in_layer.clone();
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_secs(5))
        .concurrency_limit(100)
        .map_request(move |request: http::Request<Body>| {
            seen.fetch_add(1, Ordering::Relaxed);
            request
        })
        .service(channel.clone());

    let in_interceptor = Arc::new(AtomicUsize::new(0));
    let seen = in_interceptor.clone();
    let authenticate = move |mut request: Request<()>| -> Result<Request<()>, Status> {
        seen.fetch_add(1, Ordering::Relaxed);
        let token = MetadataValue::from_static("Bearer of-good-news");
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    };

    let mut client = GreeterClient::with_interceptor(stack, authenticate);
    let greetings = greeter::greet(&mut client, 9, |_, _| {}).await?;
    channel.close().await;
    let seen = [&in_layer, &in_interceptor].map(|seen| seen.load(Ordering::Relaxed));
    Ok((greetings, seen))
}

#[tokio::main]
#[allow(dead_code, reason = "the test runs `run`")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (greetings, [layer, interceptor]) = run().await?;
    println!("{greetings:?}; the layer saw {layer} RPCs, the interceptor {interceptor}");
    Ok(())
}
