//! Through an HTTP proxy, by CONNECT (gRFC A1).

use std::{fmt, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use balancer_api::{Dialer, Io};
use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::transport::{USER_TIMEOUT, dial_tcp};

/// An HTTP proxy that opens tunnels to backends.
///
/// Give it to [`ChannelBuilder::http_proxy`](crate::ChannelBuilder::http_proxy), or leave it to
/// [`ChannelBuilder::http_proxy_from_env`](crate::ChannelBuilder::http_proxy_from_env). TLS, where it
/// is used, goes through the tunnel: the proxy sees neither RPCs nor credentials.
///
/// ```
/// use balancer_channel::HttpProxy;
/// let proxy: HttpProxy = "http://user:secret@proxy.example:3128".parse()?;
/// assert_eq!(format!("{proxy:?}"), "HttpProxy(proxy.example:3128, with credentials)");
/// # Ok::<(), balancer_channel::HttpProxyError>(())
/// ```
#[derive(Clone)]
pub struct HttpProxy {
    /// `host:port`.
    address: Arc<str>,
    /// The value of `proxy-authorization`.
    authorization: Option<Arc<str>>,
    user_timeout: Option<Duration>,
}

/// A proxy's address that cannot be used: it must read `http://host:port`, with `user:password@`
/// before the host where the proxy asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProxyError {
    rule: &'static str,
}

/// What the environment says of proxies, as other gRPCs read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyEnv {
    pub(crate) proxy: Option<String>,
    pub(crate) exempt: Option<String>,
}

/// A response head that is longer is no answer to CONNECT.
const MAX_HEAD: u64 = 16 * 1024;

// === impl HttpProxy ===

impl HttpProxy {
    /// How long TCP waits for an acknowledgement.
    pub(crate) fn with_user_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.user_timeout = timeout;
        self
    }
}

impl std::str::FromStr for HttpProxy {
    type Err = HttpProxyError;

    fn from_str(text: &str) -> Result<Self, HttpProxyError> {
        let error = |rule| HttpProxyError { rule };
        let uri: http::Uri = text.parse().map_err(|_| error("is no URI"))?;
        if uri.scheme_str() != Some("http") {
            return Err(error("must begin with http://"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(error("must have neither path nor query"));
        }
        let authority = uri.authority().ok_or(error("must name a host"))?;
        let port = authority.port_u16().ok_or(error("must have a port"))?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        let authorization = user.map(|user| {
            let user: Vec<u8> = percent_decode_str(user).collect();
            format!("Basic {}", STANDARD.encode(user)).into()
        });
        Ok(Self {
            address: format!("{}:{port}", authority.host()).into(),
            authorization,
            user_timeout: Some(USER_TIMEOUT),
        })
    }
}

#[async_trait]
impl Dialer for HttpProxy {
    /// Opens a tunnel to `addr`.
    ///
    /// # Errors
    /// The proxy cannot be reached, or refuses: its status line is in the error.
    async fn dial(&self, addr: &str) -> io::Result<Box<dyn Io>> {
        if addr.starts_with("unix:") || addr.chars().any(|c| c.is_control() || c == ' ') {
            let why = format!("{addr:?} cannot be reached through an HTTP proxy");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let dialled = dial_tcp(&self.address, self.user_timeout).await;
        let stream = dialled.map_err(|error| {
            let why = format!("proxy {}: {error}", self.address);
            io::Error::new(error.kind(), why)
        })?;
        let mut request = format!("CONNECT {addr} HTTP/1.1\r\nhost: {addr}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("proxy-authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        // What the server says right behind the proxy's answer stays in the buffer.
        let mut stream = BufReader::with_capacity(1024, stream);
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream).await.map_err(|error| {
            let why = format!("proxy {}: {error}", self.address);
            io::Error::new(error.kind(), why)
        })?;
        Ok(Box::new(stream.compat()))
    }
}

/// Reads the proxy's answer up to the empty line.
async fn read_answer(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
    let mut head = stream.take(MAX_HEAD);
    let mut line = Vec::new();
    let mut status = None;
    loop {
        line.clear();
        head.read_until(b'\n', &mut line).await?;
        if !line.ends_with(b"\n") {
            let why = "it ended, or went on for too long, before it had answered";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        let text = line.trim_ascii();
        match &status {
            None => status = Some(String::from_utf8_lossy(text).into_owned()),
            Some(status) if text.is_empty() => return judge(status),
            Some(_) => {}
        }
    }
}

fn judge(status: &str) -> io::Result<()> {
    let mut words = status.split(' ');
    let version = words.next().is_some_and(|it| it.starts_with("HTTP/1."));
    let code = words.next().and_then(|code| code.parse::<u16>().ok());
    match code {
        Some(200..=299) if version => Ok(()),
        _ => {
            let shown: String = status.chars().take(256).collect();
            let why = format!("it answered {:?}", shown);
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, why))
        }
    }
}

impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = match self.authorization {
            Some(_) => ", with credentials",
            None => "",
        };
        write!(f, "HttpProxy({}{with})", self.address)
    }
}

