//! Sums over the pixels of two activations.

use super::{reaches, unless_flushed};
use crate::cpu::block::ROWS;
use crate::cpu::grid::Grid;
use crate::cpu::lanes::LANES;
use core::arch::asm;

/// What [`outer`] has no registers for, at the offsets that its assembly names; steps in bytes.
#[repr(C)]
struct Frame {
    pixels: usize,
    delta_jump: usize,
    x_jump: usize,
    d: *mut f32,
    stride: usize,
    scale: f32,
}

/// `d[o * stride + k] += scale * sum_p delta[p * steps[0] + o] * x[p * steps[1] + k]`, p ascending, over `lines` of so
/// many pixels that are `line_steps` apart; returns how many rows of d: none if there are no pixels or not as many.
#[inline(always)]
pub fn outer(d: &mut [f32], stride: usize, scale: f32, delta: &[f32], x: &[f32], grid: &Grid) -> usize {
    let (steps, lines, last) = (grid.steps(), grid.lines(), grid.last());
    let last_row = stride.saturating_mul(ROWS - 1);
    if !reaches(delta, last[0], LANES) || !reaches(x, last[1], LANES) || !reaches(d, last_row, LANES) {
        return 0;
    }
    let frame = Frame {
        pixels: grid.pixels(),
        delta_jump: grid.jumps()[0].wrapping_mul(4),
        x_jump: grid.jumps()[1].wrapping_mul(4),
        d: d.as_mut_ptr(),
        stride: stride.wrapping_mul(4),
        scale,
    };
    let flags: u32;
    // SAFETY: four values follow every pixel of the grid, which has at least one or nothing would reach, and every
    // multiple of `stride` in d below the fourth.
    unsafe {
        mve!(
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "vmov.i32 q2, #0",
            "vmov.i32 q3, #0",
            "3:",
            "ldr r2, [{frame}]",
            "dls lr, r2",
            "2:",
            "ldm {delta}, {{r2-r5}}",
            "vldrw.32 q4, [{x}]",
            "add {delta}, {delta_step}",
            "add {x}, {x_step}",
            "vmul.f32 q5, q4, r2",
            "vmul.f32 q6, q4, r3",
            "vadd.f32 q0, q0, q5",
            "vmul.f32 q7, q4, r4",
            "vadd.f32 q1, q1, q6",
            "vmul.f32 q4, q4, r5",
            "vadd.f32 q2, q2, q7",
            "vadd.f32 q3, q3, q4",
            "le lr, 2b",
            "ldrd r2, r3, [{frame}, #4]",
            "add {delta}, r2",
            "add {x}, r3",
            "subs {lines}, {lines}, #1",
            "bne 3b",
            "ldrd r2, r3, [{frame}, #12]",
            "ldr {x}, [{frame}, #20]",
            "add r4, r2, r3",
            "add r5, r4, r3",
            "add r3, r5, r3",
            "vldrw.32 q4, [r2]",
            "vmul.f32 q0, q0, {x}",
            "vldrw.32 q5, [r4]",
            "vmul.f32 q1, q1, {x}",
            "vadd.f32 q4, q4, q0",
            "vldrw.32 q6, [r5]",
            "vmul.f32 q2, q2, {x}",
            "vadd.f32 q5, q5, q1",
            "vldrw.32 q7, [r3]",
            "vmul.f32 q3, q3, {x}",
            "vadd.f32 q6, q6, q2",
            "vadd.f32 q7, q7, q3",
            unless_flushed!("lines", "4f"),
            "vstrw.32 q4, [r2]",
            "vstrw.32 q5, [r4]",
            "vstrw.32 q6, [r5]",
            "vstrw.32 q7, [r3]",
            "4:",
            frame = in(reg) &raw const frame,
            delta = inout(reg) delta.as_ptr() => _,
            x = inout(reg) x.as_ptr() => _,
            delta_step = in(reg) steps[0].wrapping_mul(4),
            x_step = in(reg) steps[1].wrapping_mul(4),
            lines = inout(reg) lines => flags,
            out("r2") _, out("r3") _, out("r4") _, out("r5") _,
        );
    }
    unless_flushed(flags, ROWS)
}

