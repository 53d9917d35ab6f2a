//! Targets: the text by which an application says where its backends are.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use balancer_api::{Address, Endpoint};

/// A target, parsed.
///
/// | target | endpoints |
/// |---|---|
/// | `dns:///host:port`, `host:port`, `host` | what DNS says of the host; the port is 443 if absent |
/// | `dns://1.2.3.4:53/host:port` | what this DNS server says |
/// | `ipv4:1.2.3.4:80,5.6.7.8:80` | these addresses |
/// | `ipv6:[::1]:80,[::2]:80` | these addresses |
/// | `unix:path`, `unix:///path` | a socket of this machine; `%20` in the path is a space (RFC 3986) |
/// | `passthrough:///anything` | the text as an address, as it stands |
/// | `http://host:port`, `https://host:port` | as `dns`; must agree with the credentials |
///
/// An IPv6 address with a port has brackets. Without them `::1:80` could be an address and a port, or one
/// long address: that is an error; `2001:db8::1` can only be an address and is taken for it.
///
/// ```
/// use balancer_channel::Target;
/// let target: Target = "dns:///greeter.prod:50051".parse()?;
/// assert_eq!(target.authority(), "greeter.prod:50051");
/// assert!("ipv4:1.2.3.4:0".parse::<Target>().is_err(), "port 0 cannot be dialled");
/// # Ok::<(), balancer_channel::TargetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    kind: Kind,
    authority: String,
}

/// What a target that is no target is told: the target and the rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    target: String,
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dns {
        host: String,
        port: u16,
        scheme: Option<Scheme>,
        /// The DNS server to ask.
        server: Option<SocketAddr>,
    },
    Fixed(Vec<Endpoint>),
}

/// The scheme of a target that says how its connections are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Longer targets are refused.
const MAX_TARGET: usize = 64 * 1024;
/// Longer names do not exist in DNS.
const MAX_HOST: usize = 253;
const DEFAULT_PORT: u16 = 443;

// === impl Target ===

