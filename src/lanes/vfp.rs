//! The inner loops on a Cortex-M with a single-precision FPU: 32 registers, filled by `vldm`. The compiler loads them
//! one by one instead, which costs more instructions than the arithmetic.
//!
//! Every product is rounded before it is added: `vmla`, or `vmul` and `vadd` where the build names a core, which by
//! the Cortex-M4's technical reference manual (DDI 0439, table 7-1) take 3 cycles and 2. `vfma` rounds once and is not
//! used. Products stand before their sums by more than one instruction, so that none waits for the other.
#![allow(unsafe_code)]

use super::LANES;
use super::block::{Grid, Lanes, ROWS};
use core::arch::asm;
use core::mem::MaybeUninit;

/// Where sums begin.
static ZEROS: [f32; 16] = [0.0; 16];

/// Values that a pass through an inner loop takes of every slice.
const STRIDE: usize = 8;

/// `s[sum] += s[a] * s[b]` for each, by way of `s[t]`, which may be a or b.
#[cfg(flatmin_vmla)]
macro_rules! multiply_add {
    ($($sum:literal += $a:literal * $b:literal in $t:literal),*) => {
        concat!($("vmla.f32 s", $sum, ", s", $a, ", s", $b, "\n",)*)
    };
}
#[cfg(not(flatmin_vmla))]
macro_rules! multiply_add {
    ($($sum:literal += $a:literal * $b:literal in $t:literal),*) => {
        concat!(
            $("vmul.f32 s", $t, ", s", $a, ", s", $b, "\n",)*
            $("vadd.f32 s", $sum, ", s", $sum, ", s", $t, "\n",)*
        )
    };
}

/// The assembly with all registers of the FPU as its own.
macro_rules! vfp {
    ($($argument:tt)*) => {
        asm!(
            $($argument)*
            out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _, out("s6") _, out("s7") _,
            out("s8") _, out("s9") _, out("s10") _, out("s11") _, out("s12") _, out("s13") _, out("s14") _,
            out("s15") _, out("s16") _, out("s17") _, out("s18") _, out("s19") _, out("s20") _, out("s21") _,
            out("s22") _, out("s23") _, out("s24") _, out("s25") _, out("s26") _, out("s27") _, out("s28") _,
            out("s29") _, out("s30") _, out("s31") _,
            options(nostack),
        )
    };
}

/// The loop of [`dots`]: sums in s0 to s15.
macro_rules! dots_loop {
    () => {
        concat!(
            "2:\n",
            "vldmia {x}!, {{s16-s23}}\n",
            "vldmia {a}!, {{s24-s31}}\n",
            multiply_add!(0 += 24 * 16 in 24, 1 += 25 * 17 in 25, 2 += 26 * 18 in 26, 3 += 27 * 19 in 27,
            0 += 28 * 20 in 28, 1 += 29 * 21 in 29, 2 += 30 * 22 in 30, 3 += 31 * 23 in 31),
            "vldmia {b}!, {{s24-s31}}\n",
            multiply_add!(4 += 24 * 16 in 24, 5 += 25 * 17 in 25, 6 += 26 * 18 in 26, 7 += 27 * 19 in 27,
            4 += 28 * 20 in 28, 5 += 29 * 21 in 29, 6 += 30 * 22 in 30, 7 += 31 * 23 in 31),
            "vldmia {c}!, {{s24-s31}}\n",
            multiply_add!(8 += 24 * 16 in 24, 9 += 25 * 17 in 25, 10 += 26 * 18 in 26, 11 += 27 * 19 in 27,
            8 += 28 * 20 in 28, 9 += 29 * 21 in 29, 10 += 30 * 22 in 30, 11 += 31 * 23 in 31),
            "vldmia {d}!, {{s24-s31}}\n",
            multiply_add!(12 += 24 * 16 in 24, 13 += 25 * 17 in 25, 14 += 26 * 18 in 26, 15 += 27 * 19 in 27,
            12 += 28 * 20 in 28, 13 += 29 * 21 in 29, 14 += 30 * 22 in 30, 15 += 31 * 23 in 31),
            "subs {blocks}, {blocks}, #1\n",
            "bne 2b\n",
        )
    };
}

