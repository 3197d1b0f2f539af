//! The sweeps of a stored ascent: norms, the way to `w + e`, and the way back.

use super::STRIDE;
use core::arch::asm;

/// Values that a pass through the loops of [`norm_squared`] and [`copy`] takes.
const WIDE: usize = 16;

/// [`crate::lanes::norm_squared`]; `None` if the values do not come in sixteens.
#[inline(always)]
pub fn norm_squared(a: &[f32]) -> Option<f32> {
    let blocks = a.len() / WIDE;
    if blocks == 0 || !a.len().is_multiple_of(WIDE) {
        return None;
    }
    let sum: u32;
    // SAFETY: a has `16 * blocks` values, and `blocks` is not 0.
    unsafe {
        vfp!(
            "vmov s0, {sum}",
            "vmov s1, {sum}",
            "vmov s2, {sum}",
            "vmov s3, {sum}",
            "2:",
            "vldmia {a}!, {{s16-s31}}",
            multiply_add!(0 += 16 * 16 in 16, 1 += 17 * 17 in 17, 2 += 18 * 18 in 18, 3 += 19 * 19 in 19,
                0 += 20 * 20 in 20, 1 += 21 * 21 in 21, 2 += 22 * 22 in 22, 3 += 23 * 23 in 23,
                0 += 24 * 24 in 24, 1 += 25 * 25 in 25, 2 += 26 * 26 in 26, 3 += 27 * 27 in 27,
                0 += 28 * 28 in 28, 1 += 29 * 29 in 29, 2 += 30 * 30 in 30, 3 += 31 * 31 in 31),
            "subs {blocks}, {blocks}, #1",
            "bne 2b",
            "vadd.f32 s0, s0, s2",
            "vadd.f32 s1, s1, s3",
            "vadd.f32 s0, s0, s1",
            "vmov {sum}, s0",
            sum = inout(reg) 0u32 => sum,
            a = inout(reg) a.as_ptr() => _,
            blocks = inout(reg) blocks => _,
        );
    }
    Some(f32::from_bits(sum))
}

/// Eight values of w, in s16 to s23, to `|w| + eta`, eta in s9.
macro_rules! scale_loop {
    () => {
        concat!(
            "vabs.f32 s16, s16\n",
            "vabs.f32 s17, s17\n",
            "vabs.f32 s18, s18\n",
            "vabs.f32 s19, s19\n",
            "vabs.f32 s20, s20\n",
            "vabs.f32 s21, s21\n",
            "vabs.f32 s22, s22\n",
            "vabs.f32 s23, s23\n",
            "vadd.f32 s16, s16, s9\n",
            "vadd.f32 s17, s17, s9\n",
            "vadd.f32 s18, s18, s9\n",
            "vadd.f32 s19, s19, s9\n",
            "vadd.f32 s20, s20, s9\n",
            "vadd.f32 s21, s21, s9\n",
            "vadd.f32 s22, s22, s9\n",
            "vadd.f32 s23, s23, s9\n",
        )
    };
}

/// Eight times `s16 = s16 * s24` and so on.
macro_rules! multiply {
    ($a:literal, $b:literal, $c:literal, $d:literal, $e:literal, $f:literal, $g:literal, $h:literal) => {
        concat!(
            "vmul.f32 s16, s16, s",
            $a,
            "\n",
            "vmul.f32 s17, s17, s",
            $b,
            "\n",
            "vmul.f32 s18, s18, s",
            $c,
            "\n",
            "vmul.f32 s19, s19, s",
            $d,
            "\n",
            "vmul.f32 s20, s20, s",
            $e,
            "\n",
            "vmul.f32 s21, s21, s",
            $f,
            "\n",
            "vmul.f32 s22, s22, s",
            $g,
            "\n",
            "vmul.f32 s23, s23, s",
            $h,
            "\n",
        )
    };
}