/// `sums[k] += sum_p a[p * steps[0] + k] * b[p * steps[1] + k]`, p ascending, line by line; returns how many sums: none if
/// there are not as many values.
#[inline(always)]
pub fn products(sums: &mut [f32; 16], a: &[f32], b: &[f32], grid: &Grid) -> usize {
    let (steps, pixels, lines, last) = (grid.steps(), grid.pixels(), grid.lines(), grid.last());
    if !reaches(a, last[0], 16) || !reaches(b, last[1], 16) {
        return 0;
    }
    let flags: u32;
    // SAFETY: 16 values follow every pixel of the grid, which has at least one, or nothing would reach; there are 16
    // sums.
    unsafe {
        mve!(
            "vldrw.32 q0, [{sums}]",
            "vldrw.32 q1, [{sums}, #16]",
            "vldrw.32 q2, [{sums}, #32]",
            "vldrw.32 q3, [{sums}, #48]",
            "3:",
            "dls lr, {pixels}",
            "2:",
            "vldrw.32 q4, [{a}]",
            "vldrw.32 q5, [{b}]",
            "vmul.f32 q4, q4, q5",
            "vldrw.32 q6, [{a}, #16]",
            "vldrw.32 q7, [{b}, #16]",
            "vmul.f32 q6, q6, q7",
            "vadd.f32 q0, q0, q4",
            "vldrw.32 q4, [{a}, #32]",
            "vldrw.32 q5, [{b}, #32]",
            "vmul.f32 q4, q4, q5",
            "vadd.f32 q1, q1, q6",
            "vldrw.32 q6, [{a}, #48]",
            "vldrw.32 q7, [{b}, #48]",
            "add {a}, {a_step}",
            "vmul.f32 q6, q6, q7",
            "vadd.f32 q2, q2, q4",
            "add {b}, {b_step}",
            "vadd.f32 q3, q3, q6",
            "le lr, 2b",
            "add {a}, {a_jump}",
            "add {b}, {b_jump}",
            "subs {lines}, {lines}, #1",
            "bne 3b",
            unless_flushed!("lines", "4f"),
            "vstrw.32 q0, [{sums}]",
            "vstrw.32 q1, [{sums}, #16]",
            "vstrw.32 q2, [{sums}, #32]",
            "vstrw.32 q3, [{sums}, #48]",
            "4:",
            sums = in(reg) sums.as_mut_ptr(),
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            a_step = in(reg) steps[0].wrapping_mul(4),
            b_step = in(reg) steps[1].wrapping_mul(4),
            a_jump = in(reg) grid.jumps()[0].wrapping_mul(4),
            b_jump = in(reg) grid.jumps()[1].wrapping_mul(4),
            pixels = in(reg) pixels,
            lines = inout(reg) lines => flags,
        );
    }
    unless_flushed(flags, sums.len())
}

/// What [`products_back`] and [`products_onto`] have in common: sums of 16 channels over the taps of one pixel, from
/// nothing.
macro_rules! tap_products {
    ($step:literal, $($end:literal),*) => {
        concat!(
            "vmov.i32 q0, #0\n",
            "vmov.i32 q1, #0\n",
            "vmov.i32 q2, #0\n",
            "vmov.i32 q3, #0\n",
            "3:\n",
            "dls lr, {pixels}\n",
            "2:\n",
            "vldrw.32 q4, [{a}]\n",
            "vldrw.32 q5, [{b}]\n",
            "vmul.f32 q4, q4, q5\n",
            "vldrw.32 q6, [{a}, #16]\n",
            "vldrw.32 q7, [{b}, #16]\n",
            "vmul.f32 q6, q6, q7\n",
            "vadd.f32 q0, q0, q4\n",
            "vldrw.32 q4, [{a}, #32]\n",
            "vldrw.32 q5, [{b}, #32]\n",
            "vmul.f32 q4, q4, q5\n",
            "vadd.f32 q1, q1, q6\n",
            "vldrw.32 q6, [{a}, #48]\n",
            "vldrw.32 q7, [{b}, #48]\n",
            $step, " {a}, {a_step}\n",
            "vmul.f32 q6, q6, q7\n",
            "vadd.f32 q2, q2, q4\n",
            "add {b}, {b_step}\n",
            "vadd.f32 q3, q3, q6\n",
            "le lr, 2b\n",
            $step, " {a}, {a_jump}\n",
            "add {b}, {b_jump}\n",
            "subs {lines}, {lines}, #1\n",
            "bne 3b\n",
            $($end, "\n",)*
            "vmrs {lines}, fpscr\n",
            "vstrw.32 q0, [{y}]\n",
            "vstrw.32 q1, [{y}, #16]\n",
            "vstrw.32 q2, [{y}, #32]\n",
            "vstrw.32 q3, [{y}, #48]\n",
        )
    };
}

