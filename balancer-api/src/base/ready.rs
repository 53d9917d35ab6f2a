//! The READY SubConns as an immutable list that its successors share.
//!
//! Three layers, each shared by as many pickers as it can be:
//!
//! - the *entries*, one for each SubConn, READY or not, in the resolver's order: made anew with a new
//!   resolver result only;
//! - the *flat* list: the places of the READY ones among the entries, ascending;
//! - a small *overlay*: which places of the flat list are gone, and which are new.
//!
//! A change copies the overlay, which is numbers only: no reference is counted, and nothing grows
//! with the list. When the overlay has grown to [`OVERLAY_LIMIT`], the flat list is made anew, a
//! merge of numbers. A list shorter than [`FLAT_LIMIT`] never has an overlay. Without one, a SubConn
//! is found by two indices.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{Address, Endpoint, SubConn};

/// A READY SubConn, the endpoint it is for, and what the policy keeps for it.
pub struct ReadySubConn<D = ()> {
    sub_conn: SubConn,
    endpoint: Endpoint,
    /// Position in the resolver's list: the order of the set.
    rank: u32,
    /// Which of the endpoint's addresses is connected. The one thing that changes without a new
    /// resolver result, and nothing that a pick depends on: so it is no part of the snapshot.
    connected: AtomicU32,
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
    entries: Arc<[ReadySubConn<D>]>,
    flat: Arc<[u32]>,
    overlay: Option<Arc<Overlay>>,
    len: usize,
}

/// How a set differs from its flat list.
struct Overlay {
    /// Indices into the flat list that are gone, ascending.
    removed: Vec<u32>,
    /// New places, ascending, each with its index in the whole set.
    added: Vec<Added>,
}

#[derive(Clone, Copy)]
struct Added {
    /// In the whole set.
    index: u32,
    /// Among the entries.
    place: u32,
    /// How many of the flat list come first.
    in_flat: u32,
}

/// What became of the entry at a place: whether it is READY now.
pub(super) type Change = (u32, bool);

/// How many differences a set carries before it is made flat. Small enough that finding an entry
/// stays within two short binary searches and copying the overlay within a microsecond; large
/// enough that the merge of 100,000 numbers is paid by many changes.
pub(super) const OVERLAY_LIMIT: usize = 256;

/// A set of so many is always made flat: the merge of so few numbers costs no more than an overlay
/// does.
pub(super) const FLAT_LIMIT: usize = 1024;

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
            connected: AtomicU32::new(connected),
            data,
        }
    }

    /// The connection is to another of the endpoint's addresses now.
    pub(super) fn set_connected(&self, connected: u32) {
        // Relaxed: an index into an immutable list; it publishes nothing else.
        self.connected.store(connected, Ordering::Relaxed);
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

    /// The address that is connected, with its attributes. The only part of an entry that may change
    /// while a picker holds it: when the connection was lost and made again to another address.
    pub fn address(&self) -> Option<&Address> {
        let connected = self.connected.load(Ordering::Relaxed);
        self.endpoint.addresses().get(connected as usize)
    }

    /// What [`PickerBuilder::data`](super::PickerBuilder::data) made for the endpoint.
    #[inline]
    pub fn data(&self) -> &D {
        &self.data
    }
}

impl<D: Clone> Clone for ReadySubConn<D> {
    fn clone(&self) -> Self {
        Self {
            sub_conn: self.sub_conn.clone(),
            endpoint: self.endpoint.clone(),
            rank: self.rank,
            connected: AtomicU32::new(self.connected.load(Ordering::Relaxed)),
            data: self.data.clone(),
        }
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
        let place = match &self.overlay {
            None => *self.flat.get(index)?,
            Some(overlay) => overlay.place(&self.flat, index)?,
        };
        self.entries.get(place as usize)
    }

    fn places(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len).filter_map(|index| match &self.overlay {
            None => self.flat.get(index).copied(),
            Some(overlay) => overlay.place(&self.flat, index),
        })
    }

    /// All of them, in the resolver's order.
    pub fn iter(&self) -> impl Iterator<Item = &ReadySubConn<D>> + '_ {
        self.places().filter_map(|place| self.entry(place))
    }
}

impl<D> ReadySet<D> {
    /// The set over `entries`, of which those at `ready` are READY, ascending.
    pub(super) fn new(entries: Vec<ReadySubConn<D>>, ready: Vec<u32>) -> Self {
        debug_assert!(
            entries.is_sorted_by_key(|entry| entry.rank),
            "the order is the resolver's"
        );
        debug_assert!(ready.is_sorted(), "so is that of the READY ones");
        Self {
            entries: entries.into(),
            len: ready.len(),
            flat: ready.into(),
            overlay: None,
        }
    }

    /// The entry at `place`, READY or not.
    pub(super) fn entry(&self, place: u32) -> Option<&ReadySubConn<D>> {
        self.entries.get(place as usize)
    }

