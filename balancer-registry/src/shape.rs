//! The objects of a service config and their fields, and what an unknown key may have meant.

use crate::path::shown;

/// An object of the service config: where it stands and which fields it has.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Where it stands, for people.
    place: &'static str,
    pub(crate) fields: &'static [&'static str],
}

pub(crate) const TOP: Shape = Shape {
    place: "at the top of the service config",
    fields: &[
        "loadBalancingConfig",
        "loadBalancingPolicy",
        "methodConfig",
        "retryThrottling",
        "healthCheckConfig",
        "connectionScaling",
    ],
};

pub(crate) const METHOD_CONFIG: Shape = Shape {
    place: "in an entry of methodConfig",
    fields: &[
        "name",
        "waitForReady",
        "timeout",
        "maxRequestMessageBytes",
        "maxResponseMessageBytes",
        "retryPolicy",
        "hedgingPolicy",
    ],
};

pub(crate) const METHOD_NAME: Shape = Shape {
    place: "in an entry of methodConfig's name",
    fields: &["service", "method"],
};

pub(crate) const RETRY_POLICY: Shape = Shape {
    place: "in a retryPolicy",
    fields: &[
        "maxAttempts",
        "initialBackoff",
        "maxBackoff",
        "backoffMultiplier",
        "retryableStatusCodes",
    ],
};

pub(crate) const HEDGING_POLICY: Shape = Shape {
    place: "in a hedgingPolicy",
    fields: &["maxAttempts", "hedgingDelay", "nonFatalStatusCodes"],
};

pub(crate) const RETRY_THROTTLING: Shape = Shape {
    place: "in retryThrottling",
    fields: &["maxTokens", "tokenRatio"],
};

pub(crate) const HEALTH_CHECK: Shape = Shape {
    place: "in healthCheckConfig",
    fields: &["serviceName"],
};

pub(crate) const CONNECTION_SCALING: Shape = Shape {
    place: "in connectionScaling",
    fields: &["maxConnectionsPerSubchannel"],
};

pub(crate) const TXT_CHOICE: Shape = Shape {
    place: "in a choice of a TXT record",
    fields: &[
        "clientLanguage",
        "percentage",
        "clientHostname",
        "serviceConfig",
    ],
};

/// Where a misplaced field may belong, the likeliest place first.
const PLACES: [&Shape; 8] = [
    &TOP,
    &METHOD_CONFIG,
    &RETRY_POLICY,
    &HEDGING_POLICY,
    &RETRY_THROTTLING,
    &HEALTH_CHECK,
    &CONNECTION_SCALING,
    &METHOD_NAME,
];

/// A field's name is at most this long, and so is what can be mistaken for it.
const LONGEST: usize = 40;

/// How many letters may be missing, added or wrong in a long name.
const MAX_TYPOS: usize = 3;

// === impl Shape ===

impl Shape {
    pub(crate) fn position(&self, key: &str) -> Option<usize> {
        self.fields.iter().position(|field| *field == key)
    }

    /// What to say about a key that this object does not have. `is_policy` tells whether a policy
    /// of that name is known.
    pub(crate) fn unknown(&self, key: &str, is_policy: impl FnOnce(&str) -> bool) -> String {
        if let Some(field) = self.near(key) {
            return format!("unknown field; did you mean {field}?");
        }
        for place in PLACES {
            if let Some(field) = place.same(key) {
                return format!("{field} means nothing here; it belongs {}", place.place);
            }
        }
        if is_policy(key) {
            let key = shown(key);
            return format!(
                "a policy means nothing here; write \"loadBalancingConfig\": [{{\"{key}\": {{…}}}}]"
            );
        }
        for place in PLACES {
            if let Some(field) = place.near(key) {
                let place = place.place;
                return format!("unknown field; did you mean {field}? It belongs {place}");
            }
        }
        "unknown field; it is ignored".to_owned()
    }

    /// The field that differs from `key` in case or separators at most.
    fn same(&self, key: &str) -> Option<&'static str> {
        if key.len() > LONGEST {
            return None;
        }
        let key = folded(key);
        let mut fields = self.fields.iter();
        fields.find(|field| folded(field) == key).copied()
    }

    /// The field that differs from `key` in case, separators or a few letters only.
    fn near(&self, key: &str) -> Option<&'static str> {
        if key.len() > LONGEST {
            return None;
        }
        let close = |field: &&&str| {
            let field = folded(field);
            // In a short name a few letters make another word.
            let allowed = MAX_TYPOS.min(field.len() / 5);
            typos(folded(key).as_bytes(), field.as_bytes()) <= allowed
        };
        self.same(key)
            .or_else(|| self.fields.iter().find(close).copied())
    }
}

/// A name without what people vary: case and separators.
fn folded(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' ' | '.'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// How many letters must be added, removed or replaced to turn `a` into `b` (Levenshtein).
fn typos(a: &[u8], b: &[u8]) -> usize {
    if a.len().abs_diff(b.len()) > MAX_TYPOS {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
