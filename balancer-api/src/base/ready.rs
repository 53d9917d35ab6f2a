//! The READY SubConns as an immutable list that its successors share.
//!
//! A list is a flat array plus a small overlay of what has changed since the array was made: which
//! of its entries are gone, and which entries are new. A change copies the overlay only; when the
//! overlay has grown to [`OVERLAY_LIMIT`] the array is made anew, so the cost of a change does not
//! grow with the list except for that one in [`OVERLAY_LIMIT`]. A list that is no longer than an
//! overlay may be is always made flat. Without an overlay, an entry is found by one index.

use std::{fmt, iter, sync::Arc};

use crate::{Address, Endpoint, SubConn};

/// A READY SubConn, the endpoint it is for, and what the policy keeps for it.
#[derive(Clone)]
pub struct ReadySubConn<D = ()> {
    sub_conn: SubConn,
    endpoint: Endpoint,
    /// Position in the resolver's list: the order of the set.
    rank: u32,
    /// Which of the endpoint's addresses is connected.
    connected: u32,
    data: D,
}

/// The READY SubConns in the resolver's order. Immutable; cheap to clone.
///
/// ```
/// use balancer_api::base::ReadySet;
/// let none: ReadySet = ReadySet::default();
/// assert!(none.is_empty() && none.get(0).is_none());
/// ```
pub struct ReadySet<D = ()> {
    flat: Arc<[ReadySubConn<D>]>,
    overlay: Option<Arc<Overlay<D>>>,
    len: usize,
}

/// How a set differs from its flat array.
struct Overlay<D> {
    /// Indices into the array that are gone, ascending.
    removed: Vec<u32>,
    /// New entries, ascending by rank, each with its index in the whole set.
    added: Vec<(u32, ReadySubConn<D>)>,
}

/// What became of one rank: the entry that is READY there now, or none.
pub(super) type Change<D> = (u32, Option<ReadySubConn<D>>);

/// How many differences a set carries before it is made flat. Small enough that finding an entry
/// stays within two short binary searches and copying the overlay within some microseconds; large
/// enough that flattening 100,000 entries is paid by many changes.
pub(super) const OVERLAY_LIMIT: usize = 256;

// === impl ReadySubConn ===

impl<D> ReadySubConn<D> {
    pub(super) fn new(
        sub_conn: SubConn,
        endpoint: Endpoint,
        rank: u32,
        connected: u32,
        data: D,
    ) -> Self {
        Self {
            sub_conn,
            endpoint,
            rank,
            connected,
            data,
        }
    }

    /// The endpoint's place in the last resolver result, counted from 0: what the set is ordered by.
    /// A duplicate counts where it first stood; another result numbers anew.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// The SubConn.
    #[inline]
    pub fn sub_conn(&self) -> &SubConn {
        &self.sub_conn
    }

    /// The endpoint that it is for, with the attributes of the last resolver result.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The address that is connected, with its attributes.
    pub fn address(&self) -> Option<&Address> {
        self.endpoint.addresses().get(self.connected as usize)
    }

    /// What [`PickerBuilder::data`](super::PickerBuilder::data) made for the endpoint.
    #[inline]
    pub fn data(&self) -> &D {
        &self.data
    }
}

impl<D> fmt::Debug for ReadySubConn<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.sub_conn, self.endpoint)
    }
}

// === impl ReadySet ===

impl<D> ReadySet<D> {
    /// How many SubConns are READY.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The SubConn at `index` of 0..[`len`](Self::len), in the resolver's order. Constant time; a
    /// few steps more shortly after a change.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&ReadySubConn<D>> {
        match &self.overlay {
            None => self.flat.get(index),
            Some(overlay) => overlay.get(&self.flat, index),
        }
    }

    /// All of them, in the resolver's order.
    pub fn iter(&self) -> impl Iterator<Item = &ReadySubConn<D>> + '_ {
        let mut index = 0;
        iter::from_fn(move || {
            index += 1;
            self.get(index - 1)
        })
    }
}

impl<D: Clone> ReadySet<D> {
    pub(super) fn flat(entries: Vec<ReadySubConn<D>>) -> Self {
        debug_assert!(
            entries.is_sorted_by_key(|entry| entry.rank),
            "the order is the resolver's"
        );
        Self {
            len: entries.len(),
            flat: entries.into(),
            overlay: None,
        }
    }

