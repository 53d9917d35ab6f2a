//! Which slot is a SubConn's.

use hashbrown::HashTable;

use super::balancer::Slot;
use crate::{SubConn, hash::FixedHasher};

/// The slots by their SubConns. It keeps numbers and looks into the slots, which a change needs
/// anyway: a table with the SubConns in it would be six times as large, and every look at it would be
/// one at memory that is far away.
#[derive(Default)]
pub(super) struct SubConns(HashTable<u32>);

// === impl SubConns ===

impl SubConns {
    /// The slot of a SubConn.
    pub(super) fn get<D>(&self, sub_conn: &SubConn, slots: &[Option<Slot<D>>]) -> Option<usize> {
        let is = |at: &u32| of(slots, *at) == Some(sub_conn);
        let at = self.0.find(FixedHasher::hash_one(sub_conn), is)?;
        Some(*at as usize)
    }

    /// Notes that `at` is the slot of a SubConn which has none yet.
    pub(super) fn insert<D>(&mut self, sub_conn: &SubConn, at: usize, slots: &[Option<Slot<D>>]) {
        let hash = FixedHasher::hash_one(sub_conn);
        let hash_of = |at: &u32| of(slots, *at).map_or(0, FixedHasher::hash_one);
        self.0.insert_unique(hash, at as u32, hash_of);
    }

    /// Makes room for so many more.
    pub(super) fn reserve<D>(&mut self, more: usize, slots: &[Option<Slot<D>>]) {
        let hash_of = |at: &u32| of(slots, *at).map_or(0, FixedHasher::hash_one);
        self.0.reserve(more, hash_of);
    }

    /// With room for as many as there are slots, and for no more.
    pub(super) fn rebuilt<D>(slots: &[Option<Slot<D>>]) -> Self {
        let mut rebuilt = Self(HashTable::with_capacity(slots.len()));
        for (at, slot) in slots.iter().enumerate() {
            if let Some(slot) = slot {
                rebuilt.insert(&slot.sub_conn, at, slots);
            }
        }
        rebuilt
    }

    /// Forgets it.
    pub(super) fn remove(&mut self, sub_conn: &SubConn, at: usize) {
        let hash = FixedHasher::hash_one(sub_conn);
        if let Ok(entry) = self.0.find_entry(hash, |it| *it as usize == at) {
            entry.remove();
        }
    }
}

fn of<D>(slots: &[Option<Slot<D>>], at: u32) -> Option<&SubConn> {
    Some(&slots.get(at as usize)?.as_ref()?.sub_conn)
}
