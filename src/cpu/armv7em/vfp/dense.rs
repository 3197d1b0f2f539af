//! A fully connected layer and its weights' gradient for one sample: what lies around the inner loops, of which there is
//! one every four rows, would take as long as they do.

use super::{ROWS, STRIDE, reaches};
use core::arch::asm;
use core::ptr::null_mut;

/// What [`forward`] has no registers for, at the offsets that its assembly names.
#[repr(C)]
struct Frame {
    zeros: [f32; 16],
    x: *const f32,
    row_bytes: usize,
    blocks: usize,
}

/// `z[o] = sum_i w[o * inputs + i] * x[i] + biases[o]`, the sum as [`super::dots_of`] takes it, for as many outputs as
/// come in fours; returns how many: none unless inputs come in eights.
#[inline(always)]
pub fn forward(w: &[f32], biases: &[f32], x: &[f32], z: &mut [f32]) -> usize {
    let blocks = x.len() / STRIDE;
    let fours = z.len().min(biases.len()) / ROWS;
    let whole = x.len().is_multiple_of(STRIDE) && reaches(w, 0, x.len().saturating_mul(fours * ROWS));
    if !whole || blocks == 0 || fours == 0 {
        return 0;
    }
    let frame = Frame { zeros: [0.0; 16], x: x.as_ptr(), row_bytes: x.len().wrapping_mul(4), blocks };
    // SAFETY: x has `8 * blocks` values, w `4 * fours` rows of as many, biases and z `4 * fours` values; neither count
    // is 0. The frame is of 32-bit words.
    unsafe {
        vfp!(
            "3:",
            "vldmia {frame}, {{s0-s15}}",
            "ldr {blocks}, [{frame}, #68]",
            "ldr {x}, [{frame}, #64]",
            "add {b}, {a}, {blocks}",
            "add {c}, {b}, {blocks}",
            "add {d}, {c}, {blocks}",
            "ldr {blocks}, [{frame}, #72]",
            dots_loop!(),
            lane_sums!(),
            "mov {a}, {d}", // behind the fourth row lies the next block's first
            "vldmia {biases}!, {{s4-s7}}",
            "vadd.f32 s0, s0, s4", "vadd.f32 s1, s1, s5", "vadd.f32 s2, s2, s6", "vadd.f32 s3, s3, s7",
            "vstmia {z}!, {{s0-s3}}",
            "subs {fours}, {fours}, #1",
            "bne 3b",
            frame = in(reg) &raw const frame,
            x = out(reg) _,
            a = inout(reg) w.as_ptr() => _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            blocks = out(reg) _,
            biases = inout(reg) biases.as_ptr() => _,
            z = inout(reg) z.as_mut_ptr() => _,
            fours = inout(reg) fours => _,
        );
    }
    fours * ROWS
}

/// `d[o * inputs + i] += scale * delta[o] * x[i]`, the factor first, in the rows where delta is not 0; returns how
/// many rows: none unless inputs come in eights and all rows are there.
#[inline(always)]
pub fn add_rank_one(d: &mut [f32], scale: f32, delta: &[f32], x: &[f32]) -> usize {
    let inputs = x.len();
    let whole = inputs > 0 && inputs.is_multiple_of(STRIDE);
    if !whole || !reaches(d, 0, inputs.saturating_mul(delta.len())) {
        return 0;
    }
    // Four rows share every value of x that is loaded.
    let (mut rows, mut factors, mut held) = ([null_mut(); ROWS], [0.0; ROWS], 0);
    for (row, &delta) in delta.iter().enumerate() {
        // ReLU leaves many exact zeros.
        if delta == 0.0 {
            continue;
        }
        if let (Some(place), Some(factor)) = (rows.get_mut(held), factors.get_mut(held)) {
            // SAFETY: the row's values lie within d.
            *place = unsafe { d.as_mut_ptr().add(row * inputs) };
            *factor = scale * delta;
            held += 1;
        }
        if held == ROWS {
            // SAFETY: the four rows are different ones of d and have as many values as x, a positive multiple of 8.
            unsafe { super::add_to_four(rows, &factors, x) };
            held = 0;
        }
    }
    for (row, factor) in rows.into_iter().zip(factors).take(held) {
        // SAFETY: each row is one of d's, of `inputs` values; none of the others is borrowed.
        super::add_scaled(unsafe { core::slice::from_raw_parts_mut(row, inputs) }, x, factor);
    }
    delta.len()
}
