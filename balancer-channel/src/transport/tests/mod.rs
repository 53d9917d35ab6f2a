//! The transport against real sockets on loopback.

mod support;
mod unary;