// === impl HttpProxyError ===

impl fmt::Display for HttpProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the text: it may hold a password.
        write!(f, "HTTP proxy: {} (http://host:port)", self.rule)
    }
}

impl std::error::Error for HttpProxyError {}

// === impl ProxyEnv ===

impl ProxyEnv {
    /// Reads this process's environment.
    pub(crate) fn read() -> Self {
        let first = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| std::env::var(name).ok());
            values.find(|value| !value.is_empty())
        };
        Self {
            proxy: first(&["grpc_proxy", "https_proxy", "HTTPS_PROXY", "http_proxy"]),
            exempt: first(&["no_grpc_proxy", "no_proxy", "NO_PROXY"]),
        }
    }

    /// The proxy for a target on `host`.
    ///
    /// # Errors
    /// There is one, and its address cannot be used.
    pub(crate) fn for_host(&self, host: &str) -> Result<Option<HttpProxy>, HttpProxyError> {
        let exempt = self.exempt.as_deref().unwrap_or_default();
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_exempt = exempt.split(',').map(str::trim).any(|entry| {
            let entry = entry.to_ascii_lowercase();
            let suffix = entry.trim_start_matches('*').trim_start_matches('.');
            let within = host
                .strip_suffix(suffix)
                .is_some_and(|rest| rest.ends_with('.'));
            entry == "*" || !suffix.is_empty() && (host == suffix || within)
        });
        match &self.proxy {
            Some(proxy) if !is_exempt => proxy.parse().map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Which hosts the environment exempts; the rest is tried in `tests/proxy.rs`.

    use super::ProxyEnv;

    #[test]
    fn the_environment_exempts_hosts_and_what_is_below_them() {
        let env = ProxyEnv {
            proxy: Some("http://proxy:3128".into()),
            exempt: Some("localhost, .corp.example,*.dev".into()),
        };
        let proxied = |host: &str| env.for_host(host).expect("a good proxy").is_some();
        for host in [
            "localhost",
            "corp.example",
            "a.corp.example",
            "A.Corp.Example.",
            "x.dev",
        ] {
            assert!(!proxied(host), "{host}");
        }
        for host in ["example", "notcorp.example", "localhost.example", "mydev"] {
            assert!(proxied(host), "{host}");
        }
        let all = ProxyEnv {
            exempt: Some("*".into()),
            ..env.clone()
        };
        assert!(all.for_host("any").expect("no proxy is fine").is_none());
        let bad = ProxyEnv {
            proxy: Some("socks5://user:hunter2@proxy:1".into()),
            exempt: None,
        };
        let error = bad.for_host("any").expect_err("not HTTP").to_string();
        assert!(
            error.contains("http://") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
