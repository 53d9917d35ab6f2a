//! The command line: verbs, flags, and what `--help` teaches.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::{ArgGroup, Parser, Subcommand};
use http::uri::PathAndQuery;

use crate::duration;

/// See, call and check gRPC load balancing.
#[derive(Debug, Parser)]
#[command(name = "balancer", version, about, after_help = EXAMPLES, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Watch round_robin carry load through the loss and the return of a backend
    ///
    /// Starts real gRPC backends on loopback, sends a steady stream of RPCs through a channel that
    /// balances them with round_robin, kills one backend, restarts it, and says what was lost and
    /// why. Needs nothing but this program and takes some ten seconds.
    ///
    /// Exit code: 0 if every RPC that could be saved was, 1 if not.
    #[command(after_help = DEMO_EXAMPLES, verbatim_doc_comment)]
    Demo(DemoArgs),
    /// Send RPCs to a gRPC server, or to many, and say how it went
    ///
    /// Asks for the server's health unless --method names another method. Works against any gRPC
    /// server. RPCs with more than one response message are read to their end.
    ///
    /// Exit code: 0 if all RPCs were OK, 1 if some failed, 2 for bad usage, target or config, 130
    /// after Ctrl-C (what was done until then is reported).
    #[command(after_help = CALL_EXAMPLES, verbatim_doc_comment)]
    Call(Box<CallArgs>),
    /// Say which policy a service config chooses, and why
    ///
    /// Exit code: 0 if the config is valid, 1 if it is not, 2 if it cannot be read.
    #[command(after_help = CHECK_EXAMPLES, verbatim_doc_comment)]
    CheckConfig(CheckConfigArgs),
    /// List the load-balancing policies that a service config can name
    Policies(PoliciesArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// How many backends to start; the story needs two at least
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) backends: u16,
    /// Only start the backends, say where they are, and serve until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub(crate) serve: bool,
    /// Print one JSON object instead of the story
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("security").required(true).args(["plaintext", "tls"]))]
pub(crate) struct CallArgs {
    /// Where the servers are: host:port, dns:///host:port, ipv4:1.2.3.4:80,5.6.7.8:80,
    /// ipv6:[::1]:80, unix:path, passthrough:///address
    pub(crate) target: String,

