//! Chooses a policy from a list, and has its configuration parsed.

use std::{borrow::Cow, sync::Arc};

use balancer_api::{Builder, ChildConfig, ConfigError, ConfigWarning, LbConfig, ParseContext};

use crate::{
    SkippedPolicy, cache::Parsed, contain::contained, fields::name_list, json::Value, path::shown,
    registry::Found, resolver::Resolver,
};

/// The policy that a list chose.
pub(crate) struct Chosen {
    pub(crate) name: Arc<str>,
    pub(crate) policy: ChildConfig,
    /// Its configuration as it was given to the parser.
    pub(crate) json: Box<str>,
    pub(crate) index: usize,
    pub(crate) skipped: Vec<SkippedPolicy>,
    /// How many more were skipped than were to be listed.
    pub(crate) more_skipped: usize,
}

/// Of what one policy's parser says, this many warnings are passed on: a hostile config nests
/// policies, and every level copies them.
const MAX_WARNINGS: usize = 64;

/// Chooses from a list such as `[{"round_robin":{}}]`: the first name that is registered decides,
/// and if its configuration is invalid, so is the list. Paths are relative to the list.
pub(crate) fn choose(
    list: Value<'_>,
    resolver: &Resolver<'_>,
    cx: &mut ParseContext<'_>,
    max_skipped: usize,
) -> Result<Chosen, ConfigError> {
    let Some(mut entries) = list.elements() else {
        let rule = "must be a list of policies, such as [{\"round_robin\":{}}]";
        return Err(ConfigError::new("", list.raw(), rule));
    };
    let mut skipped = Skipped::new(max_skipped);
    let mut tried = Vec::new();
    for (index, entry) in entries.by_ref().enumerate() {
        let (name, config) = only_member(entry)
            .map_err(|rule| ConfigError::new(format!("[{index}]"), entry.raw(), rule))?;
        let Some(found) = resolver.registry.find(&name) else {
            skipped.add(&name, "not registered");
            tried.push(name);
            continue;
        };
        let path = format!("[{index}].{}", shown(&name));
        if *found.name != *name {
            let message = format!("no policy has exactly this name; {} is used", found.name);
            cx.warn(path.clone(), message);
        }
        let json = config.canonical();
        let parsed = parse(&found, &json, resolver, cx, &path)?;
        for later in entries {
            let reason = format!("not parsed: {} before it was chosen", found.name);
            match later.members() {
                Some(members) if members.clone().next().is_some() => {
                    members.for_each(|member| skipped.add(&member.key(), &reason));
                }
                _ => skipped.add(later.raw(), &reason),
            }
        }
        return Ok(Chosen {
            name: found.name,
            policy: ChildConfig::new(found.builder, Some(parsed)),
            json: json.into(),
            index,
            skipped: skipped.listed,
            more_skipped: skipped.more,
        });
    }
    let rule = if tried.is_empty() {
        "must name at least one policy".to_owned()
    } else {
        format!(
            "none of these policies is registered: {} (registered: {})",
            name_list(tried),
            name_list(resolver.registry.names())
        )
    };
    Err(ConfigError::new("", list.raw(), rule))
}

/// Has the configuration of a policy parsed. `path` is where it stands, for errors and warnings.
pub(crate) fn parse(
    found: &Found,
    json: &str,
    resolver: &Resolver<'_>,
    cx: &mut ParseContext<'_>,
    path: &str,
) -> Result<LbConfig, ConfigError> {
    let Found { name, builder } = found;
    let now_called = |name: Result<Arc<str>, String>| name.unwrap_or_else(|panic| panic.into());
    let now = now_called(contained(|| Arc::from(builder.name())));
    if now != *name {
        let rule = format!(
            "the policy registered as {} now calls itself {}: a name may not change",
            shown(name),
            shown(&now)
        );
        return Err(ConfigError::new(path, json, rule));
    }
    // Read before parsing: a registration during it must not leave a stale entry behind.
    let changes = resolver.registry.changes();
    let cache = resolver.registry.cache();
    let cached = cache.get(builder, json, cx.depth(), changes);
    let parsed = match cached {
        Some(parsed) => parsed,
        None => {
            let parsed = parse_afresh(&**builder, json, resolver, cx.depth())
                .map_err(|error| error.within(path))?;
            cache.put(builder, json, cx.depth(), changes, parsed)
        }
    };
    for warning in parsed.warnings.iter() {
        let warning = warning.clone().within(path);
        cx.warn(warning.path(), warning.message());
    }
    Ok(parsed.config)
}

fn parse_afresh(
    builder: &dyn Builder,
    json: &str,
    resolver: &Resolver<'_>,
    depth: usize,
) -> Result<Parsed, ConfigError> {
    let mut cx = ParseContext::new(resolver, depth);
    let parsed = contained(|| builder.parse_config(json, &mut cx)).map_err(|message| {
        let rule = format!("the policy's parser panicked: {}", shown(&message));
        ConfigError::new("", json, rule)
    });
    let config = parsed??;
    let mut warnings = cx.take_warnings();
    if warnings.len() > MAX_WARNINGS {
        let more = warnings.len() - MAX_WARNINGS;
        warnings.truncate(MAX_WARNINGS);
        warnings.push(ConfigWarning::new(
            "",
            format!("{more} more warnings are not shown"),
        ));
    }
    Ok(Parsed {
        config,
        warnings: warnings.into(),
    })
}

/// The name and configuration of an entry; otherwise the rule that it breaks.
fn only_member(entry: Value<'_>) -> Result<(Cow<'_, str>, Value<'_>), &'static str> {
    let mut members = entry
        .members()
        .ok_or("must be an object with one policy, such as {\"round_robin\":{}}")?;
    match (members.next(), members.next()) {
        (Some(member), None) => Ok((member.key(), member)),
        (None, _) => Err("must name a policy, such as {\"round_robin\":{}}"),
        (Some(_), Some(_)) => Err("must have one policy only; each one is an entry of its own"),
    }
}

/// Names that were passed over, up to a number.
struct Skipped {
    listed: Vec<SkippedPolicy>,
    more: usize,
    max: usize,
}

// === impl Skipped ===

impl Skipped {
    fn new(max: usize) -> Self {
        Self {
            listed: Vec::new(),
            more: 0,
            max,
        }
    }

    fn add(&mut self, name: &str, reason: &str) {
        if self.listed.len() < self.max {
            self.listed.push(SkippedPolicy::new(shown(name), reason));
        } else {
            self.more += 1;
        }
    }
}
