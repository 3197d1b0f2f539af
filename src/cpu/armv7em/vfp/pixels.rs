//! Four pixels by four filters.

use super::{ZEROS, reaches};
use crate::cpu::block::{Lanes, ROWS};
use crate::cpu::lanes::LANES;
use core::arch::asm;
use core::mem::MaybeUninit;

/// Pairs that a pass through the loop of [`matrix`] takes of every slice.
const PAIR: usize = 2;

/// The loop of [`matrix`]: sums in s0 to s15, s30 and s31 left alone.
macro_rules! matrix_loop {
    () => {
        concat!(
            "2:\n",
            "vldmia {p}!, {{s16-s17}}\n",
            "vldmia {q}!, {{s18-s19}}\n",
            "vldmia {r}!, {{s20-s21}}\n",
            "vldmia {s}!, {{s22-s23}}\n",
            "vldmia {a}!, {{s24-s25}}\n",
            multiply_add!(0 += 16 * 24 in 26, 4 += 18 * 24 in 27, 8 += 20 * 24 in 28, 12 += 22 * 24 in 29),
            multiply_add!(0 += 17 * 25 in 26, 4 += 19 * 25 in 27, 8 += 21 * 25 in 28, 12 += 23 * 25 in 29),
            "vldmia {b}!, {{s24-s25}}\n",
            multiply_add!(1 += 16 * 24 in 26, 5 += 18 * 24 in 27, 9 += 20 * 24 in 28, 13 += 22 * 24 in 29),
            multiply_add!(1 += 17 * 25 in 26, 5 += 19 * 25 in 27, 9 += 21 * 25 in 28, 13 += 23 * 25 in 29),
            "vldmia {c}!, {{s24-s25}}\n",
            multiply_add!(2 += 16 * 24 in 26, 6 += 18 * 24 in 27, 10 += 20 * 24 in 28, 14 += 22 * 24 in 29),
            multiply_add!(2 += 17 * 25 in 26, 6 += 19 * 25 in 27, 10 += 21 * 25 in 28, 14 += 23 * 25 in 29),
            "vldmia {d}!, {{s24-s25}}\n",
            multiply_add!(3 += 16 * 24 in 26, 7 += 18 * 24 in 27, 11 += 20 * 24 in 28, 15 += 22 * 24 in 29),
            multiply_add!(3 += 17 * 25 in 26, 7 += 19 * 25 in 27, 11 += 21 * 25 in 28, 15 += 23 * 25 in 29),
            "subs {pairs}, {pairs}, #1\n",
            "bne 2b\n",
        )
    };
}

/// `sums[p][o] = sum_k x[p][k] * w[o][k]`, k ascending, over as many values as come in pairs, and how many they are.
#[inline(always)]
pub fn matrix(x: [&[f32]; ROWS], w: [&[f32]; ROWS]) -> (Lanes, usize) {
    let length = x[0].len();
    let pairs = length / PAIR;
    if pairs == 0 || x.iter().chain(&w).any(|row| row.len() < length) {
        return ([[0.0; LANES]; ROWS], 0);
    }
    let mut sums = MaybeUninit::<Lanes>::uninit();
    {
        let [x, w] = [x, w].map(|rows| rows.map(<[f32]>::as_ptr));
        // SAFETY: every row has at least `2 * pairs` values, `pairs` is not 0, and there are 16 zeros. All 16 sums
        // are written.
        unsafe {
            vfp!(
                "vldmia {zeros}, {{s0-s15}}",
                matrix_loop!(),
                "vstmia {sums}, {{s0-s15}}",
                zeros = in(reg) ZEROS.as_ptr(),
                sums = in(reg) sums.as_mut_ptr(),
                p = inout(reg) x[0] => _,
                q = inout(reg) x[1] => _,
                r = inout(reg) x[2] => _,
                s = inout(reg) x[3] => _,
                a = inout(reg) w[0] => _,
                b = inout(reg) w[1] => _,
                c = inout(reg) w[2] => _,
                d = inout(reg) w[3] => _,
                pairs = inout(reg) pairs => _,
            );
            (sums.assume_init(), pairs * PAIR)
        }
    }
}