/// `sums[r][i mod LANES] += rows[r][i] * x[i]` for as many values as come in eights; returns how many.
#[inline(always)]
pub fn dots(sums: &mut Lanes, rows: [&[f32]; ROWS], x: &[f32]) -> usize {
    let length = rows.iter().fold(x.len(), |least, row| least.min(row.len()));
    let blocks = length / STRIDE;
    if blocks > 0 {
        let [a, b, c, d] = rows.map(<[f32]>::as_ptr);
        // SAFETY: every row and x have at least `8 * blocks` values, `blocks` is not 0, and there are 16 sums.
        unsafe {
            vfp!(
                "vldmia {sums}, {{s0-s15}}",
                dots_loop!(),
                "vstmia {sums}, {{s0-s15}}",
                sums = in(reg) sums.as_mut_ptr(),
                x = inout(reg) x.as_ptr() => _,
                a = inout(reg) a => _,
                b = inout(reg) b => _,
                c = inout(reg) c => _,
                d = inout(reg) d => _,
                blocks = inout(reg) blocks => _,
            );
        }
    }
    blocks * STRIDE
}

/// The same from nothing, and the lanes' sums by [`super::sum_of`]'s tree. `None` if the values do not come in eights.
#[inline(always)]
pub fn dots_of(rows: [&[f32]; ROWS], x: &[f32]) -> Option<[f32; ROWS]> {
    let blocks = x.len() / STRIDE;
    if blocks == 0 || !x.len().is_multiple_of(STRIDE) || rows.iter().any(|row| row.len() < x.len()) {
        return None;
    }
    let [a, b, c, d] = rows.map(<[f32]>::as_ptr);
    let (sums, mut results) = (ZEROS.as_ptr(), [0.0; ROWS]);
    // SAFETY: every row and x have `8 * blocks` values, `blocks` is not 0, and there are 16 zeros and four results.
    unsafe {
        vfp!(
            "vldmia {sums}, {{s0-s15}}",
            dots_loop!(),
            "vadd.f32 s0, s0, s2", "vadd.f32 s1, s1, s3", "vadd.f32 s4, s4, s6", "vadd.f32 s5, s5, s7",
            "vadd.f32 s8, s8, s10", "vadd.f32 s9, s9, s11", "vadd.f32 s12, s12, s14", "vadd.f32 s13, s13, s15",
            "vadd.f32 s0, s0, s1", "vadd.f32 s1, s4, s5", "vadd.f32 s2, s8, s9", "vadd.f32 s3, s12, s13",
            "vstmia {results}, {{s0-s3}}",
            sums = in(reg) sums,
            results = in(reg) results.as_mut_ptr(),
            x = inout(reg) x.as_ptr() => _,
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            c = inout(reg) c => _,
            d = inout(reg) d => _,
            blocks = inout(reg) blocks => _,
        );
    }
    Some(results)
}