impl Target {
    /// The text as the application gave it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The `:authority` of requests, and the name that a certificate is checked against.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(crate) fn scheme(&self) -> Option<Scheme> {
        match &self.kind {
            Kind::Dns { scheme, .. } => *scheme,
            Kind::Fixed(_) => None,
        }
    }
}

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        parse(text).map_err(|rule| TargetError {
            target: shown(text),
            rule,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse(text: &str) -> Result<Target, String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    if text.len() > MAX_TARGET {
        return Err(format!("must be at most {MAX_TARGET} bytes long"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must not contain white space or control characters".into());
    }
    let (kind, authority) = match text.split_once(':') {
        Some(("dns", rest)) => dns(rest, None)?,
        Some(("ipv4", rest)) => addresses(rest, ipv4)?,
        Some(("ipv6", rest)) => addresses(rest, ipv6)?,
        Some(("unix", rest)) => unix(rest)?,
        Some(("passthrough", rest)) => passthrough(rest)?,
        Some(("http", rest)) if rest.starts_with("//") => url(rest, Scheme::Http)?,
        Some(("https", rest)) if rest.starts_with("//") => url(rest, Scheme::Https)?,
        Some((scheme, rest)) if rest.starts_with("//") => {
            return Err(format!(
                "scheme {scheme:?} is not known; known are dns, ipv4, ipv6, unix, passthrough"
            ));
        }
        _ => name(text, None, DEFAULT_PORT)?,
    };
    Ok(Target {
        text: text.to_owned(),
        kind,
        authority,
    })
}

type Parsed = (Kind, String);

/// What follows `dns:`: a name, or `//server/name`.
fn dns(rest: &str, scheme: Option<Scheme>) -> Result<Parsed, String> {
    match rest.strip_prefix("//") {
        None => name(rest, scheme, DEFAULT_PORT),
        Some(rest) => match rest.split_once('/') {
            Some(("", host)) => name(host, scheme, DEFAULT_PORT),
            Some((server, host)) => {
                let (mut kind, authority) = name(host, scheme, DEFAULT_PORT)?;
                if let Kind::Dns { server: asked, .. } = &mut kind {
                    *asked = Some(dns_server(server)?);
                }
                Ok((kind, authority))
            }
            None => Err("must be written dns:///host:port, with three slashes".into()),
        },
    }
}

/// `1.2.3.4`, `1.2.3.4:53`, `[::1]` or `[::1]:53`.
fn dns_server(text: &str) -> Result<SocketAddr, String> {
    const PORT: u16 = 53;
    bare_ipv6(text)?;
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let ip = bare.unwrap_or(text).parse::<IpAddr>();
    ip.map(|ip| SocketAddr::new(ip, PORT))
        .or_else(|_| text.parse())
        .map_err(|_| {
            let text = shown(text);
            format!("the DNS server {text:?} must be an IP address, with or without a port")
        })
}

fn url(rest: &str, scheme: Scheme) -> Result<Parsed, String> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.contains('/') {
        return Err("must not have a path".into());
    }
    let port = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    name(host, Some(scheme), port)
}

/// `host`, `host:port`, `1.2.3.4:port`, `[::1]:port`.
fn name(text: &str, scheme: Option<Scheme>, default_port: u16) -> Result<Parsed, String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the bracket [ is not closed")?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(format!("{:?} is not an IPv6 address", shown(host)));
        }
        let port = match after.strip_prefix(':') {
            Some(port) => port_number(port)?,
            None if after.is_empty() => default_port,
            None => {
                return Err(format!(
                    "{:?} after the bracket is not a port",
                    shown(after)
                ));
            }
        };
        (host, port)
    } else if bare_ipv6(text)?.is_some() {
        (text, default_port)
    } else {
        match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err("must have brackets around an IPv6 address".into());
            }
            Some((host, port)) => (host, port_number(port)?),
            None => (text, default_port),
        }
    };
    if host.is_empty() {
        return Err("must name a host".into());
    }
    if host.len() > MAX_HOST {
        return Err(format!("a host must be at most {MAX_HOST} bytes long"));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        let socket = SocketAddr::new(ip, port).to_string();
        let kind = match scheme {
            // The scheme has to be kept for the check against the credentials.
            Some(_) => Kind::Dns {
                host: host.to_owned(),
                port,
                scheme,
                server: None,
            },
            None => Kind::Fixed(vec![Endpoint::from(socket.as_str())]),
        };
        return Ok((kind, socket));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(bad) = host.chars().find(|c| !allowed(*c)) {
        return Err(format!("a host must not contain {bad:?}"));
    }
    // One dot at the end says that the name is complete.
    if host
        .strip_suffix('.')
        .unwrap_or(host)
        .split('.')
        .any(|label| label.is_empty() || label.len() > 63)
    {
        return Err("a host's labels must be 1 to 63 characters long".into());
    }
    let explicit = text.len() > host.len();
    let authority = if explicit {
        format!("{host}:{port}")
    } else {
        host.to_owned()
    };
    Ok((
        Kind::Dns {
            host: host.to_owned(),
            port,
            scheme,
            server: None,
        },
        authority,
    ))
}

/// An IPv6 address without brackets; an error where it could be a shorter one and a port as well.
fn bare_ipv6(text: &str) -> Result<Option<Ipv6Addr>, String> {
    let Ok(ip) = text.parse::<Ipv6Addr>() else {
        return Ok(None);
    };
    match text.rsplit_once(':') {
        Some((shorter, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && shorter.parse::<Ipv6Addr>().is_ok() =>
        {
            Err(format!(
                "{text} is ambiguous: write [{shorter}]:{port} with a port, or [{text}] without"
            ))
        }
        _ => Ok(Some(ip)),
    }
}

fn port_number(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(format!("{:?} is not a port from 1 to 65535", shown(text))),
    }
}

fn addresses(
    list: &str,
    parse: impl Fn(&str) -> Result<Cow<'_, str>, String>,
) -> Result<Parsed, String> {
    let list = list.strip_prefix("///").unwrap_or(list);
    // One address is a valid authority; a list of them is not, and servers refuse it.
    let mut authority = None;
    let endpoints = list
        .split(',')
        .map(|text| {
            let address = parse(text)?;
            authority.get_or_insert_with(|| without_zone(&address));
            Ok(Endpoint::from(&*address))
        })
        .collect::<Result<_, String>>()?;
    Ok((Kind::Fixed(endpoints), authority.unwrap_or_default()))
}

/// The address in its one spelling.
fn ipv4(text: &str) -> Result<Cow<'_, str>, String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some((port_number(port)?, port))),
        None => (text, None),
    };
    match (host.parse::<Ipv4Addr>(), port) {
        // The parser takes no other spelling of the four numbers.
        (Ok(_), Some((_, digits))) if !digits.starts_with('0') => Ok(Cow::Borrowed(text)),
        (Ok(ip), port) => {
            let port = port.map_or(DEFAULT_PORT, |(number, _)| number);
            Ok(Cow::Owned(SocketAddrV4::new(ip, port).to_string()))
        }
        (Err(_), _) => Err(format!(
            "{:?} is not an IPv4 address with a port",
            shown(text)
        )),
    }
}

