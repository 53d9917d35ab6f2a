//! Endpoints from DNS: one for each address of the host, IPv4 and IPv6.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use balancer_api::{Endpoint, ResolveError};
use balancer_channel_core::{BoxFuture, Resolution, Resolver};
use hickory_resolver::{TokioResolver, config::LookupIpStrategy};
use tokio::sync::OnceCell;

/// Asks DNS, and the machine's own lookup where DNS has no answer: names from `/etc/hosts` and
/// whatever else the machine is configured for.
pub(crate) struct DnsResolver {
    host: Arc<str>,
    port: u16,
    min_interval: Duration,
    /// Made at the first question, since it reads the machine's configuration.
    dns: Arc<OnceCell<Option<TokioResolver>>>,
}

// === impl DnsResolver ===

impl DnsResolver {
    pub(crate) fn new(host: &str, port: u16, min_interval: Duration) -> Self {
        Self {
            host: host.into(),
            port,
            min_interval,
            dns: Arc::default(),
        }
    }
}

impl Resolver for DnsResolver {
    fn resolve(&self) -> BoxFuture<Result<Resolution, ResolveError>> {
        let (host, port, dns) = (self.host.clone(), self.port, self.dns.clone());
        Box::pin(async move {
            if let Ok(ip) = host.parse::<IpAddr>() {
                return Ok(resolution([ip], port, None));
            }
            let resolver = dns.get_or_init(|| async { from_system() }).await;
            let asked = match resolver {
                Some(resolver) => resolver
                    .lookup_ip(&*host)
                    .await
                    .map_err(|error| error.to_string()),
                None => Err("the machine has no DNS configuration".to_owned()),
            };
            match asked {
                Ok(found) => {
                    let valid_for = found.valid_until().checked_duration_since(Instant::now());
                    let addresses: Vec<IpAddr> = found.iter().collect();
                    Ok(resolution(addresses, port, valid_for))
                }
                Err(error) => match tokio::net::lookup_host((&*host, port)).await {
                    Ok(found) => Ok(resolution(
                        found.map(|address: SocketAddr| address.ip()),
                        port,
                        None,
                    )),
                    Err(_) => Err(ResolveError::new(format!("dns: {host}: {error}"))),
                },
            }
        })
    }

    fn min_interval(&self) -> Option<Duration> {
        Some(self.min_interval)
    }
}

fn from_system() -> Option<TokioResolver> {
    let mut builder = TokioResolver::builder_tokio().ok()?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().ok()
}

fn resolution(
    addresses: impl IntoIterator<Item = IpAddr>,
    port: u16,
    valid_for: Option<Duration>,
) -> Resolution {
    let endpoints = addresses
        .into_iter()
        .map(|ip| Endpoint::from(SocketAddr::new(ip, port).to_string().as_str()));
    let resolution = Resolution::new(endpoints);
    match valid_for {
        Some(valid_for) => resolution.with_valid_for(valid_for),
        None => resolution,
    }
}