/// `sums[i] += sum_o factors[o] * rows[o * stride + i]`, o ascending.
#[inline(always)]
pub fn combine(sums: &mut [f32; 16], factors: &[f32], rows: &[f32], stride: usize) {
    let Some(behind_first) = rows.len().checked_sub(16) else { return };
    let count = factors.len().min(behind_first / stride.max(1) + 1);
    if count > 0 {
        // SAFETY: `count` factors are there, and 16 values from every multiple of `stride` below `count * stride`;
        // `count` is not 0. The last step beyond `rows` is not read from.
        unsafe {
            vfp!(
                "vldmia {sums}, {{s0-s15}}",
                "2:",
                "vldmia {factors}!, {{s24}}",
                "vldmia {rows}!, {{s16-s23}}",
                multiply_add!(0 += 16 * 24 in 16, 1 += 17 * 24 in 17, 2 += 18 * 24 in 18, 3 += 19 * 24 in 19,
                    4 += 20 * 24 in 20, 5 += 21 * 24 in 21, 6 += 22 * 24 in 22, 7 += 23 * 24 in 23),
                "vldmia {rows}!, {{s16-s23}}",
                "add {rows}, {rows}, {step}",
                multiply_add!(8 += 16 * 24 in 16, 9 += 17 * 24 in 17, 10 += 18 * 24 in 18, 11 += 19 * 24 in 19,
                    12 += 20 * 24 in 20, 13 += 21 * 24 in 21, 14 += 22 * 24 in 22, 15 += 23 * 24 in 23),
                "subs {count}, {count}, #1",
                "bne 2b",
                "vstmia {sums}, {{s0-s15}}",
                sums = in(reg) sums.as_mut_ptr(),
                factors = inout(reg) factors.as_ptr() => _,
                rows = inout(reg) rows.as_ptr() => _,
                step = in(reg) stride.wrapping_sub(16).wrapping_mul(4),
                count = inout(reg) count => _,
            );
        }
    }
}

/// `sums[o][k] += sum_p delta[p * steps[0] + o] * x[p * steps[1] + k]`, p ascending, over `lines` of so many pixels
/// that are `line_steps` apart; false, and nothing is done, if there are not as many.
#[inline(always)]
pub fn outer(sums: &mut Lanes, delta: &[f32], x: &[f32], grid: &Grid) -> bool {
    let Grid { steps, pixels, line_steps, lines } = *grid;
    let (Some(last), Some(last_line)) = (pixels.checked_sub(1), lines.checked_sub(1)) else { return true };
    let reach = |axis: usize| last * steps[axis] + last_line * line_steps[axis] + LANES;
    if reach(0) > delta.len() || reach(1) > x.len() {
        return false;
    }
    // Behind a line's last pixel the pointers stand at where its next would be.
    let jump = |axis: usize| line_steps[axis].wrapping_sub(pixels * steps[axis]).wrapping_mul(4);
    // SAFETY: four values follow every pixel of the grid, which has at least one; there are 16 sums.
    unsafe {
        vfp!(
            "vldmia {sums}, {{s0-s15}}",
            "3:",
            "mov {left}, {pixels}",
            "2:",
            "vldmia {delta}, {{s16-s19}}",
            "vldmia {x}, {{s20-s23}}",
            "add {delta}, {delta}, {delta_step}",
            "add {x}, {x}, {x_step}",
            multiply_add!(0 += 16 * 20 in 24, 1 += 16 * 21 in 25, 2 += 16 * 22 in 26, 3 += 16 * 23 in 27,
                4 += 17 * 20 in 28, 5 += 17 * 21 in 29, 6 += 17 * 22 in 30, 7 += 17 * 23 in 31),
            multiply_add!(8 += 18 * 20 in 24, 9 += 18 * 21 in 25, 10 += 18 * 22 in 26, 11 += 18 * 23 in 27,
                12 += 19 * 20 in 28, 13 += 19 * 21 in 29, 14 += 19 * 22 in 30, 15 += 19 * 23 in 31),
            "subs {left}, {left}, #1",
            "bne 2b",
            "add {delta}, {delta}, {delta_jump}",
            "add {x}, {x}, {x_jump}",
            "subs {lines}, {lines}, #1",
            "bne 3b",
            "vstmia {sums}, {{s0-s15}}",
            sums = in(reg) sums.as_mut_ptr(),
            delta = inout(reg) delta.as_ptr() => _,
            x = inout(reg) x.as_ptr() => _,
            delta_step = in(reg) steps[0] * 4,
            x_step = in(reg) steps[1] * 4,
            delta_jump = in(reg) jump(0),
            x_jump = in(reg) jump(1),
            pixels = in(reg) pixels,
            left = out(reg) _,
            lines = inout(reg) lines => _,
        );
    }
    true
}

