//! `balancer policies`: what is registered.

use balancer_channel::{Registry, register_shipped};
use serde::Serialize;

use crate::{
    args::PoliciesArgs,
    exit::{Outcome, Unusable},
    format::Table,
    output,
};

/// The answer of `--json`.
#[derive(Serialize)]
struct Answer {
    policies: Vec<Policy>,
}

#[derive(Serialize)]
struct Policy {
    name: String,
    description: String,
}

/// The policies that this command knows.
pub(crate) fn shipped() -> Registry {
    let registry = Registry::new();
    register_shipped(&registry);
    registry
}

pub(crate) fn run(args: &PoliciesArgs) -> Result<Outcome, Unusable> {
    let policies = shipped().policies().into_iter();
    let policies = policies.map(|(name, builder)| Policy {
        name: name.to_string(),
        description: builder.description().to_owned(),
    });
    let answer = Answer {
        policies: policies.collect(),
    };
    if args.json {
        output::answer_json(&answer)?;
    } else {
        let mut table = Table::new(&["POLICY", "WHAT IT DOES"], &[]);
        for policy in answer.policies {
            table.row([policy.name, policy.description]);
        }
        output::answer(&table.render())?;
    }
    Ok(Outcome::Good)
}
