//! Greeter servers for the examples to call: tonic's, on loopback ports of the system's choice.

#![allow(dead_code, reason = "each example uses its own part")]

#[path = "../pb/mod.rs"]
pub(crate) mod pb;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use pb::helloworld::{
    HelloReply, HelloRequest,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, body::Body, client::GrpcService, codegen, transport};

/// A greeter; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

/// Which server answered how often.
pub(crate) type Greetings = BTreeMap<String, usize>;

struct Greets {
    server: String,
}

/// Starts so many greeters.
pub(crate) async fn start(count: usize) -> std::io::Result<Vec<Running>> {
    let mut running = Vec::new();
    for n in 0..count {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let server = format!("server {n}");
        let serving = transport::Server::builder()
            .add_service(GreeterServer::new(Greets { server }))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(serving).abort_handle();
        running.push(Running { address, task });
    }
    Ok(running)
}

/// `127.0.0.1:1234,127.0.0.1:1235`, for a target.
pub(crate) fn list(servers: &[Running]) -> String {
    let addresses: Vec<String> = servers.iter().map(|s| s.address.to_string()).collect();
    addresses.join(",")
}

/// Greets so many times, one after the other, and counts who answered. `prepare` may change each
/// request.
pub(crate) async fn greet<S>(
    client: &mut GreeterClient<S>,
    count: usize,
    prepare: impl Fn(usize, &mut Request<HelloRequest>),
) -> Result<Greetings, Status>
where
    S: GrpcService<Body>,
    S::Error: Into<codegen::StdError>,
    S::ResponseBody: codegen::Body<Data = codegen::Bytes> + Send + 'static,
    <S::ResponseBody as codegen::Body>::Error: Into<codegen::StdError> + Send,
{
    let mut greetings = Greetings::new();
    for n in 0..count {
        let mut request = Request::new(HelloRequest {
            name: format!("caller {n}"),
        });
        prepare(n, &mut request);
        let reply = client.say_hello(request).await?.into_inner();
        let server = reply.message.rsplit_once(" from ").map_or("?", |(_, s)| s);
        *greetings.entry(server.to_owned()).or_default() += 1;
    }
    Ok(greetings)
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Greets ===

#[codegen::async_trait]
impl Greeter for Greets {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let name = request.into_inner().name;
        let message = format!("Hello {name} from {}", self.server);
        Ok(Response::new(HelloReply { message }))
    }
}
