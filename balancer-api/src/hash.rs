//! A hasher without a seed: policies are replayed, so their maps must not differ between runs.
//!
//! The mixing step is the multiply-and-rotate of FxHash, with the product folded. Keys are
//! addresses that an application's own resolver gave, limited in number by the channel, so
//! resistance against chosen keys is traded for speed.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A `HashMap` whose layout is the same in every run.
pub(crate) type FixedMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FixedHasher>>;

/// A `HashSet` whose layout is the same in every run.
pub(crate) type FixedSet<K> = std::collections::HashSet<K, BuildHasherDefault<FixedHasher>>;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FixedHasher(u64);

const K: u64 = 0xf135_7aea_2e62_a9c5;

/// Whether a collection with room for `capacity` has become so empty, with `len`, that most of the room
/// should be given back: a list of 100,000 addresses is followed by one of ten.
pub(crate) fn is_wasteful(len: usize, capacity: usize) -> bool {
    const LITTLE: usize = 256;
    capacity > LITTLE && len.saturating_mul(8) < capacity
}

impl FixedHasher {
    pub(crate) fn hash_one<T: Hash>(value: &T) -> u64 {
        let mut hasher = Self::default();
        value.hash(&mut hasher);
        hasher.finish()
    }

    fn mix(&mut self, word: u64) {
        // Both halves of the product: in the low one alone a difference in a word's high bits stays
        // high, and the next letters of an address may undo it.
        let product = u128::from(self.0.rotate_left(5) ^ word) * u128::from(K);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word) ^ ((rest.len() as u64) << 56));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }

    fn finish(&self) -> u64 {
        // hashbrown looks at both ends, and a folded product is well mixed in all its bits.
        self.0
    }
}
