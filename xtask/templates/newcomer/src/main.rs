//! Balances real RPCs over three gRPC servers with the newcomer's policy, chosen by service config.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use balancer_channel::{Channel, Registry};
use tonic::transport::{Server, server::TcpIncoming};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// How many servers there are, and how many of them the service config has the policy use.
const SERVERS: usize = 3;
const USED: usize = 2;

/// How many RPCs are counted, once every server is connected.
const RPCS: usize = 300;

/// A server and how many RPCs it took.
struct Backend {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Nothing below waits for ever; should it, this says so.
    tokio::time::timeout(Duration::from_secs(60), balance()).await?
}

async fn balance() -> Result<(), Box<dyn Error>> {
    let backends = (0..SERVERS).map(|_| serve()).collect::<Result<Vec<_>, _>>()?;
    Registry::global().register(Arc::new(newcomer_policy::builder()))?;

    let addresses: Vec<_> = backends.iter().map(|backend| backend.address.to_string()).collect();
    let target = format!("ipv4:{}", addresses.join(","));
    let policy = newcomer_policy::NAME;
    let config = format!(r#"{{"loadBalancingConfig":[{{"{policy}":{{"count":{USED}}}}}]}}"#);
    println!("{target} with {config}");
    let channel = Channel::builder(&target)
        .plaintext()
        .default_service_config(config)
        // A first RPC before all three are READY might go to the reserve, and rightly so.
        .warm_up(Duration::from_secs(10))
        .build()?;

    let mut client = HealthClient::new(channel.clone());
    for _ in 0..RPCS {
        client.check(HealthCheckRequest::default()).await?;
    }
    channel.close().await;

    let taken: Vec<_> = backends.iter().map(|backend| backend.taken.load(Ordering::SeqCst)).collect();
    for (backend, taken) in backends.iter().zip(&taken) {
        println!("{} took {taken} of {RPCS} RPCs", backend.address);
    }
    let expected = [RPCS / USED, RPCS / USED, 0];
    if taken != expected {
        return Err(format!("the policy must have sent {expected:?}").into());
    }
    println!("the first {USED} of {SERVERS} servers took turns: the policy was chosen and obeyed");
    Ok(())
}

/// Starts a server of gRPC's health service on a free port.
fn serve() -> Result<Backend, Box<dyn Error>> {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?;
    let address = incoming.local_addr()?;
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let count = move |request: Request<()>| -> Result<Request<()>, Status> {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(request)
    };
    let health = HealthService::from_health_reporter(HealthReporter::new());
    let service = HealthServer::with_interceptor(health, count);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    Ok(Backend { address, taken })
}
