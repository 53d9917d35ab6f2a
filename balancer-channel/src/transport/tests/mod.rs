//! The transport against real sockets on loopback.

mod admission;
mod connect;
#[cfg(target_os = "linux")]
mod dial;
mod end;
mod faults;
mod fuzz;
mod policy_call;
mod preface;
mod rouse;
mod silence;
mod sniff;
mod streaming;
mod support;
mod tls;
mod unary;
