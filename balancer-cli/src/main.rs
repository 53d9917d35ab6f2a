//! The balancer command: see, call and check gRPC load balancing.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    balancer_cli::run(std::env::args_os())
}
