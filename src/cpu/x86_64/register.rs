//! Eight neighbours in memory, or the last few of a row.

use core::arch::x86_64::{
    __m256, __m256i, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskload_ps, _mm256_maskstore_ps,
    _mm256_storeu_ps,
};

/// Values of a register.
pub const REGISTER: usize = 8;

/// A mask of the first `count` values; of all, if there are more.
#[target_feature(enable = "avx")]
#[inline]
pub fn first(count: usize) -> __m256i {
    const ONES: [i32; 2 * REGISTER] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let from = REGISTER - count.min(REGISTER);
    // SAFETY: `from` is at most 8, and eight values follow it.
    unsafe { _mm256_loadu_si256(ONES.as_ptr().add(from).cast()) }
}

/// Eight values; or, `MASKED`, those of `mask`, and zeros.
///
/// # Safety
/// As many values as are read lie at `from`.
#[target_feature(enable = "avx")]
#[inline]
pub unsafe fn load<const MASKED: bool>(from: *const f32, mask: __m256i) -> __m256 {
    // SAFETY: the caller's; a masked load does not touch what is left out.
    unsafe { if MASKED { _mm256_maskload_ps(from, mask) } else { _mm256_loadu_ps(from) } }
}

/// Writes what [`load`] reads.
///
/// # Safety
/// As many values as are written lie at `to`.
#[target_feature(enable = "avx")]
#[inline]
pub unsafe fn store<const MASKED: bool>(to: *mut f32, mask: __m256i, values: __m256) {
    // SAFETY: the caller's; a masked store does not touch what is left out.
    unsafe { if MASKED { _mm256_maskstore_ps(to, mask, values) } else { _mm256_storeu_ps(to, values) } }
}

/// Calls `$block::<.., registers, masked>($($argument)*, first, mask)` for all of `$width` neighbours, the most
/// registers at a time: 4, 2, 1, and one for the last few. The block begins with the neighbour `first`.
macro_rules! in_registers {
    ($width:expr, |$first:ident, $mask:ident| $four:expr, $two:expr, $one:expr, $rest:expr) => {{
        let width: usize = $width;
        let mut $first = 0;
        let $mask = $crate::cpu::x86_64::register::first(width % $crate::cpu::x86_64::register::REGISTER);
        while $first + 4 * $crate::cpu::x86_64::register::REGISTER <= width {
            $four;
            $first += 4 * $crate::cpu::x86_64::register::REGISTER;
        }
        while $first + 2 * $crate::cpu::x86_64::register::REGISTER <= width {
            $two;
            $first += 2 * $crate::cpu::x86_64::register::REGISTER;
        }
        if $first + $crate::cpu::x86_64::register::REGISTER <= width {
            $one;
            $first += $crate::cpu::x86_64::register::REGISTER;
        }
        if $first < width {
            $rest;
        }
    }};
}
pub(super) use in_registers;
