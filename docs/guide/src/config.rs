//! Step 4: what a service config may say of the policy, parsed into a type that cannot be wrong.

use std::time::Duration;

use balancer_api::{ConfigError, ConfigFields, LbConfig, ParseContext, Rejected};

/// What was configured, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many backends each RPC chooses from.
    pub choice_count: u32,
    /// How many failures in a row put a backend aside.
    pub failures_in_a_row: u32,
    /// For how long it is put aside. More than zero.
    pub time_out: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            choice_count: 2,
            failures_in_a_row: 5,
            time_out: Duration::from_secs(30),
        }
    }
}

/// Parses the JSON beside the policy's name.
pub fn parse(json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
    let mut fields = ConfigFields::parse(json)?;
    let mut config = Config::default();
    if let Some(count) = fields.u32("choiceCount", 2..=u32::MAX)? {
        // More than ten cost more than they gain (gRFC A48).
        config.choice_count = count.min(10);
    }
    if let Some(failures) = fields.u32("failuresInARow", 1..=u32::MAX)? {
        config.failures_in_a_row = failures;
    }
    if let Some(time_out) = fields.duration("timeOut")? {
        if time_out.is_zero() {
            return Err(ConfigError::new("timeOut", "0s", "must be more than zero"));
        }
        config.time_out = time_out;
    }
    fields.finish(cx);
    Ok(LbConfig::new(json, config))
}

impl Config {
    /// The configuration that came with a resolver result.
    pub fn of(config: Option<&LbConfig>) -> Result<Self, Rejected> {
        match config {
            None => Ok(Self::default()),
            Some(config) => match config.downcast_ref() {
                Some(config) => Ok(*config),
                None => Err(Rejected::new("the configuration is another policy's")),
            },
        }
    }
}
