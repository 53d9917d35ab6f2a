//! Typed values that travel with addresses, endpoints and resolver results.

use std::{
    any::{Any, TypeId},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// A set of values, at most one of each type.
///
/// A resolver attaches what a policy may want to know: a weight, a locality, a priority. The type
/// is the key, so two crates cannot collide unless they share a type on purpose. Immutable and
/// cheap to clone; equal when they hold equal values of the same types.
///
/// ```
/// use balancer_api::Attributes;
///
/// #[derive(Clone, Debug, PartialEq, Eq, Hash)]
/// struct Weight(u32);
///
/// let attributes = Attributes::new().with(Weight(3));
/// assert_eq!(attributes.get::<Weight>(), Some(&Weight(3)));
/// assert_eq!(attributes, Attributes::new().with(Weight(7)).with(Weight(3)), "the last one stays");
/// ```
#[derive(Clone, Default)]
pub struct Attributes(Option<Arc<Vec<Entry>>>);

/// Sorted by `TypeId`, so that equality and hashing do not depend on the order of insertion.
#[derive(Clone)]
struct Entry {
    key: TypeId,
    value: Arc<dyn Value>,
}

/// What a value must be able to do once its type is forgotten.
trait Value: Any + Send + Sync {
    fn equals(&self, other: &dyn Value) -> bool;
    fn hash_into(&self, state: &mut dyn Hasher);
    fn debug(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

// === impl Attributes ===

impl Attributes {
    /// No values.
    pub const fn new() -> Self {
        Self(None)
    }

    /// These values and `value`, which replaces a value of the same type.
    #[must_use]
    pub fn with<T>(&self, value: T) -> Self
    where
        T: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static,
    {
        let key = TypeId::of::<T>();
        let mut entries: Vec<Entry> = self
            .entries()
            .iter()
            .filter(|entry| entry.key != key)
            .cloned()
            .collect();
        let at = entries.partition_point(|entry| entry.key < key);
        entries.insert(
            at,
            Entry {
                key,
                value: Arc::new(value),
            },
        );
        Self(Some(Arc::new(entries)))
    }

    /// These values but for the one of type `T`.
    #[must_use]
    pub fn without<T: 'static>(&self) -> Self {
        let key = TypeId::of::<T>();
        let left: Vec<Entry> = self
            .entries()
            .iter()
            .filter(|entry| entry.key != key)
            .cloned()
            .collect();
        if left.is_empty() {
            Self(None)
        } else {
            Self(Some(Arc::new(left)))
        }
    }

    /// The value of type `T`.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let key = TypeId::of::<T>();
        let entry = self.entries().iter().find(|entry| entry.key == key)?;
        let any: &dyn Any = &*entry.value;
        any.downcast_ref()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    fn entries(&self) -> &[Entry] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.entries(), other.entries());
        std::ptr::eq(mine, theirs)
            || (mine.len() == theirs.len()
                && mine
                    .iter()
                    .zip(theirs)
                    .all(|(a, b)| a.key == b.key && a.value.equals(&*b.value)))
    }
}

impl Eq for Attributes {}

impl Hash for Attributes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.entries().len());
        for entry in self.entries() {
            entry.value.hash_into(state);
        }
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Shown<'a>(&'a dyn Value);
        impl fmt::Debug for Shown<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.debug(f)
            }
        }
        f.debug_set()
            .entries(self.entries().iter().map(|entry| Shown(&*entry.value)))
            .finish()
    }
}

// === impl Value ===

impl<T> Value for T
where
    T: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static,
{
    fn equals(&self, other: &dyn Value) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref::<T>() == Some(self)
    }

    fn hash_into(&self, mut state: &mut dyn Hasher) {
        self.hash(&mut state);
    }

    fn debug(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
