//! Rule: the arrows between our crates point at the contract, and no other way.

use super::{Crate, Dep, Finding, Kind, Tree};

/// What a crate is to the others. The name decides, and a name we have not met is a policy: a new
/// crate starts under the strictest rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The contract.
    Api,
    /// One load-balancing policy.
    Policy,
    /// Names to builders, and service configs.
    Registry,
    /// The scripted ClientConn and its laws.
    Testkit,
    /// The channel without its runtime.
    ChannelCore,
    /// The channel.
    Channel,
    /// The binary.
    Cli,
    /// The scriptable HTTP/2 peer.
    Testpeer,
    /// Wrong policies and channels.
    Mutants,
    /// The channel in virtual time.
    Sim,
    /// The sources of the chapter for authors.
    Guide,
    /// The benchmarks.
    Benches,
    /// Ourselves.
    Xtask,
}

use Role::{
    Api, Benches, Channel, ChannelCore, Cli, Guide, Mutants, Policy, Registry, Sim, Testkit,
    Testpeer, Xtask,
};

/// Finds arrows between our crates that the design does not have.
pub fn arrows(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for from in &tree.crates {
        for dep in &from.deps {
            if let Some(to) = tree.get(&dep.name)
                && let Some(message) = refusal(from, dep, to)
            {
                let kind = match dep.kind {
                    Kind::Normal => "depends on",
                    Kind::Dev => "dev-depends on",
                    Kind::Build => "build-depends on",
                };
                let place = format!("{} {kind} {}", from.name, to.name);
                findings.push(Finding::new(place, message));
            }
        }
    }
    findings
}

// === impl Role ===

impl Role {
    /// The role of the crate with that name.
    pub(super) fn of(name: &str) -> Self {
        match name {
            "balancer-api" => Api,
            "balancer-registry" => Registry,
            "balancer-testkit" => Testkit,
            "balancer-channel-core" => ChannelCore,
            "balancer-channel" => Channel,
            "balancer-cli" => Cli,
            "balancer-testpeer" => Testpeer,
            "balancer-mutants" => Mutants,
            "balancer-sim" => Sim,
            "balancer-guide" => Guide,
            "benches" => Benches,
            "xtask" => Xtask,
            _ => Policy,
        }
    }

    /// What its normal and build dependencies may point at. `None`: anything.
    fn may_depend_on(self) -> Option<&'static [Role]> {
        Some(match self {
            Api | Testpeer => &[],
            Policy | Registry | Testkit | ChannelCore => &[Api],
            Channel => &[Api, Registry, ChannelCore, Policy],
            Cli => &[Api, Registry, Channel, Policy],
            Mutants => &[Api, Testkit, Policy],
            Sim => &[Api, ChannelCore, Policy],
            Benches | Guide | Xtask => return None,
        })
    }

    /// What its tests may point at beyond that, when it is published.
    fn may_test_with(self) -> &'static [Role] {
        match self {
            Policy => &[Testkit, Testpeer, Registry],
            _ => &[Testkit, Testpeer],
        }
    }
}

/// Why `from` may not have that dependency on `to`, if it may not.
fn refusal(from: &Crate, dep: &Dep, to: &Crate) -> Option<String> {
    let (role, target) = (Role::of(&from.name), Role::of(&to.name));
    if matches!(target, Benches | Xtask | Mutants | Sim | Guide) {
        return Some(format!("nobody depends on {}", to.name));
    }
    let normal = role.may_depend_on()?;
    if role == Channel && target == Policy && dep.kind != Kind::Dev && !dep.optional {
        return Some("the channel's default policies come by feature: make it optional".into());
    }
    if normal.contains(&target) {
        return None;
    }
    let mut allowed = normal.to_vec();
    if dep.kind == Kind::Dev && from.published {
        if role.may_test_with().contains(&target) {
            return None;
        }
        allowed.extend_from_slice(role.may_test_with());
    }
    let allowed: Vec<_> = allowed.iter().map(|role| format!("{role:?}")).collect();
    Some(match allowed.as_slice() {
        [] => format!("{role:?} depends on no crate of ours"),
        _ => format!("{role:?} may point at {} only", allowed.join(", ")),
    })
}
