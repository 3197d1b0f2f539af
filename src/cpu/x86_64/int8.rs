//! int8 products with AVX2: pairs of 16-bit products summed in 32 bits, of which none overflows.

use crate::cpu::int8::{Column, Filters, Requantization, Taps};
use core::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_storeu_si128,
    _mm_unpacklo_epi32, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256,
    _mm256_andnot_si256, _mm256_blend_epi32, _mm256_castsi256_si128, _mm256_cmpgt_epi32,
    _mm256_cvtepi8_epi16, _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_max_epi32, _mm256_min_epi32, _mm256_movemask_epi8, _mm256_mul_epi32, _mm256_packs_epi16,
    _mm256_packs_epi32, _mm256_permute2x128_si256, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_slli_epi64, _mm256_srai_epi32, _mm256_srav_epi32, _mm256_srli_epi64,
    _mm256_storeu_si256, _mm256_unpackhi_epi16, _mm256_unpacklo_epi16,
};
use core::mem::MaybeUninit;

/// int8 values that a register holds as 16 bits.
const GROUP: usize = 16;
/// Most groups of a column.
const GROUPS: usize = 64;
/// Outputs of a block.
const FILTERS: usize = 4;
/// int32 values of a register.
const REGISTER: usize = 8;
/// Most taps of a depthwise window.
const TAPS: usize = 64;

/// [`crate::cpu::int8::accumulate`] of P columns that share every weight that is loaded; returns how many outputs it
/// did: all or none.
#[target_feature(enable = "avx2")]
pub fn accumulate<const P: usize>(
    filters: &Filters,
    columns: [Column; P],
    from: usize,
    sums: &mut [&mut [i32]; P],
) -> usize {
    let Filters { weights, stride, start, offset } = *filters;
    let length = columns[0].len();
    let fits =
        columns.iter().zip(&*sums).all(|(x, sums)| x.len() == length && filters.hold(from, length, sums));
    if !fits || length > GROUP * GROUPS || i16::try_from(offset).is_err() {
        return 0;
    }
    let mut wide = [[MaybeUninit::<__m256i>::uninit(); GROUPS]; P];
    for (wide, column) in wide.iter_mut().zip(columns) {
        widen(column, offset as i16, wide);
    }
    let groups = length.div_ceil(GROUP);
    for first in (0..start.len()).step_by(FILTERS) {
        let mut added = [[_mm256_setzero_si256(); FILTERS]; P];
        let mut rows = [0; FILTERS];
        for (at, row) in rows.iter_mut().enumerate() {
            // After the last filter it stands again, and its sums are dropped.
            *row = (first + at).min(start.len() - 1) * stride + from;
        }
        for group in 0..groups {
            for (at, row) in rows.into_iter().enumerate() {
                let w = load(weights, row + group * GROUP);
                for (added, wide) in added.iter_mut().zip(&wide) {
                    // SAFETY: `widen` wrote as many groups as the column has.
                    let x = unsafe { wide[group].assume_init() };
                    added[at] = _mm256_add_epi32(added[at], _mm256_madd_epi16(x, w));
                }
            }
        }
        for (sums, [a, b, c, d]) in sums.iter_mut().zip(added) {
            let four = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
            let four = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256::<1>(four));
            let mut own = [0i32; FILTERS];
            // SAFETY: four values.
            unsafe { _mm_storeu_si128(own.as_mut_ptr().cast(), four) };
            let start = start.get(first..).unwrap_or(&[]);
            for ((sum, own), &start) in
                sums.get_mut(first..).unwrap_or(&mut []).iter_mut().zip(own).zip(start)
            {
                *sum = own.wrapping_add(if from == 0 { start } else { *sum });
            }
        }
    }
    start.len()
}

/// Sixteen weights from `first` on; zeros where there are no more.
#[target_feature(enable = "avx2")]
#[inline]
fn load(weights: &[i8], first: usize) -> __m256i {
    if first + GROUP <= weights.len() {
        // SAFETY: sixteen weights are there.
        return _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(weights.as_ptr().add(first).cast()) });
    }
    let mut rest = [0i8; GROUP];
    for (to, &from) in rest.iter_mut().zip(weights.get(first..).unwrap_or(&[])) {
        *to = from;
    }
    // SAFETY: sixteen values.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(rest.as_ptr().cast()) })
}

/// Writes the column's values plus `offset` as 16 bits, zeros after the last one.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(column: Column, offset: i16, wide: &mut [MaybeUninit<__m256i>; GROUPS]) {
    let length = column.len();
    let mut gathered = [MaybeUninit::<i8>::uninit(); GROUP * GROUPS];
    let mut rows = column.iter();
    let mut values = rows.next().unwrap_or(&[]);
    if values.len() < length {
        let mut at = 0;
        for row in column.iter() {
            let place = gathered.get_mut(at..at + row.len()).unwrap_or(&mut []);
            // SAFETY: bytes may lie where bytes may be missing, and both are as many.
            unsafe { core::ptr::copy_nonoverlapping(row.as_ptr(), place.as_mut_ptr().cast(), place.len()) };
            at += place.len();
        }
        // SAFETY: the first `at` were written.
        values = unsafe { core::slice::from_raw_parts(gathered.as_ptr().cast(), at) };
    }
    let offset = _mm256_set1_epi16(offset);
    let whole = length / GROUP;
    for (group, wide) in wide.iter_mut().enumerate().take(whole) {
        wide.write(_mm256_add_epi16(load(values, group * GROUP), offset));
    }
    if let (false, Some(wide)) = (length.is_multiple_of(GROUP), wide.get_mut(whole)) {
        let sum = _mm256_add_epi16(load(values, whole * GROUP), offset);
        // A weight that follows counts nothing.
        const ONES: [i16; 2 * GROUP] = [
            -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0,
        ];
        // SAFETY: at most sixteen values are skipped, and sixteen follow.
        let mask = unsafe { _mm256_loadu_si256(ONES.as_ptr().add(GROUP - length % GROUP).cast()) };
        wide.write(_mm256_and_si256(sum, mask));
    }
}