/// What [`four_pixels`] has no registers for, at the offsets that its assembly names.
#[repr(C)]
struct Frame {
    zeros: [f32; 16],
    x: *const f32,
    biases: *const f32,
    y: *mut f32,
    input_bytes: usize,
    output_bytes: usize,
    pairs: usize,
    blocks: usize,
}

/// `y[p * outputs + o] = sum_k x[p * inputs + k] * w[o * inputs + k] + biases[o]` for four pixels, k ascending, the
/// bias last, for as many filters as come in fours; returns how many: none unless inputs come in pairs.
#[inline(always)]
pub fn four_pixels(
    x: &[f32],
    w: &[f32],
    biases: &[f32],
    y: &mut [f32],
    [inputs, outputs]: [usize; 2],
) -> usize {
    let pairs = inputs / PAIR;
    let whole = pairs > 0
        && inputs.is_multiple_of(PAIR)
        && reaches(x, inputs.saturating_mul(ROWS - 1), inputs)
        && reaches(y, outputs.saturating_mul(ROWS - 1), outputs);
    let blocks = biases.len().min(outputs) / ROWS;
    if !whole || blocks == 0 || !reaches(w, inputs.saturating_mul(blocks * ROWS), 0) {
        return 0;
    }
    let mut frame = Frame {
        zeros: [0.0; 16],
        x: x.as_ptr(),
        biases: biases.as_ptr(),
        y: y.as_mut_ptr(),
        input_bytes: inputs.wrapping_mul(4),
        output_bytes: outputs.wrapping_mul(4),
        pairs,
        blocks,
    };
    // SAFETY: x has four pixels of `2 * pairs` values, w `4 * blocks` filters of as many, biases `4 * blocks` values
    // and y four pixels of no fewer; neither count is 0. The frame is ours alone, and of 32-bit words.
    unsafe {
        vfp!(
            "3:",
            "vldmia {frame}, {{s0-s15}}",
            "ldr {pairs}, [{frame}, #76]",
            "ldr {p}, [{frame}, #64]",
            "add {b}, {a}, {pairs}",
            "add {c}, {b}, {pairs}",
            "add {d}, {c}, {pairs}",
            "add {q}, {p}, {pairs}",
            "add {r}, {q}, {pairs}",
            "add {s}, {r}, {pairs}",
            "ldr {pairs}, [{frame}, #84]",
            matrix_loop!(),
            "mov {a}, {d}", // behind the fourth filter lies the next block's first
            "ldr {p}, [{frame}, #68]",
            "ldr {q}, [{frame}, #72]",
            "ldr {r}, [{frame}, #80]",
            "vldmia {p}!, {{s16-s19}}",
            "str {p}, [{frame}, #68]",
            "vadd.f32 s0, s0, s16", "vadd.f32 s1, s1, s17", "vadd.f32 s2, s2, s18", "vadd.f32 s3, s3, s19",
            "vadd.f32 s4, s4, s16", "vadd.f32 s5, s5, s17", "vadd.f32 s6, s6, s18", "vadd.f32 s7, s7, s19",
            "vadd.f32 s8, s8, s16", "vadd.f32 s9, s9, s17", "vadd.f32 s10, s10, s18", "vadd.f32 s11, s11, s19",
            "vadd.f32 s12, s12, s16", "vadd.f32 s13, s13, s17", "vadd.f32 s14, s14, s18", "vadd.f32 s15, s15, s19",
            "add {s}, {q}, {r}",
            "vstmia {q}!, {{s0-s3}}",
            "str {q}, [{frame}, #72]",
            "vstmia {s}, {{s4-s7}}",
            "add {s}, {s}, {r}",
            "vstmia {s}, {{s8-s11}}",
            "add {s}, {s}, {r}",
            "vstmia {s}, {{s12-s15}}",
            "ldr {q}, [{frame}, #88]",
            "subs {q}, {q}, #1",
            "str {q}, [{frame}, #88]",
            "bne 3b",
            frame = in(reg) &raw mut frame,
            p = out(reg) _,
            q = out(reg) _,
            r = out(reg) _,
            s = out(reg) _,
            a = inout(reg) w.as_ptr() => _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            pairs = out(reg) _,
        );
    }
    blocks * ROWS
}
