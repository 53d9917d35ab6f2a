//! Rule: what the contract, the policies and the channel's core may take from other people.

use super::arrows::Role;
use super::{Crate, Finding, Kind, Tree};

/// The vocabulary of the contract's public surface: stable crates that outlive any gRPC stack.
const CONTRACT: &[&str] = &["async-trait", "bytes", "futures-io", "http", "smallvec"];

/// What the contract may use inside, each with its reason; `cargo xtask hygiene` refuses a type of
/// theirs in the public listing.
const CONTRACT_INSIDE: &[(&str, &str)] = &[
    (
        "hashbrown",
        "the base finds a SubConn's slot by a table that keeps no SubConns, which std has not",
    ),
    (
        "serde_json",
        "equal configs are one value, so the contract has to read JSON",
    ),
];

/// What any policy may use inside: data, never effects. The contract reads its config for it.
const POLICY: &[&str] = &["smallvec"];

/// What a single policy may use beyond that, each with its reason.
const POLICY_EXTRA: &[(&str, &str, &str)] = &[];

/// Runtimes and transports: the channel's core reaches them through its `Env` only.
const NOT_IN_CORE: &[&str] = &[
    "h2",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "rustls",
    "socket2",
    "tokio",
    "tokio-rustls",
    "tokio-util",
    "tonic",
];

/// Finds direct dependencies on other people's crates that a crate may not have. What only its
/// tests need is free.
pub fn third_party(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in &tree.crates {
        let theirs = krate.deps.iter().filter(|dep| dep.kind != Kind::Dev);
        for dep in theirs.filter(|dep| tree.get(&dep.name).is_none()) {
            if let Some(message) = refusal(krate, &dep.name) {
                findings.push(Finding::new(
                    format!("{} depends on {}", krate.name, dep.name),
                    message,
                ));
            }
        }
    }
    findings
}

fn refusal(krate: &Crate, dep: &str) -> Option<String> {
    match Role::of(&krate.name) {
        Role::Api => {
            let inside = CONTRACT_INSIDE.iter().any(|(name, _)| *name == dep);
            let allowed = inside || CONTRACT.contains(&dep);
            (!allowed).then(|| {
                format!(
                    "the contract is written in {} and std only",
                    CONTRACT.join(", ")
                )
            })
        }
        Role::Policy => {
            let extra = POLICY_EXTRA
                .iter()
                .any(|(name, extra, _)| *name == krate.name && *extra == dep);
            let allowed = extra || POLICY.contains(&dep);
            (!allowed).then(|| {
                let list = POLICY.join(", ");
                format!("a policy is a pure state machine: {list}, or a line with its reason here")
            })
        }
        Role::ChannelCore if NOT_IN_CORE.contains(&dep) => {
            Some("the core does its effects through its Env, so that it runs under a model".into())
        }
        _ => None,
    }
}