    /// Do not secure connections
    #[arg(
        long,
        help_heading = "Security (one of --plaintext and --tls is required)"
    )]
    pub(crate) plaintext: bool,
    /// Secure connections with TLS, trusting the platform's roots unless --ca is given
    #[arg(
        long,
        help_heading = "Security (one of --plaintext and --tls is required)"
    )]
    pub(crate) tls: bool,
    /// Trust these root certificates (PEM)
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "plaintext",
        help_heading = "Security (one of --plaintext and --tls is required)"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// Prove this identity: a certificate and those that lead to a root (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "key",
        conflicts_with = "plaintext",
        help_heading = "Security (one of --plaintext and --tls is required)"
    )]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of --cert (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert",
        conflicts_with = "plaintext",
        help_heading = "Security (one of --plaintext and --tls is required)"
    )]
    pub(crate) key: Option<PathBuf>,
    /// The name that servers must prove, and the :authority of RPCs, in place of the target's
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "plaintext",
        help_heading = "Security (one of --plaintext and --tls is required)"
    )]
    pub(crate) server_name: Option<String>,

    /// The service config that chooses the policy; pick_first without one
    #[arg(long, value_name = "JSON|@FILE", help_heading = "RPCs")]
    pub(crate) service_config: Option<String>,
    /// The method to call
    #[arg(long, value_name = "/PKG.SVC/METHOD", default_value = "/grpc.health.v1.Health/Check", value_parser = method, help_heading = "RPCs")]
    pub(crate) method: PathAndQuery,
    /// The request message, in hexadecimal, without gRPC's 5-byte prefix; empty by default
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true, value_parser = hex, help_heading = "RPCs")]
    pub(crate) data_hex: Bytes,
    /// How long an RPC may take, waiting for a connection included: 200ms, 5s, 1m
    #[arg(long, value_name = "D", default_value = "10s", value_parser = duration::parse, help_heading = "RPCs")]
    pub(crate) timeout: Duration,
    /// Let RPCs wait for a connection instead of failing while there is none
    #[arg(long, help_heading = "RPCs")]
    pub(crate) wait_for_ready: bool,

    /// How many RPCs to send
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Load")]
    pub(crate) count: u64,
    /// Send RPCs for so long instead: 200ms, 5s, 1m
    #[arg(long, value_name = "D", value_parser = duration::parse, help_heading = "Load")]
    pub(crate) duration: Option<Duration>,
    /// How many RPCs to have in flight at once
    #[arg(long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Load")]
    pub(crate) concurrency: u32,
    /// Send at most so many RPCs per second; as fast as they return by default
    #[arg(long, value_name = "R", value_parser = rate, help_heading = "Load")]
    pub(crate) rps: Option<f64>,

    /// Hold the first RPCs until every backend was tried once, at most so long after the first
    /// connection: without it, whoever connects first gets them all. 0s for none
    #[arg(long, value_name = "D", default_value = "200ms", value_parser = duration::parse_or_zero, help_heading = "Load")]
    pub(crate) warm_up: Duration,

    /// Print one JSON object instead of a summary
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckConfigArgs {
    /// The service config's file; - for stdin
    #[arg(value_name = "FILE|-", allow_hyphen_values = false)]
    pub(crate) file: String,
    /// Print one JSON object instead of an explanation
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PoliciesArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  balancer demo
  balancer call ipv4:127.0.0.1:50051,127.0.0.1:50052 --plaintext --count 1000 \\
      --service-config '{\"loadBalancingConfig\":[{\"round_robin\":{}}]}'
  balancer check-config service-config.json
  balancer policies

Answers go to stdout, everything else to stderr; --json prints exactly one object.";

const DEMO_EXAMPLES: &str = "\
Examples:
  balancer demo                 the whole story, as a live table on a terminal
  balancer demo --backends 5    with more backends
  balancer demo --serve         backends for experiments of your own with `balancer call`";

const CALL_EXAMPLES: &str = "\
Examples:
  Is it healthy?
    balancer call localhost:50051 --plaintext
  A thousand RPCs, eight at a time, spread over everything that the name stands for:
    balancer call dns:///greeter.prod:443 --tls --count 1000 --concurrency 8 \\
        --service-config '{\"loadBalancingConfig\":[{\"round_robin\":{}}]}'
  Steady load for a minute while you restart a server, as JSON:
    balancer call ipv4:10.0.0.1:50051,10.0.0.2:50051 --plaintext --duration 1m --rps 200 --json
  Another method. The message is {1: \"hi\"}: field 1, two bytes:
    balancer call localhost:50051 --plaintext --method /helloworld.Greeter/SayHello \\
        --data-hex 0a026869
  Wait until a server comes up:
    balancer call localhost:50051 --plaintext --wait-for-ready --timeout 1m

JSON fields: target, policy, rpcs, ok, codes {name: count}, backends {address: attempts sent there},
latency_us {p50, p90, p99, p999, max} over all RPCs, elapsed_ms, states [{at_ms, state}],
errors [{code, message, count}].";

const CHECK_EXAMPLES: &str = "\
Examples:
  balancer check-config service-config.json
  echo '{\"loadBalancingConfig\":[{\"round_robin\":{}}]}' | balancer check-config -

JSON fields: valid, policy, config, source, skipped [{name, reason}], warnings; or, where valid is
false, errors [{path, value, rule, message}].";

/// `/pkg.Svc/Method`.
fn method(text: &str) -> Result<PathAndQuery, String> {
    const RULE: &str = "must be written /package.Service/Method";
    let (service, method) = text
        .strip_prefix('/')
        .and_then(|rest| rest.split_once('/'))
        .ok_or(RULE)?;
    let named = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        !name.is_empty() && name.chars().all(allowed)
    };
    if named(service) && named(method) {
        PathAndQuery::try_from(text).map_err(|_| RULE.to_owned())
    } else {
        Err(RULE.to_owned())
    }
}

/// Pairs of hexadecimal digits.
fn hex(text: &str) -> Result<Bytes, String> {
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("{bad:?} is not a hexadecimal digit"));
    }
    if !text.len().is_multiple_of(2) {
        return Err("must have an even number of digits, two for each byte".to_owned());
    }
    let digit = |c: u8| char::from(c).to_digit(16).unwrap_or(0) as u8;
    let bytes = text.as_bytes().chunks_exact(2);
    Ok(bytes
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect())
}

/// RPCs per second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // One in eleven days, and more than any machine can send.
        Ok(rate) if (1e-6..=1e9).contains(&rate) => Ok(rate),
        _ => Err("must be a number above 0, such as 200 or 0.5".to_owned()),
    }
}