/// [`crate::cpu::int8::depthwise`] for the first channels, sixteen at a time; returns how many.
#[target_feature(enable = "avx2")]
pub fn depthwise(taps: &Taps, offset: i32, start: &[i32], sums: &mut [i32]) -> usize {
    let channels = sums.len().min(start.len()) / GROUP * GROUP;
    let count = taps.rows * taps.columns;
    if count == 0 || count > TAPS || !taps.hold(channels) || !(-255..=255).contains(&offset) {
        return 0;
    }
    let mut places = [[0usize; 2]; TAPS];
    for (at, place) in places.iter_mut().enumerate().take(count) {
        let (row, column) = (at / taps.columns, at % taps.columns);
        *place = [0, 1].map(|axis| row * taps.row_stride[axis] + column * taps.column_stride[axis]);
    }
    let offset = _mm256_set1_epi16(offset as i16);
    let at = |values: &[i8], first: usize| {
        // SAFETY: all channels of every tap are there, as was asked above.
        _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(values.as_ptr().add(first).cast::<__m128i>()) })
    };
    for first in (0..channels).step_by(GROUP) {
        let [mut low, mut high] = [_mm256_setzero_si256(); 2];
        for pair in places.get(..count).unwrap_or(&[]).chunks(2) {
            let [in_x, in_w] = pair[0];
            let (x, w) =
                (_mm256_add_epi16(at(taps.input, in_x + first), offset), at(taps.weights, in_w + first));
            let (mut other_x, mut other_w) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            if let Some(&[in_x, in_w]) = pair.get(1) {
                other_x = _mm256_add_epi16(at(taps.input, in_x + first), offset);
                other_w = at(taps.weights, in_w + first);
            }
            let (x_low, w_low) = (_mm256_unpacklo_epi16(x, other_x), _mm256_unpacklo_epi16(w, other_w));
            let (x_high, w_high) = (_mm256_unpackhi_epi16(x, other_x), _mm256_unpackhi_epi16(w, other_w));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(x_low, w_low));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(x_high, w_high));
        }
        let ordered =
            [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)];
        for (half, added) in ordered.into_iter().enumerate() {
            let place = first + half * REGISTER;
            // SAFETY: `channels` values are there of both.
            unsafe {
                let start = _mm256_loadu_si256(start.as_ptr().add(place).cast());
                _mm256_storeu_si256(sums.as_mut_ptr().add(place).cast(), _mm256_add_epi32(start, added));
            }
        }
    }
    channels
}

/// [`crate::cpu::int8::Requantizer`] for the first outputs, eight at a time up to one whose shift is not in -31..0; returns
/// how many.
#[target_feature(enable = "avx2")]
pub fn requantize(sums: &[i32], requantization: &Requantization, output: &mut [i8]) -> usize {
    let Requantization { mantissas, shifts, output_zero_point, clamp, .. } = *requantization;
    let [low, high] = clamp.map(|bound| _mm256_set1_epi32(i32::from(bound).wrapping_sub(output_zero_point)));
    let zero_point = _mm256_set1_epi32(output_zero_point);
    let (ones, half, least, bits) =
        (_mm256_set1_epi32(1), _mm256_set1_epi64x(1 << 30), _mm256_set1_epi32(-32), _mm256_set1_epi32(31));
    let eights = sums.as_chunks::<REGISTER>().0.iter().zip(output.as_chunks_mut::<REGISTER>().0);
    let multipliers = mantissas.as_chunks::<REGISTER>().0.iter().zip(shifts.as_chunks::<REGISTER>().0);
    let mut done = 0;
    for ((sums, output), (mantissas, shifts)) in eights.zip(multipliers) {
        // SAFETY: eight values each.
        let [x, mantissa, shift] =
            [sums, mantissas, shifts].map(|values| unsafe { _mm256_loadu_si256(values.as_ptr().cast()) });
        let inside = _mm256_and_si256(
            _mm256_cmpgt_epi32(_mm256_setzero_si256(), shift),
            _mm256_cmpgt_epi32(shift, least),
        );
        if _mm256_movemask_epi8(inside) != -1 {
            break;
        }
        let even = _mm256_add_epi64(_mm256_mul_epi32(x, mantissa), half);
        let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(x), _mm256_srli_epi64::<32>(mantissa));
        let odd = _mm256_add_epi64(odd, half);
        let doubled =
            _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<31>(even), _mm256_slli_epi64::<1>(odd));
        let toward_zero = _mm256_add_epi32(doubled, _mm256_srai_epi32::<31>(doubled));
        let shifted = _mm256_srav_epi32(toward_zero, _mm256_andnot_si256(shift, bits));
        let steps = _mm256_srai_epi32::<1>(_mm256_add_epi32(shifted, ones));
        let steps = _mm256_min_epi32(_mm256_max_epi32(steps, low), high);
        let words = _mm256_add_epi32(steps, zero_point);
        let bytes = _mm256_packs_epi16(_mm256_packs_epi32(words, words), _mm256_setzero_si256());
        let pair = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
        let four =
            [_mm_cvtsi128_si32(pair), _mm_cvtsi128_si32(core::arch::x86_64::_mm_srli_si128::<4>(pair))];
        *output = bytemuck::cast(four);
        done += REGISTER;
    }
    done
}
