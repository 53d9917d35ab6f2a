//! Policies by name.

use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use balancer_api::{Builder, ChildConfig, ChildResolver, ConfigError, ParseContext};
use dashmap::DashMap;

use crate::{
    Limits, Registration, RegistrationError, cache::Cache, contain::contained, resolver::Resolver,
};

/// Finds the [`Builder`] of a policy by its name in a service config.
///
/// A registry may be layered over another one: what it does not know, its parent may. There is one
/// for the whole process, [`global`](Self::global), empty until somebody registers something; a
/// channel can have its own on top.
///
/// A clone is the same registry. Whoever has resolved a policy keeps its builder, whatever is
/// registered afterwards.
///
/// # Names
/// A name is matched exactly. Only where there is no exact match, in the parents neither, one that
/// differs in ASCII case will do (the first in the order of bytes, the nearest registry first), and
/// a config that relies on it gets a warning. Two names that differ in case only can both be
/// registered.
///
/// # Threads
/// Any thread, many at once. No lock is held while a builder's code runs.
///
/// ```
/// use balancer_api::base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet};
/// use balancer_api::{Picker, QueuePicker};
/// use balancer_registry::Registry;
/// use std::sync::Arc;
/// # struct Mine;
/// # impl PickerBuilder for Mine {
/// #     type Data = ();
/// #     fn data(&mut self, _: &balancer_api::Endpoint, _: &BaseContext<'_>) {}
/// #     fn build_picker(&mut self, _: &ReadySet<()>, _: &BaseContext<'_>) -> Arc<dyn Picker> {
/// #         Arc::new(QueuePicker)
/// #     }
/// # }
///
/// let registry = Registry::layered_over(Registry::global());
/// registry.register(Arc::new(BaseBuilder::new("mine", || Mine)))?;
/// assert!(registry.get("mine").is_some());
/// assert!(Registry::global().get("mine").is_none());
/// # Ok::<(), balancer_registry::RegistrationError>(())
/// ```
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    parent: Option<Registry>,
    /// By name in lower case, so that one look-up finds every spelling.
    shelves: DashMap<Box<str>, Vec<Policy>>,
    next_id: AtomicU64,
    /// Counts changes, for the cache.
    changes: AtomicU64,
    cache: Cache,
}

/// What is registered under one exact name. Never empty.
struct Policy {
    name: Arc<str>,
    /// The last one counts. At most one is permanent; the others belong to guards.
    entries: Vec<Entry>,
}

struct Entry {
    id: u64,
    builder: Arc<dyn Builder>,
    is_permanent: bool,
}

/// What a registration has done.
struct Added {
    name: Arc<str>,
    id: u64,
    replaced: Option<Arc<dyn Builder>>,
}

/// A builder as a name found it.
pub(crate) struct Found {
    /// The name that it is registered under.
    pub(crate) name: Arc<str>,
    pub(crate) builder: Arc<dyn Builder>,
}

static GLOBAL: LazyLock<Registry> = LazyLock::new(Registry::new);