/// [`super::dot`]; `None` if the values do not come in eights.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> Option<f32> {
    let blocks = a.len() / STRIDE;
    if blocks == 0 || !a.len().is_multiple_of(STRIDE) || b.len() != a.len() {
        return None;
    }
    let sum: u32;
    // SAFETY: a and b have `8 * blocks` values, and `blocks` is not 0.
    unsafe {
        vfp!(
            "vmov s0, {sum}",
            "vmov s1, {sum}",
            "vmov s2, {sum}",
            "vmov s3, {sum}",
            "2:",
            "vldmia {a}!, {{s16-s23}}",
            "vldmia {b}!, {{s24-s31}}",
            multiply_add!(0 += 24 * 16 in 24, 1 += 25 * 17 in 25, 2 += 26 * 18 in 26, 3 += 27 * 19 in 27,
                0 += 28 * 20 in 28, 1 += 29 * 21 in 29, 2 += 30 * 22 in 30, 3 += 31 * 23 in 31),
            "subs {blocks}, {blocks}, #1",
            "bne 2b",
            "vadd.f32 s0, s0, s2",
            "vadd.f32 s1, s1, s3",
            "vadd.f32 s0, s0, s1",
            "vmov {sum}, s0",
            sum = inout(reg) 0u32 => sum,
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            blocks = inout(reg) blocks => _,
        );
    }
    Some(f32::from_bits(sum))
}

/// Pairs that a pass through the loop of [`matrix`] takes of every slice.
const PAIR: usize = 2;

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
                "2:",
                "vldmia {p}!, {{s16-s17}}",
                "vldmia {q}!, {{s18-s19}}",
                "vldmia {r}!, {{s20-s21}}",
                "vldmia {s}!, {{s22-s23}}",
                "vldmia {a}!, {{s24-s25}}",
                multiply_add!(0 += 16 * 24 in 26, 4 += 18 * 24 in 27, 8 += 20 * 24 in 28, 12 += 22 * 24 in 29),
                multiply_add!(0 += 17 * 25 in 26, 4 += 19 * 25 in 27, 8 += 21 * 25 in 28, 12 += 23 * 25 in 29),
                "vldmia {b}!, {{s24-s25}}",
                multiply_add!(1 += 16 * 24 in 26, 5 += 18 * 24 in 27, 9 += 20 * 24 in 28, 13 += 22 * 24 in 29),
                multiply_add!(1 += 17 * 25 in 26, 5 += 19 * 25 in 27, 9 += 21 * 25 in 28, 13 += 23 * 25 in 29),
                "vldmia {c}!, {{s24-s25}}",
                multiply_add!(2 += 16 * 24 in 26, 6 += 18 * 24 in 27, 10 += 20 * 24 in 28, 14 += 22 * 24 in 29),
                multiply_add!(2 += 17 * 25 in 26, 6 += 19 * 25 in 27, 10 += 21 * 25 in 28, 14 += 23 * 25 in 29),
                "vldmia {d}!, {{s24-s25}}",
                multiply_add!(3 += 16 * 24 in 26, 7 += 18 * 24 in 27, 11 += 20 * 24 in 28, 15 += 22 * 24 in 29),
                multiply_add!(3 += 17 * 25 in 26, 7 += 19 * 25 in 27, 11 += 21 * 25 in 28, 15 += 23 * 25 in 29),
                "subs {pairs}, {pairs}, #1",
                "bne 2b",
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

/// `sums[k] += sum_p a[p * steps[0] + k] * b[p * steps[1] + k]`, p ascending, below `count`; false, and nothing is
/// done, if there are not as many.
#[inline(always)]
pub fn products(sums: &mut [f32; 16], a: &[f32], b: &[f32], steps: [usize; 2], count: usize) -> bool {
    let Some(last) = count.checked_sub(1) else { return true };
    if last * steps[0] + 16 > a.len() || last * steps[1] + 16 > b.len() {
        return false;
    }
    // SAFETY: 16 values follow every multiple of the steps below `count`, which is not 0; there are 16 sums.
    unsafe {
        vfp!(
            "vldmia {sums}, {{s0-s15}}",
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
            "subs {count}, {count}, #1",
            "bne 2b",
            "vstmia {sums}, {{s0-s15}}",
            sums = in(reg) sums.as_mut_ptr(),
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            a_step = in(reg) steps[0].wrapping_sub(16).wrapping_mul(4),
            b_step = in(reg) steps[1].wrapping_sub(16).wrapping_mul(4),
            count = inout(reg) count => _,
        );
    }
    true
}

