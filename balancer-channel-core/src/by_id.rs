//! Things by a number that counts up.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
};

/// A map whose keys are numbers of our own: nobody outside chooses them, so any hash is safe that
/// spreads them, and one that is the same in each process keeps a simulation the same.
///
/// A thousand connections look their SubConns up ten thousand times; a tree takes as many steps as it
/// has levels, and each step is a miss.
pub(crate) type ById<T> = HashMap<u64, T, BuildHasherDefault<ByFours>>;

/// Gives room back that a map needed once: what walks it looks at all of its room.
pub(crate) fn shrink<K: Eq + Hash, V, H: BuildHasher>(map: &mut HashMap<K, V, H>) {
    if map.capacity() > 256 && map.len() * 8 < map.capacity() {
        map.shrink_to(2 * map.len());
    }
}

/// Spreads numbers that follow each other.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

/// Puts four things with numbers one after the other beside each other, in one line of the cache, and
/// spreads the fours: 100,000 of them are gone through in the order of their numbers.
#[derive(Default)]
pub(crate) struct ByFours(u64);

impl Hasher for ByFours {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mut four = IdHasher::default();
        four.write_u64(number >> 2);
        self.0 = (four.finish() << 2) | (number & 3);
    }
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_isize(&mut self, number: isize) {
        // The variant of an enum.
        self.write_u64(number.cast_unsigned() as u64);
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 by the golden ratio: the map looks at the highest bits and at the lowest.
        let spread = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }
}