/// The address in its one spelling.
fn ipv6(text: &str) -> Result<Cow<'_, str>, String> {
    socket_v6(text).map(|address| Cow::Owned(address.to_string()))
}

fn socket_v6(text: &str) -> Result<SocketAddrV6, String> {
    // A zone's percent sign is escaped in a URI.
    let text = &text.replace("%25", "%");
    if let Some(ip) = bare_ipv6(text)? {
        return Ok(SocketAddrV6::new(ip, DEFAULT_PORT, 0, 0));
    }
    match text.parse::<SocketAddrV6>() {
        Ok(address) if address.port() > 0 => Ok(address),
        Ok(_) => Err(format!("{:?}: port 0 cannot be dialled", shown(text))),
        Err(_) => {
            let inner = text
                .strip_prefix('[')
                .and_then(|text| text.strip_suffix(']'));
            match inner.and_then(|text| text.parse::<Ipv6Addr>().ok()) {
                Some(ip) => Ok(SocketAddrV6::new(ip, DEFAULT_PORT, 0, 0)),
                None => Err(format!(
                    "{:?} is not an IPv6 address as in [::1]:80",
                    shown(text)
                )),
            }
        }
    }
}

/// A zone means something on this machine only; it is no part of an authority.
fn without_zone(address: &str) -> String {
    match (address.split_once('%'), address.split_once(']')) {
        (Some((ip, _)), Some((_, port))) => format!("{ip}]{port}"),
        _ => address.to_owned(),
    }
}

fn unix(rest: &str) -> Result<Parsed, String> {
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Err("must be written unix:path or unix:///absolute/path".into()),
        None => rest,
    };
    if path.is_empty() {
        return Err("must name a socket".into());
    }
    let path = percent_decoded(path)?;
    // The limit of sockaddr_un on Linux, with its closing zero; less elsewhere.
    if path.len() > 107 {
        return Err("a socket's path must be at most 107 bytes long".into());
    }
    let endpoint = Endpoint::from(Address::new(format!("unix:{path}")));
    Ok((Kind::Fixed(vec![endpoint]), "localhost".to_owned()))
}

/// A target is a URI: what stands in a path by its number is meant, decoded once.
fn percent_decoded(path: &str) -> Result<String, String> {
    let escapes = path
        .match_indices('%')
        .map(|(at, _)| path.get(at + 1..at + 3));
    let mut whole = escapes
        .map(|digits| digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())));
    if !whole.all(|whole| whole) {
        return Err("a % must stand before two hexadecimal digits; a % itself is %25".into());
    }
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
    match decoded {
        Ok(decoded) if !decoded.contains('\0') => Ok(decoded.into_owned()),
        Ok(_) => Err("a socket's path must not contain a zero byte".into()),
        Err(_) => Err("a socket's path must be UTF-8".into()),
    }
}

fn passthrough(rest: &str) -> Result<Parsed, String> {
    let text = rest.strip_prefix("///").unwrap_or(rest);
    if text.is_empty() || text.starts_with("//") {
        return Err("must be written passthrough:///address".into());
    }
    let authority = match text.parse::<http::uri::Authority>() {
        // Whatever stands before an @ would be a password.
        Ok(authority) if !authority.as_str().contains('@') => without_zone(authority.as_str()),
        _ => "localhost".to_owned(),
    };
    Ok((Kind::Fixed(vec![Endpoint::from(text)]), authority))
}

/// Untrusted text for an error message.
fn shown(text: &str) -> String {
    const MAX: usize = 256;
    let mut shown: String = text.escape_debug().take(MAX).collect();
    if text.len() > MAX {
        shown.push('…');
    }
    shown
}

// === impl TargetError ===

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "target \"{}\": {}", self.target, self.rule)
    }
}

impl std::error::Error for TargetError {}
