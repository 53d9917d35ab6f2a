//! Client-side health checking (gRFC A17) over real connections, against tonic's health service.

#[path = "support/harness.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod harness;

use balancer_channel::Channel;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, transport::Server};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::{HealthReporter, health_reporter},
};

const CHECKED: &str = r#"{
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "store"}
}"#;

/// A server that knows of a service with its own name, and of `store`.
async fn backend(name: &'static str, store: ServingStatus) -> (String, HealthReporter) {
    let (reporter, service) = health_reporter();
    reporter
        .set_service_status(name, ServingStatus::Serving)
        .await;
    reporter.set_service_status("store", store).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let serving = Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, reporter)
}

/// Whether the backend that was picked is the one of that name.
async fn reaches(client: &mut HealthClient<Channel>, name: &str) -> Result<(), Code> {
    let service = name.to_owned();
    let request = Request::new(HealthCheckRequest { service });
    client
        .check(request)
        .await
        .map(drop)
        .map_err(|status| status.code())
}

#[tokio::test(crate = "crate::harness")]
async fn a_backend_that_does_not_serve_gets_no_rpcs_until_it_does() {
    let (a, _a) = backend("a", ServingStatus::Serving).await;
    let (b, b_reporter) = backend("b", ServingStatus::NotServing).await;
    let channel = Channel::builder(format!("ipv4:{a},{b}"))
        .plaintext()
        .default_service_config(CHECKED)
        .warm_up(std::time::Duration::from_secs(5))
        .build()
        .expect("a channel");
    let mut client = HealthClient::new(channel.clone());
    for _ in 0..10 {
        assert_eq!(reaches(&mut client, "a").await, Ok(()), "b is not healthy");
    }
    b_reporter
        .set_service_status("store", ServingStatus::Serving)
        .await;
    // The news travels on its own stream; RPCs find out when it has arrived.
    while reaches(&mut client, "b").await.is_err() {}
    let both = [
        reaches(&mut client, "a").await,
        reaches(&mut client, "a").await,
    ];
    assert!(
        both.contains(&Ok(())) && both.contains(&Err(Code::NotFound)),
        "in turn from now on: {both:?}"
    );
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "the watches are gone, too");
}

#[tokio::test(crate = "crate::harness")]
async fn an_application_that_wants_no_health_checks_gets_none() {
    let (b, _b) = backend("b", ServingStatus::NotServing).await;
    let channel = Channel::builder(format!("ipv4:{b}"))
        .plaintext()
        .default_service_config(CHECKED)
        .health_checks(false)
        .build()
        .expect("a channel");
    let mut client = HealthClient::new(channel.clone());
    assert_eq!(reaches(&mut client, "b").await, Ok(()));
    channel.close().await;
}
