//! The channel's transport: HTTP/2 over TCP, TLS, unix sockets and streams of the application's.
//!
//! It drives the `h2` crate itself. A thin reader of frame headers around the socket ([`sniff`],
//! [`wire`]) tells what `h2` does not: when SETTINGS and GOAWAY came, and which requests left.
//!
//! ```text
//! let connected = Connector { .. }.connect_in(line, &address, ..).await?; // SETTINGS have come
//! let response = connected.connection.send(RpcRequest::new(head, body)).await;
//! match response {
//!     Ok(response) => Ok(response.into_http(hook)),                  // hook: told once, at the end
//!     Err(SendFailure { kind, status, request }) => ..               // request: to be sent again
//! }
//! ```
//! `connected.lost` ends when no new stream may be opened: at a GOAWAY frame, at a loss.

mod admission;
mod call;
mod connect;
mod connection;
mod deadlines;
mod dial;
mod driver;
mod fan;
mod io;
mod keepalive;
mod limit;
mod line;
mod preface;
mod replay;
mod request;
mod response;
mod rouse;
mod send;
mod shared;
mod sniff;
mod status;
mod tls;
mod upload;
mod watched;
mod wire;

pub(crate) use connect::{Connector, Security};
pub(crate) use connection::{H2Connection, H2Options, Spawn, WeakConnection};
pub(crate) use dial::{USER_TIMEOUT, dial_tcp};
pub(crate) use fan::SharedBody;
pub(crate) use keepalive::KeepaliveOptions;
pub(crate) use limit::limited;
pub(crate) use line::Line;
pub(crate) use replay::{ReplayBody, ReplayBudget};
pub(crate) use request::RpcRequest;
pub(crate) use response::{EndHook, RpcEnd, RpcResponse};
pub(crate) use send::{Broken, Exchange, FailureKind};
pub(crate) use status::{from_tonic, to_tonic};
pub use tls::{TlsConfig, TlsConfigError};

// What only the transport's own tests name.
#[cfg(test)]
pub(crate) use {connection::Setup, send::SendFailure};

#[cfg(test)]
mod tests;
