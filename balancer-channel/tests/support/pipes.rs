//! A dialer that reaches servers in memory, so that a paused clock stays exact.

use std::{io, sync::Arc};

use balancer_api::{Dialer, Io};
use balancer_channel::{Channel, ChannelBuilder};
use balancer_testpeer::Server;
use tokio_util::compat::TokioAsyncReadCompatExt;

/// Server n is at 10.0.0.n:1.
pub(crate) struct Pipes(pub(crate) Vec<Arc<Server>>);

/// A `round_robin` channel to servers in memory.
pub(crate) fn piped(servers: &[Arc<Server>]) -> ChannelBuilder {
    let all: Vec<String> = (0..servers.len())
        .map(|n| format!("10.0.0.{n}:1"))
        .collect();
    Channel::builder(format!("ipv4:{}", all.join(",")))
        .plaintext()
        .dialer(Arc::new(Pipes(servers.to_vec())))
        .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
}

#[async_trait::async_trait]
impl Dialer for Pipes {
    async fn dial(&self, addr: &str) -> io::Result<Box<dyn Io>> {
        let number = addr.strip_prefix("10.0.0.");
        let number = number.and_then(|rest| rest.strip_suffix(":1"));
        let number: Option<usize> = number.and_then(|number| number.parse().ok());
        let server = number.and_then(|number| self.0.get(number));
        let server = server.ok_or_else(|| io::Error::other("no such server"))?;
        Ok(Box::new(server.connect().compat()))
    }
}
