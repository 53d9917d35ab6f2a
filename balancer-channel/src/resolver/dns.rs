//! Endpoints from DNS: one for each address of the host, IPv4 and IPv6; and, where that is wanted,
//! the service config from TXT records.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use balancer_api::{Endpoint, ResolveError};
use balancer_channel_core::{BoxFuture, Resolution, Resolver};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tokio::sync::OnceCell;

use super::txt::TxtConfig;

/// Asks DNS, and the machine's own lookup where DNS has no answer: names from `/etc/hosts` and
/// whatever else the machine is configured for.
pub(crate) struct DnsResolver {
    host: Arc<str>,
    port: u16,
    /// The server to ask; `None`: those that the machine is configured for.
    server: Option<SocketAddr>,
    min_interval: Duration,
    /// Where the service config is looked for in TXT records.
    txt: Option<Arc<TxtConfig>>,
    /// Made at the first question, since it reads the machine's configuration.
    dns: Arc<OnceCell<Option<TokioResolver>>>,
}

// === impl DnsResolver ===

impl DnsResolver {
    pub(crate) fn new(
        host: &str,
        port: u16,
        server: Option<SocketAddr>,
        min_interval: Duration,
    ) -> Self {
        Self {
            host: host.into(),
            port,
            server,
            min_interval,
            txt: None,
            dns: Arc::default(),
        }
    }

    /// Looks for a service config, too.
    pub(crate) fn with_txt(mut self, txt: bool) -> Self {
        self.txt = txt.then(|| Arc::new(TxtConfig::new(&self.host)));
        self
    }
}

impl Resolver for DnsResolver {
    fn resolve(&self) -> BoxFuture<Result<Resolution, ResolveError>> {
        let (host, port, server) = (self.host.clone(), self.port, self.server);
        let (dns, txt) = (self.dns.clone(), self.txt.clone());
        Box::pin(async move {
            if let Ok(ip) = host.parse::<IpAddr>() {
                return Ok(resolution([ip], port, None));
            }
            let resolver = dns.get_or_init(|| async { resolver(server) }).await;
            let found = addresses(resolver.as_ref(), &host, port, server.is_some());
            let config = async {
                match (resolver, &txt) {
                    (Some(resolver), Some(txt)) => txt.look_up(resolver).await,
                    _ => None,
                }
            };
            let (found, config) = futures_util::future::join(found, config).await;
            let found = found?;
            Ok(match config {
                None => found,
                Some(Ok(json)) => found.with_service_config(json),
                Some(Err(error)) => found.with_service_config_error(error),
            })
        })
    }

    fn min_interval(&self) -> Option<Duration> {
        Some(self.min_interval)
    }
}

/// The host's addresses.
async fn addresses(
    resolver: Option<&TokioResolver>,
    host: &str,
    port: u16,
    only_dns: bool,
) -> Result<Resolution, ResolveError> {
    let asked = match resolver {
        Some(resolver) => resolver
            .lookup_ip(host)
            .await
            .map_err(|error| error.to_string()),
        None => Err("the machine has no DNS configuration".to_owned()),
    };
    let error = match asked {
        Ok(found) => {
            let valid_for = found
                .valid_until()
                .saturating_duration_since(Instant::now());
            let addresses: Vec<IpAddr> = found.iter().collect();
            return Ok(resolution(addresses, port, Some(valid_for)));
        }
        Err(error) => ResolveError::new(format!("dns: {host}: {error}")),
    };
    if only_dns {
        return Err(error);
    }
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|_| error)?;
    let found = found.map(|address: SocketAddr| address.ip());
    Ok(resolution(found, port, None))
}

fn resolver(server: Option<SocketAddr>) -> Option<TokioResolver> {
    let mut builder = match server {
        None => TokioResolver::builder_tokio().ok()?,
        Some(server) => {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            let server = NameServerConfig::new(server.ip(), true, connections);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // The channel asks rarely, and then because what it knows may be wrong.
    options.cache_size = 0;
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