    /// This set after `changes`, of which the last counts where a rank occurs twice; `None` when
    /// the overlay would become too large, so that the set has to be made flat.
    pub(super) fn with(&self, changes: Vec<Change<D>>) -> Option<Self> {
        let (mut removed, mut added) = match &self.overlay {
            None => (Vec::new(), Vec::new()),
            Some(overlay) => {
                let added = overlay.added.iter().map(|(_, entry)| entry.clone());
                (overlay.removed.clone(), added.collect::<Vec<_>>())
            }
        };
        for (rank, entry) in changes {
            let unchanged = match self.flat.binary_search_by_key(&rank, |entry| entry.rank) {
                Err(_) => false,
                Ok(index) => {
                    let same = entry
                        .as_ref()
                        .is_some_and(|new| self.flat[index].is_same(new));
                    let index = index as u32;
                    match (removed.binary_search(&index), same) {
                        (Ok(at), true) => drop(removed.remove(at)),
                        (Err(at), false) => removed.insert(at, index),
                        _ => {}
                    }
                    same
                }
            };
            match (added.binary_search_by_key(&rank, |entry| entry.rank), entry) {
                (Ok(at), Some(entry)) if !unchanged => added[at] = entry,
                (Ok(at), _) => drop(added.remove(at)),
                (Err(at), Some(entry)) if !unchanged => added.insert(at, entry),
                (Err(_), _) => {}
            }
            if removed.len() + added.len() > OVERLAY_LIMIT {
                return None;
            }
        }
        let len = self.flat.len() - removed.len() + added.len();
        if len <= OVERLAY_LIMIT {
            return Some(self.merged(&removed, added));
        }
        let overlay = if removed.is_empty() && added.is_empty() {
            None
        } else {
            Some(Arc::new(Overlay::new(&self.flat, removed, added)))
        };
        Some(Self {
            flat: self.flat.clone(),
            overlay,
            len,
        })
    }

    /// The flat array without `removed` and with `added`.
    fn merged(&self, removed: &[u32], added: Vec<ReadySubConn<D>>) -> Self {
        let mut entries = Vec::with_capacity(self.flat.len() - removed.len() + added.len());
        let mut removed = removed.iter().peekable();
        let mut added = added.into_iter().peekable();
        for (index, entry) in self.flat.iter().enumerate() {
            if removed.next_if(|at| **at as usize == index).is_some() {
                continue;
            }
            while let Some(new) = added.next_if(|new| new.rank < entry.rank) {
                entries.push(new);
            }
            entries.push(entry.clone());
        }
        entries.extend(added);
        Self::flat(entries)
    }
}

impl<D> Clone for ReadySet<D> {
    fn clone(&self) -> Self {
        Self {
            flat: self.flat.clone(),
            overlay: self.overlay.clone(),
            len: self.len,
        }
    }
}

impl<D> Default for ReadySet<D> {
    fn default() -> Self {
        Self {
            flat: Arc::new([]),
            overlay: None,
            len: 0,
        }
    }
}

impl<D> fmt::Debug for ReadySet<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

// === impl Overlay ===

impl<D> Overlay<D> {
    fn new(flat: &[ReadySubConn<D>], removed: Vec<u32>, added: Vec<ReadySubConn<D>>) -> Self {
        let added = added.into_iter().enumerate();
        let added = added.map(|(before, entry)| {
            // Survivors of the array that come first, and the new entries that come first.
            let in_flat = flat.partition_point(|other| other.rank < entry.rank);
            let gone = removed.partition_point(|index| (*index as usize) < in_flat);
            ((in_flat - gone + before) as u32, entry)
        });
        let added = added.collect();
        Self { removed, added }
    }

    fn get<'a>(&'a self, flat: &'a [ReadySubConn<D>], index: usize) -> Option<&'a ReadySubConn<D>> {
        let new_before = match self
            .added
            .binary_search_by_key(&index, |(at, _)| *at as usize)
        {
            Ok(at) => return self.added.get(at).map(|(_, entry)| entry),
            Err(before) => before,
        };
        // The index among the survivors of the array; then past the removed ones before it. The
        // r-th removed entry has `removed[r] - r` survivors before it.
        let survivor = index - new_before;
        let (mut low, mut high) = (0, self.removed.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.removed[middle] as usize - middle <= survivor {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        flat.get(survivor + low)
    }
}

// === impl ReadySubConn: comparison ===

impl<D> ReadySubConn<D> {
    /// Whether nothing that a picker could see differs. The data belongs to the SubConn's endpoint
    /// and so is the same when the SubConn is.
    fn is_same(&self, other: &Self) -> bool {
        self.sub_conn == other.sub_conn
            && self.connected == other.connected
            && self.endpoint.is_identical(&other.endpoint)
    }
}