/// `rows[r][i] += factors[r] * x[i]` for as many values as come in eights; returns how many.
#[inline(always)]
pub fn add_to_rows(rows: &mut [&mut [f32]; ROWS], factors: &[f32; ROWS], x: &[f32]) -> usize {
    let length = rows.iter().fold(x.len(), |least, row| least.min(row.len()));
    let blocks = length / STRIDE;
    if blocks > 0 {
        let [a, b, c, d] = rows.each_mut().map(|row| row.as_mut_ptr());
        // SAFETY: every row and x have at least `8 * blocks` values, `blocks` is not 0, and there are four factors.
        unsafe {
            vfp!(
                "vldmia {factors}, {{s28-s31}}",
                "2:",
                "vldmia {x}!, {{s16-s23}}",
                "vldmia {a}, {{s0-s7}}",
                multiply_add!(0 += 16 * 28 in 8, 1 += 17 * 28 in 9, 2 += 18 * 28 in 10, 3 += 19 * 28 in 11,
                    4 += 20 * 28 in 12, 5 += 21 * 28 in 13, 6 += 22 * 28 in 14, 7 += 23 * 28 in 15),
                "vstmia {a}!, {{s0-s7}}",
                "vldmia {b}, {{s0-s7}}",
                multiply_add!(0 += 16 * 29 in 8, 1 += 17 * 29 in 9, 2 += 18 * 29 in 10, 3 += 19 * 29 in 11,
                    4 += 20 * 29 in 12, 5 += 21 * 29 in 13, 6 += 22 * 29 in 14, 7 += 23 * 29 in 15),
                "vstmia {b}!, {{s0-s7}}",
                "vldmia {c}, {{s0-s7}}",
                multiply_add!(0 += 16 * 30 in 8, 1 += 17 * 30 in 9, 2 += 18 * 30 in 10, 3 += 19 * 30 in 11,
                    4 += 20 * 30 in 12, 5 += 21 * 30 in 13, 6 += 22 * 30 in 14, 7 += 23 * 30 in 15),
                "vstmia {c}!, {{s0-s7}}",
                "vldmia {d}, {{s0-s7}}",
                multiply_add!(0 += 16 * 31 in 8, 1 += 17 * 31 in 9, 2 += 18 * 31 in 10, 3 += 19 * 31 in 11,
                    4 += 20 * 31 in 12, 5 += 21 * 31 in 13, 6 += 22 * 31 in 14, 7 += 23 * 31 in 15),
                "vstmia {d}!, {{s0-s7}}",
                "subs {blocks}, {blocks}, #1",
                "bne 2b",
                factors = in(reg) factors.as_ptr(),
                x = inout(reg) x.as_ptr() => _,
                a = inout(reg) a => _,
                b = inout(reg) b => _,
                c = inout(reg) c => _,
                d = inout(reg) d => _,
                blocks = inout(reg) blocks => _,
            );
        }
    }
    blocks * STRIDE
}