// === impl Registry ===

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::with_parent(None)
    }

    /// A registry that knows what `parent` knows, now and later, and can be given more.
    pub fn layered_over(parent: &Self) -> Self {
        Self::with_parent(Some(parent.clone()))
    }

    /// The registry of the process. Nothing is in it until it is registered.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// Registers `builder` under its name, and returns the one that it replaces here.
    ///
    /// The last one registered counts, also over one of a parent's.
    ///
    /// # Errors
    /// The builder's name is empty or not always the same, or asking for it panics.
    pub fn register(
        &self,
        builder: Arc<dyn Builder>,
    ) -> Result<Option<Arc<dyn Builder>>, RegistrationError> {
        Ok(self.add(builder, true)?.replaced)
    }

    /// As [`register`](Self::register), until the guard is dropped. Then what was registered before
    /// or has been since counts again. For tests.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_guarded(
        &self,
        builder: Arc<dyn Builder>,
    ) -> Result<Registration, RegistrationError> {
        let added = self.add(builder, false)?;
        Ok(Registration::new(self.clone(), added.name, added.id))
    }

    /// Forgets whatever is registered here under exactly this name, guarded or not, and returns
    /// what counted. A parent's policy of that name shows again.
    pub fn unregister(&self, name: &str) -> Option<Arc<dyn Builder>> {
        let mut entries = self.edit(name, |policies| {
            let at = policies.iter().position(|policy| &*policy.name == name)?;
            Some(policies.swap_remove(at).entries)
        })?;
        entries.pop().map(|entry| entry.builder)
    }

    /// The builder of a policy, see [Names](Self#names).
    pub fn get(&self, name: &str) -> Option<Arc<dyn Builder>> {
        self.find(name).map(|found| found.builder)
    }

    /// The registered names, the parents' too, in order.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.policies().into_iter().map(|(name, _)| name).collect()
    }

    /// The registered policies, the parents' too, in the order of their names.
    pub fn policies(&self) -> Vec<(Arc<str>, Arc<dyn Builder>)> {
        let mut policies = Vec::new();
        for registry in self.layers() {
            for shelf in &registry.0.shelves {
                policies.extend(
                    shelf.iter().filter_map(|policy| {
                        Some((policy.name.clone(), policy.current()?.clone()))
                    }),
                );
            }
        }
        // Stable: the nearest registry's comes first and stays.
        policies.sort_by(|(a, _), (b, _)| a.cmp(b));
        policies.dedup_by(|(a, _), (b, _)| a == b);
        policies
    }

    pub(crate) fn find(&self, name: &str) -> Option<Found> {
        self.find_exactly(name).or_else(|| {
            let key = name.to_ascii_lowercase();
            self.layers()
                .find_map(|registry| registry.find_here(&key, |_| true))
        })
    }

    pub(crate) fn find_exactly(&self, name: &str) -> Option<Found> {
        let key = name.to_ascii_lowercase();
        self.layers()
            .find_map(|registry| registry.find_here(&key, |policy| &*policy.name == name))
    }

    /// Grows with every change here or in a parent.
    pub(crate) fn changes(&self) -> u64 {
        self.layers()
            .map(|registry| registry.0.changes.load(Ordering::Acquire))
            .fold(0, u64::wrapping_add)
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// Takes back what a guard registered.
    pub(crate) fn remove(&self, name: &str, id: u64) {
        // Dropped here, where no lock is held.
        let _removed = self.edit(name, |policies| {
            let at = policies.iter().position(|policy| &*policy.name == name)?;
            let entries = &mut policies[at].entries;
            let entry = entries.remove(entries.iter().position(|entry| entry.id == id)?);
            if entries.is_empty() {
                policies.swap_remove(at);
            }
            Some(entry)
        });
    }

    fn with_parent(parent: Option<Self>) -> Self {
        Self(Arc::new(Inner {
            parent,
            shelves: DashMap::new(),
            next_id: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            cache: Cache::default(),
        }))
    }

    fn add(
        &self,
        builder: Arc<dyn Builder>,
        is_permanent: bool,
    ) -> Result<Added, RegistrationError> {
        let name = steady_name(&*builder)?;
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            id,
            builder,
            is_permanent,
        };
        let key = name.to_ascii_lowercase();
        let mut shelf = self.0.shelves.entry(key.into()).or_default();
        let at = shelf.iter().position(|policy| policy.name == name);
        let at = at.unwrap_or_else(|| {
            shelf.push(Policy {
                name: name.clone(),
                entries: Vec::new(),
            });
            shelf.len() - 1
        });
        let entries = &mut shelf[at].entries;
        let replaced = entries.last().map(|entry| entry.builder.clone());
        // A permanent one replaces the one before it, which could never count again.
        let gone = is_permanent
            .then(|| entries.iter().position(|entry| entry.is_permanent))
            .flatten()
            .map(|at| entries.remove(at));
        entries.push(entry);
        self.0.changes.fetch_add(1, Ordering::Release);
        // A builder's drop is foreign code; it must find no lock held.
        drop(shelf);
        drop(gone);
        Ok(Added { name, id, replaced })
    }

    /// Changes the policies whose name is `name` but for case.
    fn edit<T>(&self, name: &str, change: impl FnOnce(&mut Vec<Policy>) -> Option<T>) -> Option<T> {
        let key = name.to_ascii_lowercase();
        let changed = change(&mut *self.0.shelves.get_mut(key.as_str())?);
        self.0
            .shelves
            .remove_if(key.as_str(), |_, policies| policies.is_empty());
        self.0.changes.fetch_add(1, Ordering::Release);
        changed
    }

    fn find_here(&self, key: &str, accept: impl Fn(&Policy) -> bool) -> Option<Found> {
        let shelf = self.0.shelves.get(key)?;
        let policy = shelf
            .iter()
            .filter(|policy| accept(policy))
            .min_by(|a, b| a.name.cmp(&b.name))?;
        Some(Found {
            name: policy.name.clone(),
            builder: policy.current()?.clone(),
        })
    }

    /// This registry, its parent, and so on.
    fn layers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |registry| registry.0.parent.as_ref())
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.names()).finish()
    }
}

impl ChildResolver for Registry {
    fn resolve_child(
        &self,
        list_json: &str,
        cx: &mut ParseContext<'_>,
    ) -> Result<ChildConfig, ConfigError> {
        Resolver::new(self, &Limits::default()).resolve_child(list_json, cx)
    }
}

// === impl Policy ===

impl Policy {
    fn current(&self) -> Option<&Arc<dyn Builder>> {
        self.entries.last().map(|entry| &entry.builder)
    }
}

/// The builder's name, if it is one that a policy can be registered under.
fn steady_name(builder: &dyn Builder) -> Result<Arc<str>, RegistrationError> {
    let ask = || contained(|| Arc::from(builder.name())).map_err(RegistrationError::Panicked);
    let name: Arc<str> = ask()?;
    if name.is_empty() {
        return Err(RegistrationError::EmptyName);
    }
    let again = ask()?;
    if name != again {
        return Err(RegistrationError::NameVaries { name, again });
    }
    Ok(name)
}
