//! Whole pixels of a convolution: what lies around the inner loops, of which there is one every tap or line, would take
//! as long as they do.

use super::{reaches, unless_flushed};
use crate::cpu::block::{ROWS, Window};
use crate::cpu::grid::Grid;
use core::arch::asm;

/// What [`forward_window`] has no registers for, at the offsets that its assembly names; steps in bytes.
#[repr(C)]
struct Frame {
    x: *const f32,
    w: *const f32,
    lines: usize,
    /// From one line's values to the next line's, and in a filter.
    x_step: usize,
    w_step: usize,
    biases: *const f32,
    y: *mut f32,
    fours: usize,
}

/// `y[o] = sum over lines and i of x[line, i] * w[o, line, i] + biases[o]`, value i of a line through lane i mod 4, the
/// lanes as [`crate::cpu::lanes::sum_of`] sums them, for as many filters as come in fours; returns how many: all or none,
/// whose values may be overwritten.
#[inline(always)]
pub fn forward_window(window: &Window, x: &[f32], w: &[f32], biases: &[f32], y: &mut [f32]) -> usize {
    let Window { lines, length, x_step, w_step, filter_step } = *window;
    let fours = y.len().min(biases.len()) / ROWS;
    let Some(before) = lines.checked_sub(1) else { return 0 };
    let last_filter = (fours * ROWS).saturating_sub(1).saturating_mul(filter_step);
    if fours == 0
        || !reaches(x, before.saturating_mul(x_step), length)
        || !reaches(w, before.saturating_mul(w_step).saturating_add(last_filter), length)
    {
        return 0;
    }
    let mut frame = Frame {
        x: x.as_ptr(),
        w: w.as_ptr(),
        lines,
        x_step: x_step.wrapping_mul(4),
        w_step: w_step.wrapping_mul(4),
        biases: biases.as_ptr(),
        y: y.as_mut_ptr(),
        fours,
    };
    let flags: u32;
    // SAFETY: `length` values follow in every line of x and of `4 * fours` filters; biases and y have `4 * fours` values,
    // and neither `fours` nor `lines` is 0. The frame is ours alone, and of 32-bit words.
    unsafe {
        mve!(
            "6:",
            "ldrd {start}, {line}, [{frame}]",
            "ldr {lines}, [{frame}, #8]",
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "vmov.i32 q2, #0",
            "vmov.i32 q3, #0",
            "5:",
            "mov {x}, {start}",
            "mov {a}, {line}",
            "add {b}, {line}, {filter}",
            "add {c}, {b}, {filter}",
            "add {d}, {c}, {filter}",
            dots_loop!(),
            "ldrd {a}, {b}, [{frame}, #12]",
            "add {start}, {a}",
            "add {line}, {b}",
            "subs {lines}, {lines}, #1",
            "bne 5b",
            lane_sums!(),
            "ldrd {a}, {b}, [{frame}, #20]",
            "vldrw.32 q1, [{a}], #16",
            "vadd.f32 q0, q0, q1",
            "vstrw.32 q0, [{b}], #16",
            "strd {a}, {b}, [{frame}, #20]",
            "ldr {a}, [{frame}, #4]",
            "add {a}, {a}, {filter}, lsl #2",
            "str {a}, [{frame}, #4]",
            "ldr {a}, [{frame}, #28]",
            "subs {a}, {a}, #1",
            "str {a}, [{frame}, #28]",
            "bne 6b",
            "vmrs {x}, fpscr",
            frame = in(reg) &raw mut frame,
            filter = in(reg) filter_step.wrapping_mul(4),
            count = in(reg) length,
            start = out(reg) _,
            line = out(reg) _,
            lines = out(reg) _,
            x = out(reg) flags,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
        );
    }
    unless_flushed(flags, fours * ROWS)
}

/// What [`combine_taps`] has no registers for, at the offsets that its assembly names; jumps in bytes.
#[repr(C)]
struct TapsFrame {
    taps: usize,
    /// From where a tap's factors and rows end to the next tap's.
    tap_jumps: [usize; 2],
    /// From where the next tap of a line would be to the next line's first.
    line_jumps: [usize; 2],
    sums: *mut f32,
}

