//! Why a service config is invalid.

use std::{error::Error, fmt};

use balancer_api::{ConfigError, ConfigWarning};

use crate::report::Findings;

/// A service config is invalid; nothing of it is used.
///
/// A channel that had a good one keeps it; one that had none fails its RPCs with this error's text.
/// At most [`Limits::max_errors`](crate::Limits::max_errors) errors are reported, in the order they
/// were found.
///
/// ```
/// # use balancer_api::{Balancer, BuildOptions, Builder, ClientConn};
/// # use std::sync::Arc;
/// # struct Fake;
/// # impl Builder for Fake {
/// #     fn name(&self) -> &str { "pick_first" }
/// #     fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> { unreachable!() }
/// # }
/// # let registry = balancer_registry::Registry::new();
/// # registry.register(Arc::new(Fake)).unwrap();
/// use balancer_registry::ServiceConfig;
/// let json = r#"{"methodConfig":[{"name":[{}],"timeout":"soon"}]}"#;
/// let error = ServiceConfig::parse(json, &registry).unwrap_err();
/// let first = &error.errors()[0];
/// assert_eq!(first.path(), "methodConfig[0].timeout");
/// assert_eq!(first.value(), "\"soon\"");
/// assert_eq!(first.rule(), "must be a duration such as \"1.5s\", not negative");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfigError {
    errors: Vec<ConfigError>,
    omitted: usize,
    warnings: Vec<ConfigWarning>,
}

// === impl ServiceConfigError ===

impl ServiceConfigError {
    /// For what cannot be: a config that could not be read though nothing was found wrong.
    pub(crate) fn internal() -> Self {
        Self {
            errors: vec![ConfigError::new("", "", "could not be read")],
            omitted: 0,
            warnings: Vec::new(),
        }
    }

    /// What is wrong. Never empty.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// How many more errors there are.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// What was odd besides.
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }
}

impl From<Findings> for ServiceConfigError {
    fn from(findings: Findings) -> Self {
        Self {
            errors: findings.errors,
            omitted: findings.omitted,
            warnings: findings.warnings,
        }
    }
}

impl fmt::Display for ServiceConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid service config: ")?;
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
        }
        match self.omitted {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Error for ServiceConfigError {}
