//! The command as its users meet it: the binary is run, and its output and exit code are read.
#![forbid(unsafe_code)]

mod bad_input;
mod bad_servers;
mod call;
mod check_config;
mod demo;
mod interrupt;
mod policies;
mod readme;
mod support;
mod tls;
