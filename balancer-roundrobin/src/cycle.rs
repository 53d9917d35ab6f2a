//! The place of a turn in a cycle, without a division.

use std::num::NonZeroU64;

/// A cycle of so many places, over and over.
///
/// A division is half of what a pick takes, so it is done once for each set: a turn is multiplied by
/// the reciprocal. Let `d` be the length and `m = ⌊(2⁶⁴ - 1) / d⌋`, so that `m·d = 2⁶⁴ - e` with
/// `1 ≤ e ≤ d`. Then `(n + 1)·m / 2⁶⁴` is less than `(n + 1) / d`, by `(n + 1)·e / (d·2⁶⁴)`. As it is
/// less, its floor is at most `⌊n / d⌋`; and it is no less than that as long as `(n + 1)·d ≤ 2⁶⁴`,
/// which every `n` below `m` fulfils.
pub(crate) struct Cycle {
    length: NonZeroU64,
    /// `m`.
    reciprocal: u64,
}

// === impl Cycle ===

impl Cycle {
    /// `None` where there is no place.
    pub(crate) fn new(length: usize) -> Option<Self> {
        let length = NonZeroU64::new(length as u64)?;
        Some(Self {
            length,
            reciprocal: u64::MAX / length,
        })
    }

    /// How many places there are.
    pub(crate) fn length(&self) -> u64 {
        self.length.get()
    }

    /// Where one stands who has gone `distance` places from the first: the remainder.
    #[inline]
    pub(crate) fn place(&self, distance: u64) -> u64 {
        if distance < self.reciprocal {
            let rounds = (u128::from(distance + 1) * u128::from(self.reciprocal)) >> 64;
            distance - rounds as u64 * self.length.get()
        } else {
            // After 2⁶⁴ / length picks of one picker: with 100,000 backends and a million picks a
            // second, in its sixth year.
            distance % self.length
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both sides of every place where the quotient, or the way to it, changes.
    fn distances(length: u64) -> impl Iterator<Item = u64> {
        let bounds = [
            0,
            length,
            2 * length,
            1 << 32,
            u64::MAX / length,
            u64::MAX / length / length * length,
            u64::MAX / 2,
            u64::MAX / length * length,
            u64::MAX,
        ];
        bounds
            .into_iter()
            .flat_map(|bound| (0..6).map(move |near: u64| bound.wrapping_add(near).wrapping_sub(3)))
    }

    #[test]
    fn a_place_is_the_remainder_wherever_the_quotient_changes() {
        let small = 1..=2_000;
        let large = (0..=32).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for length in small.chain(large).filter(|length| *length > 0) {
            let cycle = Cycle::new(length).expect("it has places");
            assert_eq!(cycle.length(), length as u64);
            for distance in distances(length as u64) {
                let remainder = distance % length as u64;
                assert_eq!(cycle.place(distance), remainder, "{distance} in {length}");
            }
        }
    }

    #[test]
    fn a_rotation_goes_on_through_the_end_of_the_fast_way() {
        for length in [1, 3, 8, 100_000] {
            let cycle = Cycle::new(length).expect("it has places");
            let near = u64::MAX / length as u64;
            for distance in near.saturating_sub(1_000)..near.saturating_add(1_000) {
                let next = (cycle.place(distance) + 1) % length as u64;
                let after = distance.checked_add(1).map(|after| cycle.place(after));
                assert!(
                    after.is_none_or(|after| after == next),
                    "{distance} in {length}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_no_cycle() {
        assert!(Cycle::new(0).is_none());
    }
}