/// `y[i] += factor * x[i]` for as many values as come in eights; returns how many.
#[inline(always)]
pub fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) -> usize {
    let blocks = y.len().min(x.len()) / STRIDE;
    if blocks > 0 {
        // SAFETY: x and y have at least `8 * blocks` values, and `blocks` is not 0.
        unsafe {
            vfp!(
                "vmov s24, {factor}",
                "2:",
                "vldmia {x}!, {{s16-s23}}",
                "vldmia {y}, {{s0-s7}}",
                multiply_add!(0 += 16 * 24 in 16, 1 += 17 * 24 in 17, 2 += 18 * 24 in 18, 3 += 19 * 24 in 19,
                    4 += 20 * 24 in 20, 5 += 21 * 24 in 21, 6 += 22 * 24 in 22, 7 += 23 * 24 in 23),
                "vstmia {y}!, {{s0-s7}}",
                "subs {blocks}, {blocks}, #1",
                "bne 2b",
                factor = in(reg) factor.to_bits(),
                x = inout(reg) x.as_ptr() => _,
                y = inout(reg) y.as_mut_ptr() => _,
                blocks = inout(reg) blocks => _,
            );
        }
    }
    blocks * STRIDE
}

/// `y[i] = factor * y[i]` for as many values as come in sixteens; returns how many.
#[inline(always)]
pub fn scale(y: &mut [f32], factor: f32) -> usize {
    let blocks = y.len() / 16;
    if blocks > 0 {
        // SAFETY: y has at least `16 * blocks` values, and `blocks` is not 0.
        unsafe {
            vfp!(
                "vmov s24, {factor}",
                "2:",
                "vldmia {y}, {{s0-s15}}",
                "vmul.f32 s0, s0, s24", "vmul.f32 s1, s1, s24", "vmul.f32 s2, s2, s24", "vmul.f32 s3, s3, s24",
                "vmul.f32 s4, s4, s24", "vmul.f32 s5, s5, s24", "vmul.f32 s6, s6, s24", "vmul.f32 s7, s7, s24",
                "vmul.f32 s8, s8, s24", "vmul.f32 s9, s9, s24", "vmul.f32 s10, s10, s24", "vmul.f32 s11, s11, s24",
                "vmul.f32 s12, s12, s24", "vmul.f32 s13, s13, s24", "vmul.f32 s14, s14, s24",
                "vmul.f32 s15, s15, s24",
                "vstmia {y}!, {{s0-s15}}",
                "subs {blocks}, {blocks}, #1",
                "bne 2b",
                factor = in(reg) factor.to_bits(),
                y = inout(reg) y.as_mut_ptr() => _,
                blocks = inout(reg) blocks => _,
            );
        }
    }
    blocks * 16
}

/// `v[i] = momentum * v[i] + decay * w[i]` for as many values as come in eights; returns how many.
#[inline(always)]
pub fn mix(v: &mut [f32], momentum: f32, w: &[f32], decay: f32) -> usize {
    let blocks = v.len().min(w.len()) / STRIDE;
    if blocks > 0 {
        // SAFETY: v and w have at least `8 * blocks` values, and `blocks` is not 0.
        unsafe {
            vfp!(
                "vmov s24, {momentum}",
                "vmov s25, {decay}",
                "2:",
                "vldmia {w}!, {{s16-s23}}",
                "vldmia {v}, {{s0-s7}}",
                "vmul.f32 s0, s0, s24", "vmul.f32 s1, s1, s24", "vmul.f32 s2, s2, s24", "vmul.f32 s3, s3, s24",
                "vmul.f32 s4, s4, s24", "vmul.f32 s5, s5, s24", "vmul.f32 s6, s6, s24", "vmul.f32 s7, s7, s24",
                multiply_add!(0 += 16 * 25 in 16, 1 += 17 * 25 in 17, 2 += 18 * 25 in 18, 3 += 19 * 25 in 19,
                    4 += 20 * 25 in 20, 5 += 21 * 25 in 21, 6 += 22 * 25 in 22, 7 += 23 * 25 in 23),
                "vstmia {v}!, {{s0-s7}}",
                "subs {blocks}, {blocks}, #1",
                "bne 2b",
                momentum = in(reg) momentum.to_bits(),
                decay = in(reg) decay.to_bits(),
                w = inout(reg) w.as_ptr() => _,
                v = inout(reg) v.as_mut_ptr() => _,
                blocks = inout(reg) blocks => _,
            );
        }
    }
    blocks * STRIDE
}
