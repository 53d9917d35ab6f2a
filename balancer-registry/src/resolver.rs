//! Resolves policies inside policies, within a budget.

use std::cell::Cell;

use balancer_api::{ChildConfig, ChildResolver, ConfigError, ParseContext};

use crate::{Limits, Registry, json, policy, report::Report};

/// The registry while one service config is parsed.
///
/// Each policy reads all that is inside it, its children's configuration too, so with sixteen of
/// them inside each other the same text would be read sixteen times. A budget for the texts of all
/// child lists together keeps the time in proportion to the size limit.
pub(crate) struct Resolver<'r> {
    pub(crate) registry: &'r Registry,
    bytes: usize,
    bytes_left: Cell<usize>,
    max_policy_depth: usize,
}

// === impl Resolver ===

impl<'r> Resolver<'r> {
    pub(crate) fn new(registry: &'r Registry, limits: &Limits) -> Self {
        let bytes = limits.bytes().saturating_mul(limits.child_policy_factor);
        Self {
            registry,
            bytes,
            bytes_left: Cell::new(bytes),
            max_policy_depth: limits.max_policy_depth,
        }
    }
}

impl ChildResolver for Resolver<'_> {
    fn resolve_child(
        &self,
        list_json: &str,
        cx: &mut ParseContext<'_>,
    ) -> Result<ChildConfig, ConfigError> {
        // Deeper than any may be, the context has refused it already.
        if cx.depth() >= self.max_policy_depth {
            let max = self.max_policy_depth;
            let rule = format!("policies may not nest deeper than {max}");
            return Err(ConfigError::new("", list_json, rule));
        }
        let Some(left) = self.bytes_left.get().checked_sub(list_json.len()) else {
            let rule = format!(
                "child policies may have at most {} bytes together, those inside others counted \
                 each time",
                self.bytes
            );
            return Err(ConfigError::new("", list_json, rule));
        };
        self.bytes_left.set(left);
        let limits = Limits::of_a_child();
        let mut report = Report::new(&limits);
        match json::scan(list_json.as_bytes(), &limits, &mut report) {
            Some(doc) => policy::choose(doc.root(), self, cx, 0).map(|chosen| chosen.policy),
            None => Err(report.into_first_error().unwrap_or_else(|| {
                debug_assert!(false, "a scan that fails says why");
                ConfigError::new("", list_json, "must be JSON")
            })),
        }
    }
}
