//! Sums over windows, in the four lanes of [`crate::cpu::lanes::dot`].

use super::dense::sums_of;
use super::register;
use crate::cpu::block::{WINDOWS, Windows};
use crate::cpu::lanes::LANES;
use bytemuck::cast;
use core::arch::x86_64::{
    __m128, __m256, _mm_maskload_ps, _mm256_add_ps, _mm256_castps128_ps256, _mm256_castsi256_si128,
    _mm256_insertf128_ps, _mm256_mul_ps, _mm256_setzero_ps,
};

/// From the first value to past the last: in the input, in the weights; none if an address cannot tell.
fn span(windows: &Windows, axis: usize) -> Option<usize> {
    let rows = windows.rows.checked_sub(1)?.checked_mul(windows.row_steps[axis])?;
    let runs = windows.runs.checked_sub(1)?.checked_mul(windows.run_steps[axis])?;
    rows.checked_add(runs)?.checked_add(windows.length)
}

/// Filters of a block.
const FILTERS: usize = 4;

/// `y[p * outputs + o] = sum + biases[o]` for the windows that begin at `origins` in x, at most four; a bias that is not
/// there is 0. Returns how many windows it did: all, or none unless all values are there.
#[target_feature(enable = "avx")]
pub fn windows(
    windows: &Windows,
    x: &[f32],
    origins: &[usize],
    w: &[f32],
    biases: &[f32],
    y: &mut [f32],
) -> usize {
    let (Some(&last), products) = (origins.last(), windows.products.max(1)) else { return 0 };
    let (count, outputs) = (origins.len(), w.len() / products);
    let (Some(seen), Some(weighed)) = (span(windows, 0), span(windows, 1)) else { return 0 };
    let inside = |&origin: &usize| origin.checked_add(seen).is_some_and(|end| end <= x.len());
    let whole = origins.iter().all(inside)
        && windows.first.checked_add(weighed).is_some_and(|end| end <= products)
        && outputs > 0
        && outputs.checked_mul(products) == Some(w.len())
        && outputs.checked_mul(count) == Some(y.len());
    if !whole || count > WINDOWS {
        return 0;
    }
    let sum = Sum { windows, w, products, outputs };
    let place = |at: usize| origins.get(at).copied().unwrap_or(last);
    // SAFETY: every window lies in x, and every filter in w, as was asked above.
    let xs: [*const f32; WINDOWS] = [0, 1, 2, 3].map(|at| unsafe { x.as_ptr().add(place(at)) });
    for first in (0..outputs).step_by(if count == 1 { 2 * FILTERS } else { FILTERS }) {
        let biases = biases.get(first..).unwrap_or(&[]);
        let mut write = |window: usize, first: usize, sums: &[f32], biases: &[f32]| {
            let place = y.get_mut(window * outputs + first..(window + 1) * outputs).unwrap_or(&mut []);
            for (at, (y, sum)) in place.iter_mut().zip(sums).enumerate() {
                *y = sum + biases.get(at).copied().unwrap_or(0.0);
            }
        };
        // SAFETY: as above.
        unsafe {
            match count {
                1 => write(0, first, sum.one(xs[0], first).as_flattened(), biases),
                2 => {
                    let [both] = sum.paired([[xs[0], xs[1]]], first);
                    both.iter().enumerate().for_each(|(at, sums)| write(at, first, sums, biases));
                }
                _ => {
                    let all = sum.paired([[xs[0], xs[1]], [xs[2], xs[3]]], first);
                    let all = all.as_flattened().iter().take(count);
                    all.enumerate().for_each(|(at, sums)| write(at, first, sums, biases));
                }
            }
        }
    }
    count
}