/// [`crate::lanes::scaled_norm_squared`]; `None` if the values do not come in eights.
#[inline(always)]
pub fn scaled_norm_squared(w: &[f32], g: &[f32], eta: f32) -> Option<f32> {
    let blocks = w.len() / STRIDE;
    if blocks == 0 || !w.len().is_multiple_of(STRIDE) || g.len() != w.len() {
        return None;
    }
    let sum: u32;
    // SAFETY: w and g have `8 * blocks` values, and `blocks` is not 0.
    unsafe {
        vfp!(
            "vmov s9, {eta}",
            "vmov s0, {sum}",
            "vmov s1, {sum}",
            "vmov s2, {sum}",
            "vmov s3, {sum}",
            "2:",
            "vldmia {w}!, {{s16-s23}}",
            "vldmia {g}!, {{s24-s31}}",
            scale_loop!(),
            multiply!(24, 25, 26, 27, 28, 29, 30, 31),
            multiply_add!(0 += 16 * 16 in 16, 1 += 17 * 17 in 17, 2 += 18 * 18 in 18, 3 += 19 * 19 in 19,
                0 += 20 * 20 in 20, 1 += 21 * 21 in 21, 2 += 22 * 22 in 22, 3 += 23 * 23 in 23),
            "subs {blocks}, {blocks}, #1",
            "bne 2b",
            "vadd.f32 s0, s0, s2",
            "vadd.f32 s1, s1, s3",
            "vadd.f32 s0, s0, s1",
            "vmov {sum}, s0",
            eta = in(reg) eta.to_bits(),
            sum = inout(reg) 0u32 => sum,
            w = inout(reg) w.as_ptr() => _,
            g = inout(reg) g.as_ptr() => _,
            blocks = inout(reg) blocks => _,
        );
    }
    Some(f32::from_bits(sum))
}

/// `to[i] = from[i]` for as many values as come in sixteens; returns how many.
#[inline(always)]
pub fn copy(to: &mut [f32], from: &[f32]) -> usize {
    let blocks = to.len().min(from.len()) / WIDE;
    if blocks > 0 {
        // SAFETY: both have at least `16 * blocks` values, and `blocks` is not 0.
        unsafe {
            vfp!(
                "2:",
                "vldmia {from}!, {{s0-s15}}",
                "subs {blocks}, {blocks}, #1",
                "vstmia {to}!, {{s0-s15}}",
                "bne 2b",
                from = inout(reg) from.as_ptr() => _,
                to = inout(reg) to.as_mut_ptr() => _,
                blocks = inout(reg) blocks => _,
            );
        }
    }
    blocks * WIDE
}

/// [`crate::lanes::ascend`] for as many values as come in eights; returns how many.
#[inline(always)]
pub fn ascend(w: &mut [f32], g: &mut [f32], c: f32) -> usize {
    let blocks = w.len().min(g.len()) / STRIDE;
    if blocks > 0 {
        // SAFETY: w and g have at least `8 * blocks` values, and `blocks` is not 0.
        unsafe {
            vfp!(
                "vmov s8, {c}",
                "2:",
                "vldmia {g}, {{s24-s31}}",
                "vldmia {w}, {{s16-s23}}",
                "vstmia {g}!, {{s16-s23}}",
                multiply_add!(16 += 24 * 8 in 24, 17 += 25 * 8 in 25, 18 += 26 * 8 in 26, 19 += 27 * 8 in 27,
                    20 += 28 * 8 in 28, 21 += 29 * 8 in 29, 22 += 30 * 8 in 30, 23 += 31 * 8 in 31),
                "vstmia {w}!, {{s16-s23}}",
                "subs {blocks}, {blocks}, #1",
                "bne 2b",
                c = in(reg) c.to_bits(),
                w = inout(reg) w.as_mut_ptr() => _,
                g = inout(reg) g.as_mut_ptr() => _,
                blocks = inout(reg) blocks => _,
            );
        }
    }
    blocks * STRIDE
}

/// [`crate::lanes::ascend_scaled`] for as many values as come in eights; returns how many.
#[inline(always)]
pub fn ascend_scaled(w: &mut [f32], g: &mut [f32], c: f32, eta: f32) -> usize {
    let blocks = w.len().min(g.len()) / STRIDE;
    if blocks > 0 {
        // SAFETY: w and g have at least `8 * blocks` values, and `blocks` is not 0.
        unsafe {
            vfp!(
                "vmov s8, {c}",
                "vmov s9, {eta}",
                "2:",
                "vldmia {g}, {{s24-s31}}",
                "vldmia {w}, {{s16-s23}}",
                "vstmia {g}!, {{s16-s23}}",
                scale_loop!(),
                multiply!(16, 17, 18, 19, 20, 21, 22, 23),
                multiply!(24, 25, 26, 27, 28, 29, 30, 31),
                "vldmia {w}, {{s24-s31}}",
                multiply_add!(24 += 16 * 8 in 16, 25 += 17 * 8 in 17, 26 += 18 * 8 in 18, 27 += 19 * 8 in 19,
                    28 += 20 * 8 in 20, 29 += 21 * 8 in 21, 30 += 22 * 8 in 22, 31 += 23 * 8 in 23),
                "vstmia {w}!, {{s24-s31}}",
                "subs {blocks}, {blocks}, #1",
                "bne 2b",
                c = in(reg) c.to_bits(),
                eta = in(reg) eta.to_bits(),
                w = inout(reg) w.as_mut_ptr() => _,
                g = inout(reg) g.as_mut_ptr() => _,
                blocks = inout(reg) blocks => _,
            );
        }
    }
    blocks * STRIDE
}