/// `y[k] = sum_p a[p * steps[0] + k] * b[p * steps[1] + k] + biases[k]`, the biases last; returns how many values: none
/// if there are not as many, and all may be overwritten.
#[inline(always)]
pub fn products_onto(y: &mut [f32; 16], a: &[f32], b: &[f32], biases: &[f32; 16], grid: &Grid) -> usize {
    let last = grid.last();
    if !reaches(a, last[0], 16) || !reaches(b, last[1], 16) {
        return 0;
    }
    let flags: u32;
    // SAFETY: 16 values follow every pixel of the grid, which has at least one, or nothing would reach; there are 16
    // biases and values of y.
    unsafe {
        mve!(
            tap_products!("add", "vldrw.32 q4, [{biases}]", "vldrw.32 q5, [{biases}, #16]",
                "vadd.f32 q0, q0, q4", "vldrw.32 q6, [{biases}, #32]", "vadd.f32 q1, q1, q5",
                "vldrw.32 q7, [{biases}, #48]", "vadd.f32 q2, q2, q6", "vadd.f32 q3, q3, q7"),
            y = in(reg) y.as_mut_ptr(),
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            biases = in(reg) biases.as_ptr(),
            a_step = in(reg) grid.steps()[0].wrapping_mul(4),
            b_step = in(reg) grid.steps()[1].wrapping_mul(4),
            a_jump = in(reg) grid.jumps()[0].wrapping_mul(4),
            b_jump = in(reg) grid.jumps()[1].wrapping_mul(4),
            pixels = in(reg) grid.pixels(),
            lines = inout(reg) grid.lines() => flags,
        );
    }
    unless_flushed(flags, y.len())
}

/// `y[k] = sum_p a[first - p * steps[0] + k] * b[p * steps[1] + k]`: backwards in `a`; returns how many values: none if
/// there are not as many, and all may be overwritten.
#[inline(always)]
pub fn products_back(y: &mut [f32; 16], a: &[f32], first: usize, b: &[f32], grid: &Grid) -> usize {
    let last = grid.last();
    if last[0] > first || !reaches(a, first, 16) || !reaches(b, last[1], 16) {
        return 0;
    }
    let flags: u32;
    // SAFETY: 16 values follow every pixel of the grid, which has at least one, or nothing would reach; there are 16
    // values of y.
    unsafe {
        mve!(
            tap_products!("sub",),
            y = in(reg) y.as_mut_ptr(),
            a = inout(reg) a.as_ptr().add(first) => _,
            b = inout(reg) b.as_ptr() => _,
            a_step = in(reg) grid.steps()[0].wrapping_mul(4),
            b_step = in(reg) grid.steps()[1].wrapping_mul(4),
            a_jump = in(reg) grid.jumps()[0].wrapping_mul(4),
            b_jump = in(reg) grid.jumps()[1].wrapping_mul(4),
            pixels = in(reg) grid.pixels(),
            lines = inout(reg) grid.lines() => flags,
        );
    }
    unless_flushed(flags, y.len())
}
