//! How a set of READY SubConns differs from its flat list: which are gone, and which are new.

/// The differences, in the order of the set. Between two of them the set is a run of the flat list.
pub(super) struct Overlay {
    differences: Vec<Difference>,
    /// Where each of them is in the set, or would be; what is searched. Of one of two lengths, with
    /// nothing behind the last, so that a search is so many steps without a branch.
    at: Vec<u32>,
}

/// An entry that is in one of the two lists only.
#[derive(Clone, Copy)]
struct Difference {
    /// Among the entries: what the differences are ordered by.
    place: u32,
    /// Where it is in the flat list, or would be, twice; and one more if it is new.
    flat: u32,
    /// How far the run behind it has moved towards the front: as many as are gone, less those that are
    /// new. Wraps.
    moved: u32,
}

/// Room for what a set may carry where changes come one at a time, less than [`SMALL`] of them.
const SMALL: usize = super::ready::OVERLAY_LIMIT + 1;

/// Room for what bursts may leave behind.
const LARGE: usize = 4 * SMALL;

/// Above every index.
const NOTHING: u32 = u32::MAX;

// === impl Difference ===

impl Difference {
    fn new(place: u32, flat: usize, new: bool) -> Self {
        Self {
            place,
            flat: ((flat as u32) << 1) | u32::from(new),
            moved: 0,
        }
    }

    fn is_new(self) -> bool {
        self.flat & 1 == 1
    }

    fn flat(self) -> u32 {
        self.flat >> 1
    }
}

// === impl Overlay ===

impl Overlay {
    /// No difference, and room for so many.
    pub(super) fn with_room(more: usize) -> Self {
        Self {
            differences: Vec::with_capacity(more),
            at: Vec::new(),
        }
    }

    /// These differences, with room for so many more.
    pub(super) fn and_room(&self, more: usize) -> Self {
        let mut differences = Vec::with_capacity(self.differences.len() + more);
        differences.extend_from_slice(&self.differences);
        Self {
            differences,
            at: self.at.clone(),
        }
    }

    /// How many differences there are.
    pub(super) fn len(&self) -> usize {
        self.differences.len()
    }

    /// Whether the entry at `place` is READY now. Answers the first difference that this moved;
    /// from there on they have to be counted anew by [`count_from`](Self::count_from).
    pub(super) fn set(&mut self, flat: &[u32], place: u32, ready: bool) -> Option<usize> {
        let differences = &mut self.differences;
        match differences.binary_search_by_key(&place, |other| other.place) {
            Ok(at) if differences[at].is_new() != ready => {
                differences.remove(at);
                Some(at)
            }
            Ok(_) => None,
            Err(at) => {
                let difference = match (search(flat, place), ready) {
                    (Ok(index), false) => Difference::new(place, index, false),
                    (Err(index), true) => Difference::new(place, index, true),
                    _ => return None,
                };
                differences.insert(at, difference);
                Some(at)
            }
        }
    }

    /// Counts the differences from the `first` on.
    pub(super) fn count_from(&mut self, first: usize) {
        let wanted = match self.differences.len() {
            few if few < SMALL => SMALL,
            _ => LARGE,
        };
        self.at.resize(wanted, NOTHING);
        let before = first.checked_sub(1).map(|last| self.differences.get(last));
        let mut moved = before.flatten().map_or(0, |last| last.moved);
        let counted = self.differences.iter_mut().zip(&mut self.at).skip(first);
        for (difference, at) in counted {
            *at = difference.flat().wrapping_sub(moved);
            moved = match difference.is_new() {
                true => moved.wrapping_sub(1),
                false => moved.wrapping_add(1),
            };
            difference.moved = moved;
        }
        let rest = self.at.iter_mut().skip(self.differences.len());
        rest.take_while(|at| **at != NOTHING)
            .for_each(|at| *at = NOTHING);
    }

    /// The place of the `index`-th of the whole set.
    #[inline]
    pub(super) fn place(&self, flat: &[u32], index: usize) -> Option<u32> {
        let index = index as u32;
        let after = match <&[u32; SMALL]>::try_from(&self.at[..]) {
            Ok(small) => up_to(small, index),
            Err(_) => up_to::<LARGE>(self.at.first_chunk()?, index),
        };
        let moved = match after
            .checked_sub(1)
            .and_then(|last| self.differences.get(last))
        {
            Some(last) if last.is_new() && self.at.get(after - 1) == Some(&index) => {
                return Some(last.place);
            }
            Some(last) => last.moved,
            None => 0,
        };
        flat.get(index.wrapping_add(moved) as usize).copied()
    }

    /// How many of the set come before `place`, of which so many are in the flat list.
    pub(super) fn index(&self, flat: usize, place: u32) -> usize {
        let after = self.differences.partition_point(|it| it.place < place);
        let last = after.checked_sub(1).and_then(|at| self.differences.get(at));
        (flat as u32).wrapping_sub(last.map_or(0, |last| last.moved)) as usize
    }

    /// The whole set, over `flat`.
    pub(super) fn merged(&self, flat: &[u32]) -> Vec<u32> {
        let mut places = Vec::with_capacity(flat.len() + self.differences.len());
        let mut rest = 0;
        for difference in &self.differences {
            let index = difference.flat() as usize;
            places.extend_from_slice(flat.get(rest..index).unwrap_or_default());
            rest = index;
            match difference.is_new() {
                true => places.push(difference.place),
                false => rest += 1,
            }
        }
        places.extend_from_slice(flat.get(rest..).unwrap_or_default());
        places
    }
}

/// Where `place` is in a flat list, or would be.
pub(super) fn search(flat: &[u32], place: u32) -> Result<usize, usize> {
    // Places are ascending numbers from 0, so that none stands behind the index that it names. Where
    // all before it are there, as in a list that comes up from its front, it stands just there.
    let most = (place as usize).min(flat.len());
    match flat.get(..most).and_then(<[u32]>::last) {
        Some(last) if *last >= place => flat[..most].binary_search(&place),
        _ if flat.get(most) == Some(&place) => Ok(most),
        _ => Err(most),
    }
}

/// How many of the ascending numbers are not above `index`. `N` is a power of two, and not all are.
#[inline]
fn up_to<const N: usize>(numbers: &[u32; N], index: u32) -> usize {
    let (mut count, mut step) = (0, N / 2);
    while step > 0 {
        // Every step adds one bit, so that no number is out of bounds, as the compiler sees.
        count |= match numbers[count | (step - 1)] <= index {
            true => step,
            false => 0,
        };
        step /= 2;
    }
    count
}
