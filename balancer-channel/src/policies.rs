//! The policies that come with the channel.

use balancer_registry::Registry;

/// Registers the shipped policies, where the application has not registered others of their names.
pub fn register_shipped(registry: &Registry) {
    let shipped: Vec<std::sync::Arc<dyn balancer_api::Builder>> = vec![
        #[cfg(feature = "pick-first")]
        std::sync::Arc::new(balancer_pickfirst::PickFirst::new()),
        #[cfg(feature = "round-robin")]
        std::sync::Arc::new(balancer_roundrobin::RoundRobin::new()),
    ];
    for builder in shipped {
        if registry.get(builder.name()).is_none()
            && let Err(error) = registry.register(builder)
        {
            tracing::error!(%error, "a shipped policy cannot be registered");
        }
    }
}