/// Adds by `$add` for every four neighbours of every run, or the last few: with the offsets in x and w, and a mask of what
/// is there. What it leaves out counts as 0, and changes no sum.
macro_rules! for_each_four {
    ($windows:expr, |[$in_x:ident, $in_w:ident], $mask:ident| $add:block) => {
        let Windows { rows, row_steps, runs, run_steps, length, .. } = *$windows;
        let whole = length - length % LANES;
        let all = _mm256_castsi256_si128(register::first(LANES));
        let last = _mm256_castsi256_si128(register::first(length - whole));
        for row in 0..rows {
            for run in 0..runs {
                let first_x = row * row_steps[0] + run * run_steps[0];
                let first_w = row * row_steps[1] + run * run_steps[1];
                for from in (0..length).step_by(LANES) {
                    let ($in_x, $in_w, $mask) =
                        (first_x + from, first_w + from, if from == whole { last } else { all });
                    $add
                }
            }
        }
    };
}

struct Sum<'a> {
    windows: &'a Windows,
    w: &'a [f32],
    products: usize,
    outputs: usize,
}

impl Sum<'_> {
    /// The filters from `first` on; after the last one it stands again.
    #[inline(always)]
    fn filters<const N: usize>(&self, first: usize) -> [*const f32; N] {
        core::array::from_fn(|at| {
            let filter = (first + at).min(self.outputs - 1) * self.products + self.windows.first;
            // SAFETY: a filter below `outputs`, of which all are there.
            unsafe { self.w.as_ptr().add(filter) }
        })
    }

    /// Pairs of windows with four filters.
    ///
    /// # Safety
    /// All windows and filters are there.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn paired<const P: usize>(
        &self,
        xs: [[*const f32; 2]; P],
        first: usize,
    ) -> [[[f32; FILTERS]; 2]; P] {
        let ws: [*const f32; FILTERS] = self.filters(first);
        let mut sums = [[_mm256_setzero_ps(); FILTERS]; P];
        let mut pairs = [_mm256_setzero_ps(); P];
        for_each_four!(self.windows, |[in_x, in_w], mask| {
            // SAFETY: the caller's, and no offset leaves the window and the filter.
            unsafe {
                for (pair, [a, b]) in pairs.iter_mut().zip(xs) {
                    *pair = beside(_mm_maskload_ps(a.add(in_x), mask), _mm_maskload_ps(b.add(in_x), mask));
                }
                for (at, w) in ws.into_iter().enumerate() {
                    let w = _mm_maskload_ps(w.add(in_w), mask);
                    let w = beside(w, w);
                    for (sums, pair) in sums.iter_mut().zip(pairs) {
                        sums[at] = _mm256_add_ps(sums[at], _mm256_mul_ps(w, pair));
                    }
                }
            }
        });
        let mut all = [[[0.0; FILTERS]; 2]; P];
        for (all, sums) in all.iter_mut().zip(sums) {
            *all = sums_of(sums);
        }
        all
    }

    /// One window with eight filters.
    ///
    /// # Safety
    /// The window and all filters are there.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn one(&self, x: *const f32, first: usize) -> [[f32; FILTERS]; 2] {
        let ws: [*const f32; 2 * FILTERS] = self.filters(first);
        let mut sums: [__m256; FILTERS] = [_mm256_setzero_ps(); FILTERS];
        for_each_four!(self.windows, |[in_x, in_w], mask| {
            // SAFETY: the caller's, and no offset leaves the window and the filter.
            unsafe {
                let x = _mm_maskload_ps(x.add(in_x), mask);
                let x = beside(x, x);
                for (at, sum) in sums.iter_mut().enumerate() {
                    let w = beside(
                        _mm_maskload_ps(ws[at].add(in_w), mask),
                        _mm_maskload_ps(ws[at + FILTERS].add(in_w), mask),
                    );
                    *sum = _mm256_add_ps(*sum, _mm256_mul_ps(w, x));
                }
            }
        });
        sums_of(sums)
    }
}

/// Two sums' lanes.
#[target_feature(enable = "avx")]
#[inline]
fn beside(low: __m128, high: __m128) -> __m256 {
    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), cast(high))
}
