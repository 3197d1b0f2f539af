//! Sums over the pixels of two activations.

use super::{ZEROS, reaches};
use crate::cpu::block::ROWS;
use crate::cpu::grid::Grid;
use crate::cpu::lanes::LANES;
use core::arch::asm;

/// What the loops of [`outer`] need, at the offsets that its assembly names; the stride in bytes.
#[repr(C)]
struct OuterEnd {
    d: *mut f32,
    stride: usize,
    scale: f32,
}

/// `d[o * stride + k] += scale * sum_p delta[p * steps[0] + o] * x[p * steps[1] + k]`, p ascending, over `lines` of so
/// many pixels that are `line_steps` apart; returns how many rows of d: none if there are no pixels or not as many.
#[inline(always)]
pub fn outer(d: &mut [f32], stride: usize, scale: f32, delta: &[f32], x: &[f32], grid: &Grid) -> usize {
    let (steps, pixels, lines, last) = (grid.steps(), grid.pixels(), grid.lines(), grid.last());
    let last_row = stride.saturating_mul(ROWS - 1);
    if !reaches(delta, last[0], LANES) || !reaches(x, last[1], LANES) || !reaches(d, last_row, LANES) {
        return 0;
    }
    let end = OuterEnd { d: d.as_mut_ptr(), stride: stride.wrapping_mul(4), scale };
    // SAFETY: four values follow every pixel of the grid, which has at least one or nothing would reach, and every
    // multiple of `stride` in d below the fourth; there are 16 zeros.
    unsafe {
        vfp!(
            "vldmia {left}, {{s0-s15}}",
            "3:",
            "mov {left}, {pixels}",
            "2:",
            "vldmia {delta}, {{s16-s19}}",
            "vldmia {x}, {{s20-s23}}",
            "add {delta}, {delta}, {delta_step}",
            "add {x}, {x}, {x_step}",
            multiply_add!(0 += 16 * 20 in 24, 1 += 16 * 21 in 25, 2 += 16 * 22 in 26, 3 += 16 * 23 in 27),
            multiply_add!(4 += 17 * 20 in 24, 5 += 17 * 21 in 25, 6 += 17 * 22 in 26, 7 += 17 * 23 in 27),
            multiply_add!(8 += 18 * 20 in 24, 9 += 18 * 21 in 25, 10 += 18 * 22 in 26, 11 += 18 * 23 in 27),
            multiply_add!(12 += 19 * 20 in 24, 13 += 19 * 21 in 25, 14 += 19 * 22 in 26, 15 += 19 * 23 in 27),
            "subs {left}, {left}, #1",
            "bne 2b",
            "add {delta}, {delta}, {delta_jump}",
            "add {x}, {x}, {x_jump}",
            "subs {lines}, {lines}, #1",
            "bne 3b",
            "ldr {delta}, [{end}]",
            "ldr {x}, [{end}, #4]",
            "vldr s30, [{end}, #8]",
            "vldmia {delta}, {{s16-s19}}",
            multiply_add!(16 += 0 * 30 in 0, 17 += 1 * 30 in 1, 18 += 2 * 30 in 2, 19 += 3 * 30 in 3),
            "vstmia {delta}, {{s16-s19}}",
            "add {delta}, {delta}, {x}",
            "vldmia {delta}, {{s16-s19}}",
            multiply_add!(16 += 4 * 30 in 4, 17 += 5 * 30 in 5, 18 += 6 * 30 in 6, 19 += 7 * 30 in 7),
            "vstmia {delta}, {{s16-s19}}",
            "add {delta}, {delta}, {x}",
            "vldmia {delta}, {{s16-s19}}",
            multiply_add!(16 += 8 * 30 in 8, 17 += 9 * 30 in 9, 18 += 10 * 30 in 10, 19 += 11 * 30 in 11),
            "vstmia {delta}, {{s16-s19}}",
            "add {delta}, {delta}, {x}",
            "vldmia {delta}, {{s16-s19}}",
            multiply_add!(16 += 12 * 30 in 12, 17 += 13 * 30 in 13, 18 += 14 * 30 in 14, 19 += 15 * 30 in 15),
            "vstmia {delta}, {{s16-s19}}",
            end = in(reg) &raw const end,
            delta = inout(reg) delta.as_ptr() => _,
            x = inout(reg) x.as_ptr() => _,
            delta_step = in(reg) steps[0].wrapping_mul(4),
            x_step = in(reg) steps[1].wrapping_mul(4),
            delta_jump = in(reg) grid.jumps()[0].wrapping_mul(4),
            x_jump = in(reg) grid.jumps()[1].wrapping_mul(4),
            pixels = in(reg) pixels,
            left = inout(reg) ZEROS.as_ptr() => _,
            lines = inout(reg) lines => _,
        );
    }
    ROWS
}

/// `sums[k] += sum_p a[p * steps[0] + k] * b[p * steps[1] + k]`, p ascending, line by line; returns how many sums: none if
/// there are not as many values.
#[inline(always)]
pub fn products(sums: &mut [f32; 16], a: &[f32], b: &[f32], grid: &Grid) -> usize {
    let (steps, pixels, lines, last) = (grid.steps(), grid.pixels(), grid.lines(), grid.last());
    if !reaches(a, last[0], 16) || !reaches(b, last[1], 16) {
        return 0;
    }
    // SAFETY: 16 values follow every pixel of the grid, which has at least one, or nothing would reach; there are 16 sums.
    unsafe {
        vfp!(
            "vldmia {sums}, {{s0-s15}}",
            "3:",
            "mov {left}, {pixels}",
            "2:",
            "vldmia {a}!, {{s16-s23}}",
            "vldmia {b}!, {{s24-s31}}",
            multiply_add!(0 += 16 * 24 in 16, 1 += 17 * 25 in 17, 2 += 18 * 26 in 18, 3 += 19 * 27 in 19,
                4 += 20 * 28 in 20, 5 += 21 * 29 in 21, 6 += 22 * 30 in 22, 7 += 23 * 31 in 23),
            "vldmia {a}!, {{s16-s23}}",
            "vldmia {b}!, {{s24-s31}}",
            "add {a}, {a}, {a_step}",
            "add {b}, {b}, {b_step}",
            multiply_add!(8 += 16 * 24 in 16, 9 += 17 * 25 in 17, 10 += 18 * 26 in 18, 11 += 19 * 27 in 19,
                12 += 20 * 28 in 20, 13 += 21 * 29 in 21, 14 += 22 * 30 in 22, 15 += 23 * 31 in 23),
            "subs {left}, {left}, #1",
            "bne 2b",
            "add {a}, {a}, {a_jump}",
            "add {b}, {b}, {b_jump}",
            "subs {lines}, {lines}, #1",
            "bne 3b",
            "vstmia {sums}, {{s0-s15}}",
            sums = in(reg) sums.as_mut_ptr(),
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            a_step = in(reg) steps[0].wrapping_sub(16).wrapping_mul(4),
            b_step = in(reg) steps[1].wrapping_sub(16).wrapping_mul(4),
            a_jump = in(reg) grid.jumps()[0].wrapping_mul(4),
            b_jump = in(reg) grid.jumps()[1].wrapping_mul(4),
            pixels = in(reg) pixels,
            left = out(reg) _,
            lines = inout(reg) lines => _,
        );
    }
    sums.len()
}
