//! What is wrong or odd about a document, up to a number that nobody minds reading.

use balancer_api::{ConfigError, ConfigWarning};

use crate::{
    Limits,
    path::{Path, cut},
};

/// Collects errors and warnings. Behind the limit they are only counted, and cost nothing.
pub(crate) struct Report {
    errors: Vec<ConfigError>,
    omitted_errors: usize,
    warnings: Vec<ConfigWarning>,
    omitted_warnings: usize,
    max_errors: usize,
    max_warnings: usize,
}

/// A finished report of a document that is wrong.
pub(crate) struct Findings {
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) omitted: usize,
    pub(crate) warnings: Vec<ConfigWarning>,
}

// === impl Report ===

impl Report {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            errors: Vec::new(),
            omitted_errors: 0,
            warnings: Vec::new(),
            omitted_warnings: 0,
            max_errors: limits.errors(),
            max_warnings: limits.max_warnings,
        }
    }

    /// The value at `path` breaks `rule`.
    pub(crate) fn error(&mut self, path: &Path<'_>, value: &str, rule: impl Into<String>) {
        self.error_with(|| ConfigError::new(path.render(), value, rule));
    }

    /// An error that is made only if it will be reported.
    pub(crate) fn error_with(&mut self, make: impl FnOnce() -> ConfigError) {
        if self.errors.len() < self.max_errors {
            self.errors.push(make());
        } else {
            self.omitted_errors += 1;
        }
    }

    /// What stands at `path` is accepted but probably not meant.
    pub(crate) fn warn(&mut self, path: &Path<'_>, message: impl FnOnce() -> String) {
        self.warn_with(|| ConfigWarning::new(path.render(), message()));
    }

    /// A warning that is made only if it will be kept.
    pub(crate) fn warn_with(&mut self, make: impl FnOnce() -> ConfigWarning) {
        if self.warnings.len() < self.max_warnings {
            self.warnings.push(make());
        } else {
            self.omitted_warnings += 1;
        }
    }

    /// The warnings, or everything if there are errors.
    pub(crate) fn finish(mut self) -> Result<Vec<ConfigWarning>, Findings> {
        if self.omitted_warnings > 0 {
            let message = format!("{} more warnings are not shown", self.omitted_warnings);
            self.warnings.push(ConfigWarning::new("", message));
        }
        if self.errors.is_empty() {
            Ok(self.warnings)
        } else {
            Err(Findings {
                errors: self.errors.into_iter().map(short_path).collect(),
                omitted: self.omitted_errors,
                warnings: self.warnings,
            })
        }
    }

    /// The first error, for callers that can pass on only one.
    pub(crate) fn into_first_error(self) -> Option<ConfigError> {
        self.errors.into_iter().next().map(short_path)
    }
}

/// A policy's parser may have put anything in the path.
fn short_path(error: ConfigError) -> ConfigError {
    if error.path().len() <= 256 {
        return error;
    }
    let path = cut(error.path().to_owned());
    ConfigError::new(path, error.value(), error.rule())
}
