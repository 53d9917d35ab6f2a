//! Step 8: registered by name, chosen and configured by a service config.

use std::sync::Arc;

use balancer_guide::cautious;
use balancer_guide::config::Config;
use balancer_registry::{Registry, ServiceConfig};

#[test]
fn a_service_config_chooses_it_by_name() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::new();
    registry.register(Arc::new(cautious::builder()))?;

    let json = r#"{"loadBalancingConfig":[{"cautious":{"choiceCount":3}},{"round_robin":{}}]}"#;
    let config = ServiceConfig::parse(json, &registry)?;

    let chosen = config.resolve();
    assert_eq!(chosen.name(), cautious::NAME);
    let parsed: Option<&Config> = chosen.config().and_then(|config| config.downcast_ref());
    assert_eq!(parsed.map(|config| config.choice_count), Some(3));
    Ok(())
}

#[test]
fn a_service_config_that_is_wrong_is_refused_with_the_place() {
    let registry = Registry::new();
    registry.register(Arc::new(cautious::builder())).unwrap();
    let json = r#"{"loadBalancingConfig":[{"cautious":{"choiceCount":1}}]}"#;
    let refused = ServiceConfig::parse(json, &registry).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "invalid service config: loadBalancingConfig[0].cautious.choiceCount: 1: \
         must be a whole number of at least 2"
    );
}
