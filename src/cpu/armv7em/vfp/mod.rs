//! The inner loops on a Cortex-M with a single-precision FPU: 32 registers, filled by `vldm`. The compiler loads them
//! one by one instead, which costs more instructions than the arithmetic.
//!
//! Every product is rounded before it is added: `vmla`, or `vmul` and `vadd` where the build names a core, which by
//! the Cortex-M4's technical reference manual (DDI 0439, table 7-1) take 3 cycles and 2. `vfma` rounds once and is not
//! used. Products stand before their sums by more than one instruction, so that none waits for the other.
#![allow(unsafe_code)]

use crate::cpu::block::{Lanes, ROWS};
use crate::cpu::lanes::LANES;
use core::arch::asm;

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

/// `s[to] = s[a] * s[b]` for each.
macro_rules! multiply {
    ($($to:literal = $a:literal * $b:literal),*) => {
        concat!($("vmul.f32 s", $to, ", s", $a, ", s", $b, "\n",)*)
    };
}

/// A sweep over slices, whose shortest counts: what is loaded, computed and stored a block of so many values. Slices
/// that are written come first, then those that are read, then constants and their registers.
macro_rules! sweep {
    (
        $(#[$documentation:meta])*
        $name:ident($($write:ident),*; $($read:ident),*; $($constant:ident in $register:literal),*),
        $block:literal values: $($line:expr),+ $(,)?
    ) => {
        $(#[$documentation])*
        ///
        /// Does whole blocks; returns how many values they are.
        #[inline(always)]
        pub fn $name($($write: &mut [f32],)* $($read: &[f32],)* $($constant: f32),*) -> usize {
            let blocks = usize::MAX$(.min($write.len()))*$(.min($read.len()))* / $block;
            if blocks > 0 {
                // SAFETY: every slice has at least a block's values `blocks` times, which is not 0.
                unsafe {
                    vfp!(
                        $(concat!("vmov s", $register, ", {", stringify!($constant), "}"),)*
                        "2:",
                        $($line,)+
                        "subs {blocks}, {blocks}, #1",
                        "bne 2b",
                        $($constant = in(reg) $constant.to_bits(),)*
                        $($write = inout(reg) $write.as_mut_ptr() => _,)*
                        $($read = inout(reg) $read.as_ptr() => _,)*
                        blocks = inout(reg) blocks => _,
                    );
                }
            }
            blocks * $block
        }
    };
}

/// A sweep that adds terms in s0 to s3, the lanes' sums: slices, constants and their registers, and a block's lines.
macro_rules! sum {
    (
        $(#[$documentation:meta])*
        $name:ident($($read:ident),+; $($constant:ident in $register:literal),*),
        $block:literal values: $($line:expr),+ $(,)?
    ) => {
        $(#[$documentation])*
        ///
        /// Does whole blocks; returns how many values they are.
        #[inline(always)]
        pub fn $name(sums: &mut [f32; LANES], $($read: &[f32],)+ $($constant: f32),*) -> usize {
            let blocks = usize::MAX$(.min($read.len()))+ / $block;
            if blocks > 0 {
                // SAFETY: every slice has at least a block's values `blocks` times, which is not 0; there are four sums.
                unsafe {
                    vfp!(
                        $(concat!("vmov s", $register, ", {", stringify!($constant), "}"),)*
                        "vldmia {sums}, {{s0-s3}}",
                        "2:",
                        $($line,)+
                        "subs {blocks}, {blocks}, #1",
                        "bne 2b",
                        "vstmia {sums}, {{s0-s3}}",
                        sums = in(reg) sums.as_mut_ptr(),
                        $($constant = in(reg) $constant.to_bits(),)*
                        $($read = inout(reg) $read.as_ptr() => _,)+
                        blocks = inout(reg) blocks => _,
                    );
                }
            }
            blocks * $block
        }
    };
}

/// Whether `values` has `count` floats from place `first` on.
#[inline(always)]
fn reaches(values: &[f32], first: usize, count: usize) -> bool {
    first.checked_add(count).is_some_and(|end| end <= values.len())
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

/// The sums of four rows' lanes, which [`dots_loop`] left, by [`crate::cpu::lanes::sum_of`]'s tree: in s0 to s3.
macro_rules! lane_sums {
    () => {
        concat!(
            "vadd.f32 s0, s0, s2\n",
            "vadd.f32 s1, s1, s3\n",
            "vadd.f32 s4, s4, s6\n",
            "vadd.f32 s5, s5, s7\n",
            "vadd.f32 s8, s8, s10\n",
            "vadd.f32 s9, s9, s11\n",
            "vadd.f32 s12, s12, s14\n",
            "vadd.f32 s13, s13, s15\n",
            "vadd.f32 s0, s0, s1\n",
            "vadd.f32 s1, s4, s5\n",
            "vadd.f32 s2, s8, s9\n",
            "vadd.f32 s3, s12, s13\n",
        )
    };
}

mod ascent;
mod dense;
mod descent;
mod grid;
mod pixels;

pub use ascent::{ascend, ascend_scaled, copy, norm_squared, scaled_norm_squared};
pub use dense::{add_rank_one, forward};
pub use descent::{descend, descend_along, descend_row};
pub use grid::{outer, products};
pub use pixels::{four_pixels, matrix};

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

/// The same from nothing, and the lanes' sums by [`crate::cpu::lanes::sum_of`]'s tree; returns how many results there
/// are: none if the values do not come in eights.
#[inline(always)]
pub fn dots_of(results: &mut [f32; ROWS], rows: [&[f32]; ROWS], x: &[f32]) -> usize {
    let blocks = x.len() / STRIDE;
    if blocks == 0 || !x.len().is_multiple_of(STRIDE) || rows.iter().any(|row| row.len() < x.len()) {
        return 0;
    }
    let [a, b, c, d] = rows.map(<[f32]>::as_ptr);
    let sums = ZEROS.as_ptr();
    // SAFETY: every row and x have `8 * blocks` values, `blocks` is not 0, and there are 16 zeros and four results.
    unsafe {
        vfp!(
            "vldmia {sums}, {{s0-s15}}",
            dots_loop!(),
            lane_sums!(),
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
    ROWS
}

/// `sums[i] += sum_o factors[o] * rows[o * stride + i]`, o ascending; `from_zero`, `sums[i] = ` that. Returns how many
/// sums: all.
#[inline(always)]
pub fn combine(sums: &mut [f32; 16], factors: &[f32], rows: &[f32], stride: usize, from_zero: bool) -> usize {
    let behind_first = rows.len().checked_sub(16);
    let count = behind_first.map_or(0, |behind| factors.len().min(behind / stride.max(1) + 1));
    if count == 0 && from_zero {
        sums.fill(0.0);
    }
    if count > 0 {
        let start = if from_zero { ZEROS.as_ptr() } else { sums.as_ptr() };
        // SAFETY: `count` factors are there, and 16 values from every multiple of `stride` below `count * stride`;
        // `count` is not 0. The last step beyond `rows` is not read from.
        unsafe {
            vfp!(
                "vldmia {start}, {{s0-s15}}",
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
                start = in(reg) start,
                sums = in(reg) sums.as_mut_ptr(),
                factors = inout(reg) factors.as_ptr() => _,
                rows = inout(reg) rows.as_ptr() => _,
                step = in(reg) stride.wrapping_sub(16).wrapping_mul(4),
                count = inout(reg) count => _,
            );
        }
    }
    sums.len()
}

sum! {
    /// [`crate::cpu::lanes::dot`] in lanes.
    dot(a, b;), 8 values:
    "vldmia {a}!, {{s16-s23}}",
    "vldmia {b}!, {{s24-s31}}",
    multiply_add!(0 += 24 * 16 in 24, 1 += 25 * 17 in 25, 2 += 26 * 18 in 26, 3 += 27 * 19 in 27,
        0 += 28 * 20 in 28, 1 += 29 * 21 in 29, 2 += 30 * 22 in 30, 3 += 31 * 23 in 31),
}

/// `rows[r][i] += factors[r] * x[i]` for as many values as come in eights; returns how many.
#[inline(always)]
pub fn add_to_rows(rows: &mut [&mut [f32]; ROWS], factors: &[f32; ROWS], x: &[f32]) -> usize {
    let length = rows.iter().fold(x.len(), |least, row| least.min(row.len()));
    let whole = x.get(..length / STRIDE * STRIDE).unwrap_or(&[]);
    if !whole.is_empty() {
        // SAFETY: every row has at least as many values as `whole`, a positive multiple of 8.
        unsafe { add_to_four(rows.each_mut().map(|row| row.as_mut_ptr()), factors, whole) };
    }
    whole.len()
}

/// `rows[r][i] += factors[r] * x[i]`.
///
/// # Safety
/// x has 8 values or a multiple of that, and every row as many, which are not those of x.
#[inline(always)]
unsafe fn add_to_four([a, b, c, d]: [*mut f32; ROWS], factors: &[f32; ROWS], x: &[f32]) {
    let blocks = x.len() / STRIDE;
    // SAFETY: the caller's; and there are four factors.
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

sweep! {
    /// `y[i] += factor * x[i]`.
    add_scaled(y; x; factor in 24), 8 values:
    "vldmia {x}!, {{s16-s23}}",
    "vldmia {y}, {{s0-s7}}",
    multiply_add!(0 += 16 * 24 in 16, 1 += 17 * 24 in 17, 2 += 18 * 24 in 18, 3 += 19 * 24 in 19,
        4 += 20 * 24 in 20, 5 += 21 * 24 in 21, 6 += 22 * 24 in 22, 7 += 23 * 24 in 23),
    "vstmia {y}!, {{s0-s7}}",
}

sweep! {
    /// `y[i] = factor * y[i]`.
    scale(y; ; factor in 24), 16 values:
    "vldmia {y}, {{s0-s15}}",
    multiply!(0 = 0 * 24, 1 = 1 * 24, 2 = 2 * 24, 3 = 3 * 24, 4 = 4 * 24, 5 = 5 * 24, 6 = 6 * 24, 7 = 7 * 24,
        8 = 8 * 24, 9 = 9 * 24, 10 = 10 * 24, 11 = 11 * 24, 12 = 12 * 24, 13 = 13 * 24, 14 = 14 * 24, 15 = 15 * 24),
    "vstmia {y}!, {{s0-s15}}",
}

sweep! {
    /// `v[i] = momentum * v[i] + decay * w[i]`.
    mix(v; w; momentum in 24, decay in 25), 8 values:
    "vldmia {w}!, {{s16-s23}}",
    "vldmia {v}, {{s0-s7}}",
    multiply!(0 = 0 * 24, 1 = 1 * 24, 2 = 2 * 24, 3 = 3 * 24, 4 = 4 * 24, 5 = 5 * 24, 6 = 6 * 24, 7 = 7 * 24),
    multiply_add!(0 += 16 * 25 in 16, 1 += 17 * 25 in 17, 2 += 18 * 25 in 18, 3 += 19 * 25 in 19,
        4 += 20 * 25 in 20, 5 += 21 * 25 in 21, 6 += 22 * 25 in 22, 7 += 23 * 25 in 23),
    "vstmia {v}!, {{s0-s7}}",
}
