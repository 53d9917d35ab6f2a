//! Opens byte streams to addresses.

use std::{io, time::Duration};

use balancer_api::Dialer;
use tokio::net::TcpStream;

use super::io::RawIo;

/// How long data may stay unacknowledged before the kernel gives the connection up (gRFC A18): a
/// peer that vanished is found without keepalive.
pub(crate) const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Opens a stream to `address`: `ip:port`, `[ip6]:port`, `host:port`, `unix:path` or
/// `unix:///path`, the path as it stands. A dialer of the application's is given the text as it is.
///
/// # Errors
/// The system's; without the address.
///
/// # Cancel safety
/// Dropping the future closes the socket.
pub(crate) async fn dial(
    address: &str,
    dialer: Option<&dyn Dialer>,
    user_timeout: Option<Duration>,
) -> io::Result<RawIo> {
    if let Some(dialer) = dialer {
        return Ok(RawIo::boxed(dialer.dial(address).await?));
    }
    if let Some(path) = address.strip_prefix("unix:") {
        let absolute = path.strip_prefix("//");
        let absolute = absolute.filter(|path| path.starts_with('/'));
        return dial_unix(absolute.unwrap_or(path)).await;
    }
    Ok(RawIo::tcp(dial_tcp(address, user_timeout).await?))
}

/// Connects a socket as the channel wants it. A host name is looked up here, and its addresses are
/// tried in turn.
pub(crate) async fn dial_tcp(
    address: &str,
    user_timeout: Option<Duration>,
) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if let Some(timeout) = user_timeout {
        set_user_timeout(&stream, timeout);
    }
    Ok(stream)
}

#[cfg(unix)]
async fn dial_unix(path: &str) -> io::Result<RawIo> {
    Ok(RawIo::unix(tokio::net::UnixStream::connect(path).await?))
}

#[cfg(not(unix))]
async fn dial_unix(_: &str) -> io::Result<RawIo> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this platform has no unix sockets",
    ))
}

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
fn set_user_timeout(stream: &TcpStream, timeout: Duration) {
    // Without it the connection works as well; only a dead peer is found later.
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout));
}

#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
fn set_user_timeout(_: &TcpStream, _: Duration) {}