/// `sums[i] = sum_p sum_o factors[first - p * steps[0] + o] * rows[p * steps[1] + o * stride + i]`, taps p ascending and
/// for each o, of which there are `count`, a multiple of four; returns how many sums: all, which may be overwritten, or
/// none.
#[inline(always)]
pub fn combine_taps(
    sums: &mut [f32; 16],
    factors: &[f32],
    first: usize,
    rows: &[f32],
    stride: usize,
    count: usize,
    grid: &Grid,
) -> usize {
    let (steps, last) = (grid.steps(), grid.last());
    let last_row = last[1].saturating_add(count.saturating_sub(1).saturating_mul(stride));
    let whole = count > 0 && count.is_multiple_of(ROWS) && last[0] <= first;
    if !whole || !reaches(factors, first, count) || !reaches(rows, last_row, 16) {
        return 0;
    }
    let frame = TapsFrame {
        taps: grid.pixels(),
        tap_jumps: [
            steps[0].wrapping_add(count).wrapping_neg().wrapping_mul(4),
            steps[1].wrapping_sub(count.wrapping_mul(stride)).wrapping_mul(4),
        ],
        line_jumps: [grid.jumps()[0].wrapping_neg().wrapping_mul(4), grid.jumps()[1].wrapping_mul(4)],
        sums: sums.as_mut_ptr(),
    };
    let flags: u32;
    // SAFETY: every tap of the grid, which has at least one or nothing would reach, has `count` factors and as many rows
    // of 16 values, `stride` apart; `count` is a multiple of four and not 0; there are 16 sums.
    unsafe {
        mve!(
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "vmov.i32 q2, #0",
            "vmov.i32 q3, #0",
            "4:",
            "ldr {taps}, [{frame}]",
            "3:",
            "dls lr, {fours}",
            "2:",
            "ldm {factors}!, {{r2-r5}}",
            combine_row!("r2"),
            combine_row!("r3"),
            combine_row!("r4"),
            combine_row!("r5"),
            "le lr, 2b",
            "ldrd r2, r3, [{frame}, #4]",
            "add {factors}, r2",
            "add {rows}, r3",
            "subs {taps}, {taps}, #1",
            "bne 3b",
            "ldrd r2, r3, [{frame}, #12]",
            "add {factors}, r2",
            "add {rows}, r3",
            "subs {lines}, {lines}, #1",
            "bne 4b",
            "vmrs {lines}, fpscr",
            "ldr r2, [{frame}, #20]",
            "vstrw.32 q0, [r2]",
            "vstrw.32 q1, [r2, #16]",
            "vstrw.32 q2, [r2, #32]",
            "vstrw.32 q3, [r2, #48]",
            frame = in(reg) &raw const frame,
            factors = inout(reg) factors.as_ptr().add(first) => _,
            rows = inout(reg) rows.as_ptr() => _,
            step = in(reg) stride.wrapping_mul(4),
            fours = in(reg) count / ROWS,
            taps = out(reg) _,
            lines = inout(reg) grid.lines() => flags,
            out("r2") _, out("r3") _, out("r4") _, out("r5") _,
        );
    }
    unless_flushed(flags, sums.len())
}

/// What [`combine_pixels`] has no registers for, at the offsets that its assembly names; the step in bytes.
#[repr(C)]
struct PixelsFrame {
    w: *const f32,
    step: usize,
}

/// `y[p * channels + i] = sum_o factors[p * outputs + o] * w[o * channels + i]`, o ascending, for sixteen channels of
/// every pixel p from the first of y and w on; returns how many channels: 16, whose values may be overwritten, or none.
#[inline(always)]
pub fn combine_pixels(y: &mut [f32], factors: &[f32], w: &[f32], [channels, outputs]: [usize; 2]) -> usize {
    let Some(pixels) = factors.len().checked_div(outputs).filter(|&pixels| pixels > 0) else { return 0 };
    if !outputs.is_multiple_of(ROWS)
        || !reaches(w, (outputs - 1).saturating_mul(channels), 16)
        || !reaches(y, (pixels - 1).saturating_mul(channels), 16)
    {
        return 0;
    }
    let frame = PixelsFrame { w: w.as_ptr(), step: channels.wrapping_mul(4) };
    let flags: u32;
    // SAFETY: there are `outputs` factors for each of the pixels, of which there is one, and as many rows of 16 values in
    // w, `channels` apart; `outputs` is a multiple of four and not 0; each pixel has 16 values in y.
    unsafe {
        mve!(
            "3:",
            "ldr {rows}, [{frame}]",
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "vmov.i32 q2, #0",
            "vmov.i32 q3, #0",
            "dls lr, {fours}",
            "2:",
            "ldm {factors}!, {{r2-r5}}",
            combine_row!("r2"),
            combine_row!("r3"),
            combine_row!("r4"),
            combine_row!("r5"),
            "le lr, 2b",
            "vstrw.32 q0, [{y}]",
            "vstrw.32 q1, [{y}, #16]",
            "vstrw.32 q2, [{y}, #32]",
            "vstrw.32 q3, [{y}, #48]",
            "add {y}, {step}",
            "subs {pixels}, {pixels}, #1",
            "bne 3b",
            "vmrs {pixels}, fpscr",
            frame = in(reg) &raw const frame,
            factors = inout(reg) factors.as_ptr() => _,
            rows = out(reg) _,
            step = in(reg) frame.step,
            fours = in(reg) outputs / ROWS,
            y = inout(reg) y.as_mut_ptr() => _,
            pixels = inout(reg) pixels => flags,
            out("r2") _, out("r3") _, out("r4") _, out("r5") _,
        );
    }
    unless_flushed(flags, 16)
}
