//! Registering: for a while, or not at all.

use std::{error::Error, fmt, sync::Arc};

use crate::Registry;

/// Keeps a builder registered until it is dropped; from [`Registry::register_guarded`].
///
/// Guards may be dropped in any order: the youngest one left counts.
///
/// ```
/// # use balancer_api::{Balancer, BuildOptions, Builder, ClientConn};
/// # use std::sync::Arc;
/// # struct Fake;
/// # impl Builder for Fake {
/// #     fn name(&self) -> &str { "fake" }
/// #     fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> { unreachable!() }
/// # }
/// use balancer_registry::Registry;
/// let registry = Registry::new();
/// let guard = registry.register_guarded(Arc::new(Fake))?;
/// assert!(registry.get("fake").is_some());
/// drop(guard);
/// assert!(registry.get("fake").is_none());
/// # Ok::<(), balancer_registry::RegistrationError>(())
/// ```
#[must_use = "dropping it takes the registration back"]
#[derive(Debug)]
pub struct Registration {
    registry: Registry,
    name: Arc<str>,
    id: u64,
}

/// Why a builder was not registered. Nothing has changed then.
///
/// ```
/// use balancer_registry::RegistrationError;
/// assert_eq!(RegistrationError::EmptyName.to_string(), "a policy's name must not be empty");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The name is empty: no service config could choose it.
    EmptyName,
    /// The builder gave two names when asked twice.
    NameVaries {
        /// The first answer.
        name: Arc<str>,
        /// The second one.
        again: Arc<str>,
    },
    /// [`Builder::name`](balancer_api::Builder::name) panicked, with this message.
    Panicked(String),
}

// === impl Registration ===

impl Registration {
    pub(crate) fn new(registry: Registry, name: Arc<str>, id: u64) -> Self {
        Self { registry, name, id }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.remove(&self.name, self.id);
    }
}

// === impl RegistrationError ===

impl fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => f.write_str("a policy's name must not be empty"),
            Self::NameVaries { name, again } => write!(
                f,
                "a policy's name must not change: it was {name:?}, then {again:?}"
            ),
            Self::Panicked(message) => {
                write!(f, "asking for the policy's name panicked: {message}")
            }
        }
    }
}

impl Error for RegistrationError {}
