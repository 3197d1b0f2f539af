//! The sweeps of a stored ascent: norms, the way to `w + e`, and the way back.

use crate::cpu::lanes::LANES;
use core::arch::asm;

/// Eight values of w, in s16 to s23, to `|w| + eta`, eta in s9.
macro_rules! scale_of_weights {
    ($($w:literal),*) => {
        concat!($("vabs.f32 s", $w, ", s", $w, "\n",)* $("vadd.f32 s", $w, ", s", $w, ", s9\n",)*)
    };
}

sum! {
    /// [`crate::cpu::lanes::norm_squared`] in lanes.
    norm_squared(a;), 16 values:
    "vldmia {a}!, {{s16-s31}}",
    multiply_add!(0 += 16 * 16 in 16, 1 += 17 * 17 in 17, 2 += 18 * 18 in 18, 3 += 19 * 19 in 19,
        0 += 20 * 20 in 20, 1 += 21 * 21 in 21, 2 += 22 * 22 in 22, 3 += 23 * 23 in 23,
        0 += 24 * 24 in 24, 1 += 25 * 25 in 25, 2 += 26 * 26 in 26, 3 += 27 * 27 in 27,
        0 += 28 * 28 in 28, 1 += 29 * 29 in 29, 2 += 30 * 30 in 30, 3 += 31 * 31 in 31),
}

sum! {
    /// [`crate::cpu::lanes::scaled_norm_squared`] in lanes.
    scaled_norm_squared(w, g; eta in 9), 8 values:
    "vldmia {w}!, {{s16-s23}}",
    "vldmia {g}!, {{s24-s31}}",
    scale_of_weights!(16, 17, 18, 19, 20, 21, 22, 23),
    multiply!(16 = 16 * 24, 17 = 17 * 25, 18 = 18 * 26, 19 = 19 * 27,
        20 = 20 * 28, 21 = 21 * 29, 22 = 22 * 30, 23 = 23 * 31),
    multiply_add!(0 += 16 * 16 in 16, 1 += 17 * 17 in 17, 2 += 18 * 18 in 18, 3 += 19 * 19 in 19,
        0 += 20 * 20 in 20, 1 += 21 * 21 in 21, 2 += 22 * 22 in 22, 3 += 23 * 23 in 23),
}

sweep! {
    /// `to[i] = from[i]`.
    copy(to; from;), 16 values:
    "vldmia {from}!, {{s0-s15}}",
    "vstmia {to}!, {{s0-s15}}",
}

sweep! {
    /// [`crate::cpu::lanes::ascend`].
    ascend(w, g; ; c in 8), 8 values:
    "vldmia {g}, {{s24-s31}}",
    "vldmia {w}, {{s16-s23}}",
    "vstmia {g}!, {{s16-s23}}",
    multiply_add!(16 += 24 * 8 in 24, 17 += 25 * 8 in 25, 18 += 26 * 8 in 26, 19 += 27 * 8 in 27,
        20 += 28 * 8 in 28, 21 += 29 * 8 in 29, 22 += 30 * 8 in 30, 23 += 31 * 8 in 31),
    "vstmia {w}!, {{s16-s23}}",
}

sweep! {
    /// [`crate::cpu::lanes::ascend_scaled`].
    ascend_scaled(w, g; ; c in 8, eta in 9), 8 values:
    "vldmia {g}, {{s24-s31}}",
    "vldmia {w}, {{s16-s23}}",
    "vstmia {g}!, {{s16-s23}}",
    scale_of_weights!(16, 17, 18, 19, 20, 21, 22, 23),
    multiply!(16 = 16 * 16, 17 = 17 * 17, 18 = 18 * 18, 19 = 19 * 19,
        20 = 20 * 20, 21 = 21 * 21, 22 = 22 * 22, 23 = 23 * 23),
    multiply!(16 = 16 * 24, 17 = 17 * 25, 18 = 18 * 26, 19 = 19 * 27,
        20 = 20 * 28, 21 = 21 * 29, 22 = 22 * 30, 23 = 23 * 31),
    "vldmia {w}, {{s24-s31}}",
    multiply_add!(24 += 16 * 8 in 16, 25 += 17 * 8 in 17, 26 += 18 * 8 in 18, 27 += 19 * 8 in 19,
        28 += 20 * 8 in 20, 29 += 21 * 8 in 21, 30 += 22 * 8 in 22, 31 += 23 * 8 in 23),
    "vstmia {w}!, {{s24-s31}}",
}
