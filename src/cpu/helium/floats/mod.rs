//! The f32 loops with Helium's vectors of four floats, which are the four lanes of every sum.
//!
//! `vmul` and `vadd` round as their scalar counterparts do; `vfma` rounds once and is not used. Loops are low-overhead
//! ones (`wls`, `le`), tail-predicated where any length is taken.
//!
//! Vectors know no subnormal numbers, scalars do: what is flushed to zero sets a flag in FPSCR, which every function
//! reads before it stores. Where it is set, nothing is stored, and the portable loop does the work.

/// Lanes' sums and vectors as the assembly's own, with the loop's register.
macro_rules! mve {
    ($($argument:tt)*) => {
        asm!(
            $($argument)*
            out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _, out("s6") _, out("s7") _,
            out("s8") _, out("s9") _, out("s10") _, out("s11") _, out("s12") _, out("s13") _, out("s14") _,
            out("s15") _, out("s16") _, out("s17") _, out("s18") _, out("s19") _, out("s20") _, out("s21") _,
            out("s22") _, out("s23") _, out("s24") _, out("s25") _, out("s26") _, out("s27") _, out("s28") _,
            out("s29") _, out("s30") _, out("s31") _, out("lr") _,
            options(nostack),
        )
    };
}

/// Branches to `label` if something was flushed to zero: bits 7 (a subnormal operand) and 3 (a subnormal result).
macro_rules! unless_flushed {
    ($flags:literal, $label:literal) => {
        concat!("vmrs {", $flags, "}, fpscr\n", "tst {", $flags, "}, #0x88\n", "bne ", $label, "\n")
    };
}

/// The loop over four rows and x that adds products to the lanes in q0 to q3; the count in `count`.
macro_rules! dots_loop {
    () => {
        concat!(
            "wlstp.32 lr, {count}, 3f\n",
            "2:\n",
            "vldrw.32 q4, [{x}], #16\n",
            "vldrw.32 q5, [{a}], #16\n",
            "vmul.f32 q5, q5, q4\n",
            "vldrw.32 q6, [{b}], #16\n",
            "vmul.f32 q6, q6, q4\n",
            "vadd.f32 q0, q0, q5\n",
            "vldrw.32 q7, [{c}], #16\n",
            "vmul.f32 q7, q7, q4\n",
            "vadd.f32 q1, q1, q6\n",
            "vldrw.32 q5, [{d}], #16\n",
            "vmul.f32 q5, q5, q4\n",
            "vadd.f32 q2, q2, q7\n",
            "vadd.f32 q3, q3, q5\n",
            "letp lr, 2b\n",
            "3:\n",
        )
    };
}

/// The sums of four rows' lanes in q0 to q3 by [`crate::cpu::lanes::sum_of`]'s tree: in q0.
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

/// A factor times sixteen columns of its row, added to q0 to q3.
macro_rules! combine_row {
    ($factor:literal) => {
        concat!(
            "vldrw.32 q4, [{rows}]\n",
            "vldrw.32 q5, [{rows}, #16]\n",
            "vmul.f32 q4, q4, ",
            $factor,
            "\n",
            "vldrw.32 q6, [{rows}, #32]\n",
            "vmul.f32 q5, q5, ",
            $factor,
            "\n",
            "vadd.f32 q0, q0, q4\n",
            "vldrw.32 q7, [{rows}, #48]\n",
            "vmul.f32 q6, q6, ",
            $factor,
            "\n",
            "vadd.f32 q1, q1, q5\n",
            "add {rows}, {step}\n",
            "vmul.f32 q7, q7, ",
            $factor,
            "\n",
            "vadd.f32 q2, q2, q6\n",
            "vadd.f32 q3, q3, q7\n",
        )
    };
}

mod grid;
mod pixels;
mod rows;
mod sweeps;
mod window;

use core::arch::asm;

pub use grid::{outer, products, products_back, products_onto};
pub use pixels::four_pixels;
pub use rows::{add_rank_one, add_to_rows, combine, descend_along, dots, dots_of, forward};
pub use sweeps::{
    add_scaled, ascend, ascend_scaled, copy, descend, descend_row, dot, mix, norm_squared, scale,
    scaled_norm_squared, weighted_dot,
};

pub use window::{combine_pixels, combine_taps, forward_window};

/// FPSCR's flags of what was flushed to zero.
const FLUSHED: u32 = 0x88;

/// `done`, or 0 if something was flushed to zero by `flags`, which are taken back then.
#[inline(always)]
fn unless_flushed(flags: u32, done: usize) -> usize {
    if flags & FLUSHED == 0 { done } else { take_back() }
}

/// Clears the flags: scalars may have set them, too.
#[cold]
#[inline(never)]
fn take_back() -> usize {
    // SAFETY: the exceptions' flags are nobody's but this path's.
    unsafe {
        asm!(
            "vmrs {flags}, fpscr",
            "bic {flags}, {flags}, #0x88",
            "vmsr fpscr, {flags}",
            flags = out(reg) _,
            options(nomem, nostack),
        );
    }
    0
}

/// Whether `values` has `count` floats from place `first` on.
#[inline(always)]
fn reaches(values: &[f32], first: usize, count: usize) -> bool {
    first.checked_add(count).is_some_and(|end| end <= values.len())
}
