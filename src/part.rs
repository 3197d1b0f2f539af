//! Parts of slices that have to be there: where one is not, builds with assertions stop, and others go on with an empty
//! one, so that no panic is linked. Where a part may be missing, `get` says so.

use core::slice::SliceIndex;

/// Parts of a slice that lie inside of it.
pub(crate) trait Part<T> {
    /// `self[range]`.
    fn part(&self, range: impl SliceIndex<[T], Output = [T]>) -> &[T];
    /// `self[range]`, to be written.
    fn part_mut(&mut self, range: impl SliceIndex<[T], Output = [T]>) -> &mut [T];
    /// The first `length` elements, and the rest.
    fn parts_mut_at(&mut self, length: usize) -> (&mut [T], &mut [T]);
}

impl<T> Part<T> for [T] {
    #[inline(always)]
    #[track_caller]
    fn part(&self, range: impl SliceIndex<[T], Output = [T]>) -> &[T] {
        let part = self.get(range);
        debug_assert!(part.is_some(), "a part outside of its slice");
        part.unwrap_or_default()
    }

    #[inline(always)]
    #[track_caller]
    fn part_mut(&mut self, range: impl SliceIndex<[T], Output = [T]>) -> &mut [T] {
        let part = self.get_mut(range);
        debug_assert!(part.is_some(), "a part outside of its slice");
        part.unwrap_or_default()
    }

    #[inline(always)]
    #[track_caller]
    fn parts_mut_at(&mut self, length: usize) -> (&mut [T], &mut [T]) {
        let parts = self.split_at_mut_checked(length);
        debug_assert!(parts.is_some(), "a part outside of its slice");
        parts.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_inside_is_given() {
        let mut values = [1, 2, 3];
        assert_eq!(values.part(1..), [2, 3]);
        assert!(values.part(3..).is_empty());
        values.part_mut(..2).fill(0);
        assert_eq!(values.parts_mut_at(2), (&mut [0, 0][..], &mut [3][..]));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic = "outside of its slice"]
    fn a_part_outside_is_a_mistake() {
        [1, 2, 3].part(2..4);
    }
}
