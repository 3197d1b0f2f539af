//! Products of two matrices: eight filters side by side, their weights turned in registers.

use core::arch::x86_64::{
    __m128i, __m256, _mm_maskload_ps, _mm256_add_ps, _mm256_broadcast_ss, _mm256_castps128_ps256,
    _mm256_castsi256_si128, _mm256_insertf128_ps, _mm256_mul_ps, _mm256_setzero_ps, _mm256_shuffle_ps,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::register::{self, REGISTER};
use bytemuck::cast;

/// Weights of a filter that are turned at once.
const TILE: usize = 4;
/// Filters that meet a lone pixel at once.
const LONE: usize = 4 * REGISTER;

/// `y[p * outputs + o] = sum_k x[p * inputs + k] * w[o * inputs + k] + biases[o]`, k ascending, the bias last; one that
/// is not there is 0. Returns how many pixels it did: all, or none unless all values are there.
#[target_feature(enable = "avx")]
pub fn pointwise(
    x: &[f32],
    w: &[f32],
    biases: &[f32],
    y: &mut [f32],
    [inputs, outputs]: [usize; 2],
) -> usize {
    let pixels = x.len() / inputs.max(1);
    let fits = |length: usize, a: usize, b: usize| a.checked_mul(b) == Some(length) && length > 0;
    let whole =
        fits(x.len(), pixels, inputs) && fits(y.len(), pixels, outputs) && fits(w.len(), outputs, inputs);
    if !whole {
        return 0;
    }
    let layer = Layer { x, w, biases, inputs, outputs };
    let mut first = 0;
    while first < outputs {
        let lone = pixels < TILE;
        let mut pixel = 0;
        // SAFETY: filter `first` and all pixels below `pixels` are there, as was asked above.
        unsafe {
            while pixel + 8 <= pixels {
                layer.block::<8, 1>(first, pixel, y);
                pixel += 8;
            }
            while pixel + 4 <= pixels {
                layer.block::<4, 1>(first, pixel, y);
                pixel += 4;
            }
            while pixel < pixels {
                if lone {
                    layer.block::<1, 4>(first, pixel, y);
                } else {
                    layer.block::<1, 1>(first, pixel, y);
                }
                pixel += 1;
            }
        }
        first += if lone { LONE } else { REGISTER };
    }
    pixels
}

struct Layer<'a> {
    x: &'a [f32],
    w: &'a [f32],
    biases: &'a [f32],
    inputs: usize,
    outputs: usize,
}

impl Layer<'_> {
    /// P pixels from `pixel` on and the filters of B registers from `first` on; after the last filter it stands again,
    /// and its sums are dropped.
    ///
    /// # Safety
    /// Filter `first` and all of the pixels are there, in `x`, `w` and `y`.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn block<const P: usize, const B: usize>(&self, first: usize, pixel: usize, y: &mut [f32]) {
        let Self { x, w, biases, inputs, outputs } = *self;
        let mut sums = [[_mm256_setzero_ps(); B]; P];
        let mut rows = [[w.as_ptr(); REGISTER]; B];
        for (at, row) in rows.as_flattened_mut().iter_mut().enumerate() {
            // SAFETY: a filter below `outputs`.
            *row = unsafe { w.as_ptr().add((first + at).min(outputs - 1) * inputs) };
        }
        // SAFETY: the caller's.
        let x = unsafe { x.as_ptr().add(pixel * inputs) };
        let whole = inputs - inputs % TILE;
        let whole_tile = _mm256_castsi256_si128(register::first(TILE));
        for from in (0..whole).step_by(TILE) {
            for (block, rows) in rows.iter().enumerate() {
                // SAFETY: `from + TILE` is at most `inputs`, of a filter as of a pixel.
                unsafe {
                    let columns = columns(rows, from, whole_tile);
                    for (k, column) in columns.into_iter().enumerate() {
                        for (p, sums) in sums.iter_mut().enumerate() {
                            let x = _mm256_broadcast_ss(&*x.add(p * inputs + from + k));
                            sums[block] = _mm256_add_ps(sums[block], _mm256_mul_ps(x, column));
                        }
                    }
                }
            }
        }
        if whole < inputs {
            let mask = _mm256_castsi256_si128(register::first(inputs - whole));
            for (block, rows) in rows.iter().enumerate() {
                // SAFETY: no more than `inputs` of a filter as of a pixel.
                unsafe {
                    let columns = columns(rows, whole, mask);
                    for (k, column) in columns.into_iter().enumerate().take(inputs - whole) {
                        for (p, sums) in sums.iter_mut().enumerate() {
                            let x = _mm256_broadcast_ss(&*x.add(p * inputs + whole + k));
                            sums[block] = _mm256_add_ps(sums[block], _mm256_mul_ps(x, column));
                        }
                    }
                }
            }
        }
        for (block, first) in (first..outputs).step_by(REGISTER).take(B).enumerate() {
            let mut own = [0.0; REGISTER];
            let filters = REGISTER.min(outputs - first);
            for (own, &bias) in own.iter_mut().zip(biases.get(first..).unwrap_or(&[])).take(filters) {
                *own = bias;
            }
            for (p, sums) in sums.iter().enumerate() {
                let sums: [f32; REGISTER] = cast(_mm256_add_ps(sums[block], cast(own)));
                let place = (pixel + p) * outputs + first;
                let place = y.get_mut(place..place + filters).unwrap_or(&mut []);
                match place.as_mut_array::<REGISTER>() {
                    Some(y) => *y = sums,
                    None => place.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum),
                }
            }
        }
    }
}

/// Weights `from..` of eight filters, those of the mask of four, as eight filters' first, second, third and fourth.
///
/// # Safety
/// They are there.
#[target_feature(enable = "avx")]
#[inline]
unsafe fn columns(rows: &[*const f32; REGISTER], from: usize, mask: __m128i) -> [__m256; TILE] {
    let mut pairs = [_mm256_setzero_ps(); TILE];
    for (at, pair) in pairs.iter_mut().enumerate() {
        // SAFETY: the caller's.
        let [low, high] = unsafe {
            [_mm_maskload_ps(rows[at].add(from), mask), _mm_maskload_ps(rows[at + TILE].add(from), mask)]
        };
        *pair = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high);
    }
    let [a, b, c, d] = pairs;
    let [ab, cd] = [_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)];
    let [ab_high, cd_high] = [_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)];
    [
        _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
        _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
        _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
        _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
    ]
}
