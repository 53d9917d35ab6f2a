//! Equal configuration of the same policy is parsed once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use balancer_api::{Builder, ConfigWarning, LbConfig};

/// A policy's configuration with what its parser warned of.
#[derive(Clone)]
pub(crate) struct Parsed {
    pub(crate) config: LbConfig,
    pub(crate) warnings: Arc<[ConfigWarning]>,
}

/// Remembers what was parsed lately, so that a config that did not change stays the same
/// [`LbConfig`].
///
/// Two halves: when the young one is full it becomes the old one, and the old one is forgotten. So
/// what is asked for at least once in the time of a half stays, and there is a bound to everything.
/// It is emptied when a registration changes, since a composite's configuration holds the builders
/// of its children.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    /// What [`Registry::changes`](crate::Registry::changes) was for what is here.
    changes: u64,
    young: Half,
    old: Half,
}

#[derive(Default)]
struct Half {
    entries: HashMap<Key, Entry>,
    bytes: usize,
}

/// The builder's address, and the configuration's canonical text.
type Key = (usize, Arc<str>);

struct Entry {
    #[expect(
        dead_code,
        reason = "keeps the address from being given to another builder"
    )]
    builder: Arc<dyn Builder>,
    /// The deepest place where the text was accepted. Deeper down its children may be too deep.
    depth: usize,
    parsed: Parsed,
}

/// Of one half.
const MAX_ENTRIES: usize = 256;
const MAX_BYTES: usize = 256 << 10;

// === impl Cache ===

impl Cache {
    /// What is remembered of `json`, parsed by `builder` at `depth` or deeper.
    pub(crate) fn get(
        &self,
        builder: &Arc<dyn Builder>,
        json: &str,
        depth: usize,
        changes: u64,
    ) -> Option<Parsed> {
        let mut halves = self.lock();
        if halves.changes != changes {
            return None;
        }
        let key = key(builder, json);
        if let Some(entry) = halves.young.entries.get(&key) {
            return (entry.depth >= depth).then(|| entry.parsed.clone());
        }
        let entry = halves.old.entries.remove(&key)?;
        let parsed = (entry.depth >= depth).then(|| entry.parsed.clone());
        let forgotten = halves.insert(key, entry);
        drop(halves);
        drop(forgotten);
        parsed
    }

    /// Remembers `parsed`, unless somebody else was quicker: then theirs is the one to use.
    pub(crate) fn put(
        &self,
        builder: &Arc<dyn Builder>,
        json: &str,
        depth: usize,
        changes: u64,
        parsed: Parsed,
    ) -> Parsed {
        if json.len() > MAX_BYTES {
            return parsed;
        }
        let mut halves = self.lock();
        // Dropping a configuration is foreign code, so what is forgotten outlives the lock.
        let mut forgotten = Vec::new();
        if halves.changes > changes {
            // Parsed before a registration that others have seen already.
            return parsed;
        }
        if halves.changes < changes {
            forgotten.push(std::mem::take(&mut halves.young));
            forgotten.push(std::mem::take(&mut halves.old));
            halves.changes = changes;
        }
        let key = key(builder, json);
        let known = halves.young.entries.get_mut(&key);
        let parsed = match known {
            Some(entry) => {
                entry.depth = entry.depth.max(depth);
                entry.parsed.clone()
            }
            None => {
                let entry = Entry {
                    builder: builder.clone(),
                    depth,
                    parsed: parsed.clone(),
                };
                forgotten.extend(halves.insert(key, entry));
                parsed
            }
        };
        drop(halves);
        drop(forgotten);
        parsed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Halves> {
        // No foreign code runs under the lock, so a panic could only come from an allocation.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Halves ===

impl Halves {
    /// Adds to the young half, and returns the half that is forgotten for it.
    fn insert(&mut self, key: Key, entry: Entry) -> Option<Half> {
        let bytes = key.1.len();
        let is_full =
            self.young.entries.len() >= MAX_ENTRIES || self.young.bytes + bytes > MAX_BYTES;
        let forgotten = is_full.then(|| {
            let young = std::mem::take(&mut self.young);
            std::mem::replace(&mut self.old, young)
        });
        self.young.bytes += bytes;
        self.young.entries.insert(key, entry);
        forgotten
    }
}

fn key(builder: &Arc<dyn Builder>, json: &str) -> Key {
    (Arc::as_ptr(builder).cast::<()>() as usize, json.into())
}
