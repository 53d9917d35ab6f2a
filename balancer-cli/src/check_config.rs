//! `balancer check-config`: which policy a service config chooses, and why.

use std::fmt::Write as _;

use balancer_registry::{PolicySource, Resolution, ServiceConfig, ServiceConfigError};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    args::CheckConfigArgs,
    config_source,
    exit::{Outcome, Unusable},
    format, output,
    policies::shipped,
};

/// The answer of `--json` for a config that is valid.
#[derive(Serialize)]
struct Valid<'a> {
    valid: bool,
    policy: &'a str,
    config: &'a RawValue,
    source: String,
    skipped: Vec<Skipped<'a>>,
    /// Where there may be more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections_per_subchannel: Option<u32>,
    warnings: Vec<String>,
}

/// The answer of `--json` for one that is not.
#[derive(Serialize)]
struct Invalid<'a> {
    valid: bool,
    errors: Vec<Wrong<'a>>,
    /// How many more errors there are.
    omitted: usize,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Skipped<'a> {
    name: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Wrong<'a> {
    path: &'a str,
    value: &'a str,
    rule: &'a str,
    message: String,
}

pub(crate) fn run(args: &CheckConfigArgs) -> Result<Outcome, Unusable> {
    let bytes = config_source::read(&args.file)?;
    match ServiceConfig::parse(bytes, &shipped()) {
        Ok(config) => {
            if args.json {
                output::answer_json(&Valid::new(&config)?)?;
            } else {
                output::answer(&explained(&config))?;
            }
            Ok(Outcome::Good)
        }
        Err(error) => {
            if args.json {
                output::answer_json(&Invalid::new(&error))?;
            } else {
                output::answer(&complained(&error))?;
            }
            Ok(Outcome::Bad)
        }
    }
}

/// What is wrong with a config, for people: a line for each error.
pub(crate) fn complaint(error: &ServiceConfigError) -> String {
    let mut text = String::new();
    for wrong in error.errors() {
        let _ = writeln!(text, "  {wrong}");
    }
    if error.omitted() > 0 {
        let _ = writeln!(text, "  and {} more", error.omitted());
    }
    text
}

fn explained(config: &ServiceConfig) -> String {
    let chosen = config.resolve();
    let mut text = String::from("the service config is valid\n\n");
    let _ = writeln!(text, "policy   {}", chosen.name());
    let _ = writeln!(text, "config   {}", format::shown(chosen.config_json()));
    let _ = writeln!(text, "why      {}", why(chosen));
    for skipped in chosen.skipped() {
        let _ = writeln!(text, "not      {skipped}");
    }
    if let Some(max) = scaling(config) {
        let _ = writeln!(
            text,
            "scaling  up to {max} connections to each backend, where it allows few streams"
        );
    }
    for warning in config.warnings() {
        let _ = writeln!(text, "warning  {warning}");
    }
    text
}

/// How many connections a backend may get, if that is more than one.
fn scaling(config: &ServiceConfig) -> Option<u32> {
    Some(config.max_connections_per_subchannel()).filter(|max| *max > 1)
}

fn complained(error: &ServiceConfigError) -> String {
    let mut text = String::from("the service config is INVALID: nothing of it would be used\n\n");
    text.push_str(&complaint(error));
    for warning in error.warnings() {
        let _ = writeln!(text, "  warning: {warning}");
    }
    text
}

fn why(chosen: &Resolution) -> String {
    match chosen.source() {
        PolicySource::LoadBalancingConfig(_) => format!(
            "{} is the first entry whose policy is registered",
            chosen.source()
        ),
        PolicySource::LoadBalancingPolicy => {
            "there is no loadBalancingConfig, and the older field loadBalancingPolicy names it"
                .to_owned()
        }
        _ => "nothing in it chooses a policy, and this is the default".to_owned(),
    }
}

// === impl Valid ===

impl<'a> Valid<'a> {
    fn new(config: &'a ServiceConfig) -> Result<Self, Unusable> {
        let chosen = config.resolve();
        let skipped = chosen.skipped().iter().map(|skipped| Skipped {
            name: skipped.name(),
            reason: skipped.reason(),
        });
        Ok(Self {
            valid: true,
            policy: chosen.name(),
            config: serde_json::from_str(chosen.config_json()).map_err(Unusable::new)?,
            source: chosen.source().to_string(),
            skipped: skipped.collect(),
            max_connections_per_subchannel: scaling(config),
            warnings: config.warnings().iter().map(ToString::to_string).collect(),
        })
    }
}

// === impl Invalid ===

impl<'a> Invalid<'a> {
    fn new(error: &'a ServiceConfigError) -> Self {
        let errors = error.errors().iter().map(|wrong| Wrong {
            path: wrong.path(),
            value: wrong.value(),
            rule: wrong.rule(),
            message: wrong.to_string(),
        });
        Self {
            valid: false,
            errors: errors.collect(),
            omitted: error.omitted(),
            warnings: error.warnings().iter().map(ToString::to_string).collect(),
        }
    }
}