    /// This set after `changes`, of which the last counts where a place occurs twice.
    pub(super) fn with(&self, mut changes: Vec<Change>) -> Self {
        // Stable: the last of equals stays the last, and is kept.
        changes.sort_by_key(|(place, _)| *place);
        changes.reverse();
        changes.dedup_by_key(|(place, _)| *place);
        changes.reverse();
        if changes.len() > OVERLAY_LIMIT {
            return self.rebuilt(&changes);
        }
        let (removed, added) = match self.overlay.as_deref() {
            None => (&[][..], &[][..]),
            Some(overlay) => (&overlay.removed[..], &overlay.added[..]),
        };
        let mut gone = Vec::with_capacity(removed.len() + changes.len());
        let mut new = Vec::with_capacity(added.len() + changes.len());
        gone.extend_from_slice(removed);
        new.extend_from_slice(added);
        for (place, ready) in changes {
            match self.flat.binary_search(&place) {
                // In the flat list: it is gone or it is not.
                Ok(index) => match (gone.binary_search(&(index as u32)), ready) {
                    (Ok(at), true) => drop(gone.remove(at)),
                    (Err(at), false) => gone.insert(at, index as u32),
                    _ => {}
                },
                Err(in_flat) => {
                    let found = new.binary_search_by_key(&place, |added| added.place);
                    match (found, ready) {
                        (Ok(at), false) => drop(new.remove(at)),
                        (Err(at), true) => new.insert(at, Added::new(place, in_flat)),
                        _ => {}
                    }
                }
            }
        }
        let len = self.flat.len() - gone.len() + new.len();
        let overlay = if gone.is_empty() && new.is_empty() {
            None
        } else if len <= FLAT_LIMIT || gone.len() + new.len() > OVERLAY_LIMIT {
            return Self {
                entries: self.entries.clone(),
                flat: merged(&self.flat, &gone, &new),
                overlay: None,
                len,
            };
        } else {
            Some(Arc::new(Overlay::new(gone, new)))
        };
        Self {
            entries: self.entries.clone(),
            flat: self.flat.clone(),
            overlay,
            len,
        }
    }

    /// This set after so many changes, ascending, that the whole of it is walked anyway.
    fn rebuilt(&self, changes: &[Change]) -> Self {
        let mut places = Vec::with_capacity(self.len + changes.len());
        let mut changes = changes.iter().copied().peekable();
        for old in self.places() {
            while let Some((place, ready)) = changes.next_if(|(place, _)| *place < old) {
                places.extend(ready.then_some(place));
            }
            let change = changes.next_if(|(place, _)| *place == old);
            places.extend(change.is_none_or(|(_, ready)| ready).then_some(old));
        }
        places.extend(changes.filter(|(_, ready)| *ready).map(|(place, _)| place));
        Self {
            entries: self.entries.clone(),
            len: places.len(),
            flat: places.into(),
            overlay: None,
        }
    }
}

/// `flat` without the indices `gone` and with the places `new`, all ascending.
fn merged(flat: &[u32], gone: &[u32], new: &[Added]) -> Arc<[u32]> {
    let mut places = Vec::with_capacity(flat.len() - gone.len() + new.len());
    let mut new = new.iter().map(|added| added.place).peekable();
    let mut from = 0;
    // Runs between the gone ones, and within them between the new ones.
    for until in gone.iter().map(|at| *at as usize).chain([flat.len()]) {
        let mut run = &flat[from..until];
        while let Some(place) = new.next_if(|place| run.last().is_some_and(|last| place < last)) {
            let (before, after) = run.split_at(run.partition_point(|other| *other < place));
            places.extend_from_slice(before);
            places.push(place);
            run = after;
        }
        places.extend_from_slice(run);
        from = until + 1;
    }
    places.extend(new);
    places.into()
}

impl<D> Clone for ReadySet<D> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            flat: self.flat.clone(),
            overlay: self.overlay.clone(),
            len: self.len,
        }
    }
}

impl<D> Default for ReadySet<D> {
    fn default() -> Self {
        Self {
            entries: Arc::new([]),
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

// === impl Added ===

impl Added {
    /// Its index follows from the others.
    fn new(place: u32, in_flat: usize) -> Self {
        Self {
            index: 0,
            place,
            in_flat: in_flat as u32,
        }
    }
}

// === impl Overlay ===

impl Overlay {
    fn new(removed: Vec<u32>, mut added: Vec<Added>) -> Self {
        let mut gone = 0;
        for (before, added) in added.iter_mut().enumerate() {
            // Survivors of the flat list that come first, and the new places that come first.
            while removed.get(gone).is_some_and(|at| *at < added.in_flat) {
                gone += 1;
            }
            added.index = added.in_flat - gone as u32 + before as u32;
        }
        Self { removed, added }
    }

    /// The place of the `index`-th of the whole set.
    fn place(&self, flat: &[u32], index: usize) -> Option<u32> {
        let found = self
            .added
            .binary_search_by_key(&index, |added| added.index as usize);
        let new_before = match found {
            Ok(at) => return self.added.get(at).map(|added| added.place),
            Err(before) => before,
        };
        // The index among the survivors of the flat list; then past the removed ones before it. The
        // r-th removed one has `removed[r] - r` survivors before it.
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
        flat.get(survivor + low).copied()
    }
}
