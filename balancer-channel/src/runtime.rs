//! Whether a tokio runtime can run a channel.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::BuildError;

/// Finds out whether the runtime of this thread has timers, and I/O where that `needs_io`.
///
/// tokio answers such a question by a panic and in no other way: better here, once and caught, than in
/// every task of a channel.
pub(crate) fn check(needs_io: bool) -> Result<(), BuildError> {
    if panics(|| drop(tokio::time::sleep(Duration::ZERO))) {
        return Err(BuildError::RuntimeWithout {
            what: "timers",
            enable: "enable_time",
        });
    }
    // That there is no descriptor left is for whoever dials to say.
    if needs_io && panics(|| drop(socket())) {
        return Err(BuildError::RuntimeWithout {
            what: "I/O",
            enable: "enable_io",
        });
    }
    Ok(())
}

fn panics(probe: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(probe)).is_err()
}

#[cfg(unix)]
fn socket() -> std::io::Result<tokio::net::UnixDatagram> {
    tokio::net::UnixDatagram::unbound()
}

#[cfg(not(unix))]
fn socket() -> std::io::Result<tokio::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}
