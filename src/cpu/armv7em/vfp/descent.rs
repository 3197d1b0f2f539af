//! Steps that decay the velocity, add a gradient of rank one and move the weights in one pass.

use super::STRIDE;
use crate::cpu::block::ROWS;
use core::arch::asm;

/// A row's eight values in [`descend_along`]: x in s16 to s23, momentum in s28, minus the learning rate in s29.
macro_rules! descend_row {
    ($v:literal, $w:literal, $factor:literal) => {
        concat!(
            "vldmia {", $v, "}, {{s0-s7}}\n",
            multiply!(0 = 0 * 28, 1 = 1 * 28, 2 = 2 * 28, 3 = 3 * 28, 4 = 4 * 28, 5 = 5 * 28, 6 = 6 * 28, 7 = 7 * 28),
            multiply_add!(0 += 16 * $factor in 8, 1 += 17 * $factor in 9, 2 += 18 * $factor in 10,
                3 += 19 * $factor in 11, 4 += 20 * $factor in 12, 5 += 21 * $factor in 13,
                6 += 22 * $factor in 14, 7 += 23 * $factor in 15),
            "vstmia {", $v, "}!, {{s0-s7}}\n",
            "vldmia {", $w, "}, {{s8-s15}}\n",
            multiply_add!(8 += 0 * 29 in 0, 9 += 1 * 29 in 1, 10 += 2 * 29 in 2, 11 += 3 * 29 in 3,
                12 += 4 * 29 in 4, 13 += 5 * 29 in 5, 14 += 6 * 29 in 6, 15 += 7 * 29 in 7),
            "vstmia {", $w, "}!, {{s8-s15}}\n",
        )
    };
}

/// `v[r][i] = momentum * v[r][i] + factors[r] * x[i]`, then `w[r][i] += rate * v[r][i]`, for as many values as come in
/// eights; returns how many.
#[inline(always)]
pub fn descend_along(
    v: &mut [&mut [f32]; ROWS],
    w: &mut [&mut [f32]; ROWS],
    factors: &[f32; ROWS],
    x: &[f32],
    momentum: f32,
    rate: f32,
) -> usize {
    let length = v.iter().chain(w.iter()).fold(x.len(), |least, row| least.min(row.len()));
    let blocks = length / STRIDE;
    if blocks > 0 {
        let [a, b, c, d] = v.each_mut().map(|row| row.as_mut_ptr());
        let [p, q, r, s] = w.each_mut().map(|row| row.as_mut_ptr());
        let [f, g, h, i] = *factors;
        let constants = [f, g, h, i, momentum, rate];
        // SAFETY: every row and x have at least `8 * blocks` values, `blocks` is not 0, and there are six constants.
        unsafe {
            vfp!(
                "vldmia {constants}, {{s24-s29}}",
                "2:",
                "vldmia {x}!, {{s16-s23}}",
                descend_row!("a", "p", 24),
                descend_row!("b", "q", 25),
                descend_row!("c", "r", 26),
                descend_row!("d", "s", 27),
                "subs {blocks}, {blocks}, #1",
                "bne 2b",
                constants = in(reg) constants.as_ptr(),
                x = inout(reg) x.as_ptr() => _,
                a = inout(reg) a => _,
                b = inout(reg) b => _,
                c = inout(reg) c => _,
                d = inout(reg) d => _,
                p = inout(reg) p => _,
                q = inout(reg) q => _,
                r = inout(reg) r => _,
                s = inout(reg) s => _,
                blocks = inout(reg) blocks => _,
            );
        }
    }
    blocks * STRIDE
}

sweep! {
    /// [`descend_along`] for a single row.
    descend_row(v, w; x; factor in 24, momentum in 28, rate in 29), 8 values:
    "vldmia {x}!, {{s16-s23}}",
    descend_row!("v", "w", 24),
}

sweep! {
    /// `v[i] = momentum * v[i]`, then `w[i] += rate * v[i]`.
    descend(v, w; ; momentum in 24, rate in 25), 8 values:
    "vldmia {v}, {{s0-s7}}",
    "vldmia {w}, {{s8-s15}}",
    multiply!(0 = 0 * 24, 1 = 1 * 24, 2 = 2 * 24, 3 = 3 * 24, 4 = 4 * 24, 5 = 5 * 24, 6 = 6 * 24, 7 = 7 * 24),
    "vstmia {v}!, {{s0-s7}}",
    multiply_add!(8 += 0 * 25 in 0, 9 += 1 * 25 in 1, 10 += 2 * 25 in 2, 11 += 3 * 25 in 3,
        12 += 4 * 25 in 4, 13 += 5 * 25 in 5, 14 += 6 * 25 in 6, 15 += 7 * 25 in 7),
    "vstmia {w}!, {{s8-s15}}",
}
