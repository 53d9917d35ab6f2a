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

use super::overlay::{Overlay, search};
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
    /// Not a slice: it would be copied once more to come behind its reference counts.
    flat: Arc<Vec<u32>>,
    overlay: Option<Arc<Overlay>>,
    len: usize,
}

/// What became of the entry at a place: whether it is READY now.
pub(super) type Change = (u32, bool);

/// How many differences a set carries before it is made flat, where changes come one at a time. Small
/// enough that copying the overlay stays within a microsecond; large enough that the merge of
/// 100,000 numbers is paid by many changes.
pub(super) const OVERLAY_LIMIT: usize = 255;

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

    /// How many of them come before `rank` in the resolver's order: the index of the one with that
    /// [`rank`](ReadySubConn::rank), or of the first after it; [`len`](Self::len) if there is none.
    /// Takes as many steps as `len` has binary digits. Ranks mean the same in all sets of one resolver
    /// result, and something else after the next.
    ///
    /// ```
    /// use balancer_api::base::ReadySet;
    /// assert_eq!(ReadySet::<()>::default().index_of_rank(7), 0);
    /// ```
    pub fn index_of_rank(&self, rank: u32) -> usize {
        // Where nothing was left out of the list, ranks are places.
        let place = match self.entry(rank) {
            Some(entry) if entry.rank == rank => rank,
            _ => self.entries.partition_point(|entry| entry.rank < rank) as u32,
        };
        let flat = match search(&self.flat, place) {
            Ok(index) | Err(index) => index,
        };
        match &self.overlay {
            None => flat,
            Some(overlay) => overlay.index(flat, place),
        }
    }

    /// All of them as a slice, when every SubConn of the policy is READY; `None` otherwise. Its order is
    /// that of [`get`](Self::get), which has to look an index up where this is the entry itself.
    /// Constant time.
    ///
    /// ```
    /// use balancer_api::base::ReadySet;
    /// assert!(ReadySet::<()>::default().whole().is_some_and(<[_]>::is_empty));
    /// ```
    #[inline]
    pub fn whole(&self) -> Option<&[ReadySubConn<D>]> {
        (self.len == self.entries.len()).then_some(&*self.entries)
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
            flat: Arc::new(ready),
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
        let mut overlay = match self.overlay.as_deref() {
            None => Overlay::with_room(changes.len()),
            Some(overlay) => overlay.and_room(changes.len()),
        };
        // The merge is dearer than an overlay, so that who comes with many changes at once may
        // leave more of them behind.
        let limit = OVERLAY_LIMIT + 2 * changes.len().saturating_sub(1);
        let (mut first, mut len) = (usize::MAX, self.len);
        for (place, ready) in changes {
            let Some(moved) = overlay.set(&self.flat, place, ready) else {
                continue;
            };
            first = first.min(moved);
            match ready {
                true => len += 1,
                false => len -= 1,
            }
        }
        let (flat, overlay) = match overlay.len() {
            0 => (self.flat.clone(), None),
            // Once all are READY they stay flat, until more are lost than an overlay may hold: a set
            // that came up is found by two indices, whatever was left over from its coming up.
            many if many > limit || len <= FLAT_LIMIT || len == self.entries.len() => {
                (Arc::new(overlay.merged(&self.flat)), None)
            }
            _ => {
                overlay.count_from(first);
                (self.flat.clone(), Some(Arc::new(overlay)))
            }
        };
        Self {
            entries: self.entries.clone(),
            flat,
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
            flat: Arc::new(places),
            overlay: None,
        }
    }
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
            flat: Arc::default(),
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
