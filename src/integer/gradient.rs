//! Gradients by activations: int8 elements with one real unit per tensor, which is settled while they are written.

use crate::compact::number::Factor;
use crate::part::Part;

/// Magnitude of the largest element.
pub(super) const LARGEST: u32 = 127;

/// `x / 2^shift`, to nearest.
#[inline(always)]
pub(super) fn round_shift(x: i32, shift: u32) -> i32 {
    if shift == 0 {
        return x;
    }
    x.saturating_add(1 << (shift - 1)) >> shift
}

/// Bits to drop of a number, so that what is left is at most [`LARGEST`].
pub(super) fn bits_above(largest: u32) -> u32 {
    let dropped = (u32::BITS - largest.leading_zeros()).saturating_sub(7);
    // Rounding up may give 128.
    let rounded =
        if dropped == 0 { largest } else { (largest.saturating_add(1 << (dropped - 1))) >> dropped };
    dropped + u32::from(rounded > LARGEST)
}

/// What sums are added to.
#[derive(Debug, Clone, Copy)]
struct Before {
    /// Factor of the elements that are there.
    old: Factor,
    /// Factor of the sums.
    new: Factor,
}

/// Writes a tensor's gradient piece by piece from wide sums. When one has no room, what was written before it is halved as
/// often as needed, to nearest: an element is off by less than one step in all.
#[derive(Debug)]
pub(super) struct Writer<'w> {
    to: &'w mut [i8],
    done: usize,
    shift: u32,
    /// Real value of a step of the sums.
    unit: f32,
    before: Option<Before>,
}

impl<'w> Writer<'w> {
    /// Writer of sums in steps of `unit`, each below 2^`bits`; `before` is the unit of what lies in `to`, if they are added to it.
    pub fn new(to: &'w mut [i8], unit: f32, bits: u32, before: Option<f32>) -> Self {
        let before = before.filter(|_| to.iter().any(|&g| g != 0));
        let Some(old) = before else { return Self { to, done: 0, shift: 0, unit, before: None } };
        // Both in steps so small that neither loses anything, where 31 bits allow for it.
        let finest = unit / (1u32 << 30u32.saturating_sub(bits)) as f32;
        let common = finest.max(old / (1u32 << 22) as f32);
        let before = Before { old: Factor::new(old / common), new: Factor::new(unit / common) };
        Self { to, done: 0, shift: 0, unit: common, before: Some(before) }
    }

    /// The next elements.
    pub fn push(&mut self, sums: &mut [i32]) {
        let places = self.to.part_mut(self.done..self.done + sums.len());
        if let Some(Before { old, new }) = self.before {
            for (sum, &g) in sums.iter_mut().zip(places.iter()) {
                *sum = new.apply((*sum).into()).saturating_add(old.apply(g.into()));
            }
        }
        let largest = sums.iter().map(|sum| sum.unsigned_abs()).max().unwrap_or(0);
        let shift = bits_above(largest).max(self.shift);
        for (place, &sum) in places.iter_mut().zip(sums.iter()) {
            // At most 127 by the choice of the shift.
            *place = round_shift(sum, shift) as i8;
        }
        if shift > self.shift {
            let more = (shift - self.shift).min(31);
            for g in self.to.part_mut(..self.done) {
                *g = round_shift((*g).into(), more) as i8;
            }
            self.shift = shift;
        }
        self.done += sums.len();
    }

    /// The real value of a step of the elements.
    pub fn finish(self) -> f32 {
        // Of a power of two: exact.
        self.unit * (1u32 << self.shift.min(31)) as f32
    }
}
