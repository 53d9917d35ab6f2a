//! What a service config says of RPCs to certain methods.

use std::{collections::HashMap, time::Duration};

use crate::{
    Attempts, HedgingPolicy, Limits, RetryPolicy,
    fields::{Fields, Unknown},
    json::Value,
    path::Path,
    report::Report,
    shape::{METHOD_CONFIG, METHOD_NAME},
};

/// What a service config says of an RPC. Each field is `None` where it says nothing.
///
/// Cheap to clone.
///
/// ```
/// use balancer_registry::MethodConfig;
/// use std::time::Duration;
/// fn deadline(app: Option<Duration>, config: &MethodConfig) -> Option<Duration> {
///     // The shorter one counts: a config can lower what the application allows, not raise it.
///     [app, config.timeout].into_iter().flatten().min()
/// }
/// # assert_eq!(deadline(Some(Duration::ZERO), &MethodConfig::default()), Some(Duration::ZERO));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MethodConfig {
    /// How long the RPC may take. The application's own deadline counts if it is shorter.
    pub timeout: Option<Duration>,
    /// Whether the RPC waits for a connection instead of failing. What the application says of a
    /// call counts before this.
    pub wait_for_ready: Option<bool>,
    /// How large a request may be. The application's own limit counts if it is smaller.
    pub max_request_message_bytes: Option<u32>,
    /// How large a response may be. The application's own limit counts if it is smaller.
    pub max_response_message_bytes: Option<u32>,
    /// Retries or hedging.
    pub attempts: Attempts,
}

/// The method configs of a service config, by path.
#[derive(Default)]
pub(crate) struct Methods {
    configs: Vec<MethodConfig>,
    /// `/service/method` for one method, `/service/` for all of a service. Where in `configs`.
    by_path: HashMap<Box<str>, usize>,
    /// For all methods that have no config of their own.
    default: Option<usize>,
}

/// Reads the names of all entries: they must differ, and there must not be too many.
struct Names {
    max: usize,
    count: usize,
    /// Where a path was named first.
    seen: HashMap<Box<str>, (usize, usize)>,
}

// === impl MethodConfig ===

impl MethodConfig {
    /// How the RPC is retried, if it is.
    pub fn retry_policy(&self) -> Option<&RetryPolicy> {
        match &self.attempts {
            Attempts::Retry(policy) => Some(policy),
            _ => None,
        }
    }

    /// How the RPC is hedged, if it is.
    pub fn hedging_policy(&self) -> Option<&HedgingPolicy> {
        match &self.attempts {
            Attempts::Hedge(policy) => Some(policy),
            _ => None,
        }
    }

    fn read(
        fields: &Fields<'_, '_>,
        path: &Path<'_>,
        limits: &Limits,
        unknown: &Unknown<'_>,
        report: &mut Report,
    ) -> Self {
        Self {
            timeout: fields.duration("timeout", report),
            wait_for_ready: fields.bool("waitForReady", report),
            max_request_message_bytes: fields.u32("maxRequestMessageBytes", 0..=u32::MAX, report),
            max_response_message_bytes: fields.u32("maxResponseMessageBytes", 0..=u32::MAX, report),
            attempts: Attempts::read(fields, path, limits, unknown, report),
        }
    }
}

// === impl Methods ===

impl Methods {
    pub(crate) fn read(
        top: &Fields<'_, '_>,
        limits: &Limits,
        unknown: &Unknown<'_>,
        report: &mut Report,
    ) -> Self {
        let mut methods = Self::default();
        let mut names = Names::new(limits);
        let list = top.list("methodConfig", report);
        let path = Path::Key(&Path::Root, "methodConfig");
        for (i, entry) in list.into_iter().flatten().enumerate() {
            let path = Path::Index(&path, i);
            let Some(fields) = Fields::read(entry, &path, &METHOD_CONFIG, unknown, report) else {
                continue;
            };
            let config = MethodConfig::read(&fields, &path, limits, unknown, report);
            methods.configs.push(config);
            let config = methods.configs.len() - 1;
            let Some(list) = fields.list("name", report) else {
                report.warn(&path, || "applies to no method: it has no name".to_owned());
                continue;
            };
            let path = Path::Key(&path, "name");
            let mut is_named = false;
            for (j, name) in list.enumerate() {
                is_named = true;
                match names.read(name, (i, j), &Path::Index(&path, j), unknown, report) {
                    Some(Name::Default) => methods.default = Some(config),
                    Some(Name::Path(path)) => {
                        methods.by_path.insert(path, config);
                    }
                    None => {}
                }
            }
            if !is_named {
                report.warn(&path, || {
                    "is empty: the entry applies to no method".to_owned()
                });
            }
        }
        names.finish(report);
        methods
    }

    /// The config of the method at `path`.
    pub(crate) fn get(&self, path: &str) -> Option<&MethodConfig> {
        let mut found = None;
        if !self.by_path.is_empty() {
            found = self.by_path.get(path).or_else(|| {
                let service = path.rfind('/')?;
                self.by_path.get(&path[..=service])
            });
        }
        found
            .or(self.default.as_ref())
            .and_then(|at| self.configs.get(*at))
    }

    /// How many names have a config.
    pub(crate) fn len(&self) -> usize {
        self.by_path.len() + usize::from(self.default.is_some())
    }
}

enum Name {
    Default,
    Path(Box<str>),
}

// === impl Names ===

impl Names {
    fn new(limits: &Limits) -> Self {
        Self {
            max: limits.max_method_names,
            count: 0,
            seen: HashMap::new(),
        }
    }

    fn read(
        &mut self,
        value: Value<'_>,
        at: (usize, usize),
        path: &Path<'_>,
        unknown: &Unknown<'_>,
        report: &mut Report,
    ) -> Option<Name> {
        self.count += 1;
        if self.count > self.max {
            return None;
        }
        let fields = Fields::read(value, path, &METHOD_NAME, unknown, report)?;
        // `None` where it is no string, which is reported then: as if it were not there it would be
        // another name, and may be somebody else's.
        let mut part = |field| match (fields.string(field, report), fields.value(field)) {
            (None, Some(_)) => None,
            (text, _) => Some(text.unwrap_or_default()),
        };
        let (service, method) = (part("service"), part("method"));
        let (service, method) = (service?, method?);
        if service.is_empty() && !method.is_empty() {
            let rule = "a method needs a service";
            report.error(path, value.raw(), rule);
            return None;
        }
        if service.starts_with('/') || service.ends_with('/') || method.contains('/') {
            report.warn(path, || {
                "the names of services and methods are written without slashes".to_owned()
            });
        }
        let key: Box<str> = match (&*service, &*method) {
            ("", _) => "".into(),
            (service, method) => format!("/{service}/{method}").into(),
        };
        if let Some((i, j)) = self.seen.get(&key) {
            let rule = format!("this name has a config already, in methodConfig[{i}].name[{j}]");
            report.error(path, value.raw(), rule);
            return None;
        }
        self.seen.insert(key.clone(), at);
        Some(if key.is_empty() {
            Name::Default
        } else {
            Name::Path(key)
        })
    }

    fn finish(self, report: &mut Report) {
        if self.count > self.max {
            let path = Path::Key(&Path::Root, "methodConfig");
            let rule = format!("may hold at most {} names", self.max);
            report.error(&path, &format!("{} names", self.count), rule);
        }
    }
}
