//! Sweeps over slices of any length, and sums in lanes.

use super::unless_flushed;
use crate::cpu::lanes::LANES;
use core::arch::asm;

/// A sweep over slices, whose shortest counts: what is loaded and computed, and what is stored, for four values. Slices
/// that are written come first, then those that are read, then constants.
macro_rules! sweep {
    (
        $(#[$documentation:meta])*
        $name:ident($($write:ident),*; $($read:ident),*; $($constant:ident),*):
        $($line:literal),+; $($store:literal),+ $(,)?
    ) => {
        $(#[$documentation])*
        ///
        /// Returns how many values it did.
        #[inline(always)]
        pub fn $name($($write: &mut [f32],)* $($read: &[f32],)* $($constant: f32),*) -> usize {
            let count = usize::MAX$(.min($write.len()))*$(.min($read.len()))*;
            let left: usize;
            // SAFETY: every slice has `count` values, and the loop takes no more; none if it is 0.
            unsafe {
                mve!(
                    "mov {left}, #0",
                    "wlstp.32 lr, {count}, 3f",
                    "2:",
                    $($line,)+
                    "vmrs {left}, fpscr",
                    "tst {left}, #0x88",
                    "bne 4f",
                    $($store,)+
                    "letp lr, 2b",
                    "mov {left}, #0",
                    "b 3f",
                    "4:",
                    // What the loop's register says is left.
                    "mov {left}, lr",
                    "lctp",
                    "3:",
                    count = in(reg) count,
                    left = out(reg) left,
                    $($constant = in(reg) $constant.to_bits(),)*
                    $($write = inout(reg) $write.as_mut_ptr() => _,)*
                    $($read = inout(reg) $read.as_ptr() => _,)*
                );
            }
            if left > 0 {
                super::take_back();
            }
            count - left
        }
    };
}

/// A sweep that adds terms to the lanes' sums in q0.
macro_rules! sum {
    (
        $(#[$documentation:meta])*
        $name:ident($($read:ident),+; $($constant:ident),*): $($line:literal),+ $(,)?
    ) => {
        $(#[$documentation])*
        ///
        /// Returns how many values it did: all or none.
        #[inline(always)]
        pub fn $name(sums: &mut [f32; LANES], $($read: &[f32],)+ $($constant: f32),*) -> usize {
            let count = usize::MAX$(.min($read.len()))+;
            let flags: u32;
            // SAFETY: every slice has `count` values, and the loop takes no more, none if it is 0; there are four sums.
            unsafe {
                mve!(
                    "vldrw.32 q0, [{sums}]",
                    "wlstp.32 lr, {count}, 3f",
                    "2:",
                    $($line,)+
                    "letp lr, 2b",
                    "3:",
                    unless_flushed!("flags", "4f"),
                    "vstrw.32 q0, [{sums}]",
                    "4:",
                    sums = in(reg) sums.as_mut_ptr(),
                    count = in(reg) count,
                    flags = out(reg) flags,
                    $($constant = in(reg) $constant.to_bits(),)*
                    $($read = inout(reg) $read.as_ptr() => _,)+
                );
            }
            unless_flushed(flags, count)
        }
    };
}

sum! {
    /// [`crate::cpu::lanes::dot`] in lanes.
    dot(a, b;):
    "vldrw.32 q1, [{a}], #16",
    "vldrw.32 q2, [{b}], #16",
    "vmul.f32 q1, q1, q2",
    "vadd.f32 q0, q0, q1",
}

sum! {
    /// [`crate::cpu::lanes::norm_squared`] in lanes.
    norm_squared(a;):
    "vldrw.32 q1, [{a}], #16",
    "vmul.f32 q1, q1, q1",
    "vadd.f32 q0, q0, q1",
}

sum! {
    /// [`crate::cpu::lanes::scaled_norm_squared`] in lanes.
    scaled_norm_squared(w, g; eta):
    "vldrw.32 q1, [{w}], #16",
    "vldrw.32 q2, [{g}], #16",
    "vabs.f32 q1, q1",
    "vadd.f32 q1, q1, {eta}",
    "vmul.f32 q1, q1, q2",
    "vmul.f32 q1, q1, q1",
    "vadd.f32 q0, q0, q1",
}

sum! {
    /// [`crate::cpu::lanes::weighted_dot`] in lanes.
    weighted_dot(w, a, b; eta):
    "vldrw.32 q1, [{w}], #16",
    "vldrw.32 q2, [{a}], #16",
    "vldrw.32 q3, [{b}], #16",
    "vabs.f32 q1, q1",
    "vmul.f32 q2, q2, q3",
    "vadd.f32 q1, q1, {eta}",
    "vmul.f32 q1, q1, q1",
    "vmul.f32 q1, q1, q2",
    "vadd.f32 q0, q0, q1",
}

sweep! {
    /// `y[i] += factor * x[i]`.
    add_scaled(y; x; factor):
    "vldrw.32 q1, [{x}], #16",
    "vldrw.32 q0, [{y}]",
    "vmul.f32 q1, q1, {factor}",
    "vadd.f32 q0, q0, q1";
    "vstrw.32 q0, [{y}], #16",
}

sweep! {
    /// `y[i] = factor * y[i]`.
    scale(y; ; factor):
    "vldrw.32 q0, [{y}]",
    "vmul.f32 q0, q0, {factor}";
    "vstrw.32 q0, [{y}], #16",
}

sweep! {
    /// `v[i] = momentum * v[i] + decay * w[i]`.
    mix(v; w; momentum, decay):
    "vldrw.32 q1, [{w}], #16",
    "vldrw.32 q0, [{v}]",
    "vmul.f32 q1, q1, {decay}",
    "vmul.f32 q0, q0, {momentum}",
    "vadd.f32 q0, q0, q1";
    "vstrw.32 q0, [{v}], #16",
}

sweep! {
    /// `v[i] = momentum * v[i]`, then `w[i] += rate * v[i]`.
    descend(v, w; ; momentum, rate):
    "vldrw.32 q0, [{v}]",
    "vldrw.32 q1, [{w}]",
    "vmul.f32 q0, q0, {momentum}",
    "vmul.f32 q2, q0, {rate}",
    "vadd.f32 q1, q1, q2";
    "vstrw.32 q0, [{v}], #16",
    "vstrw.32 q1, [{w}], #16",
}

/// `to[i] = from[i]`; returns how many values.
#[inline(always)]
pub fn copy(to: &mut [f32], from: &[f32]) -> usize {
    let count = to.len().min(from.len());
    // SAFETY: both have `count` values, and the loop takes no more; none if it is 0.
    unsafe {
        mve!(
            "wlstp.32 lr, {count}, 3f",
            "2:",
            "vldrw.32 q0, [{from}], #16",
            "vstrw.32 q0, [{to}], #16",
            "letp lr, 2b",
            "3:",
            count = in(reg) count,
            from = inout(reg) from.as_ptr() => _,
            to = inout(reg) to.as_mut_ptr() => _,
        );
    }
    count
}

sweep! {
    /// [`crate::cpu::lanes::ascend`].
    ascend(w, g; ; c):
    "vldrw.32 q1, [{g}]",
    "vldrw.32 q0, [{w}]",
    "vmul.f32 q1, q1, {c}",
    "vadd.f32 q1, q0, q1";
    "vstrw.32 q0, [{g}], #16",
    "vstrw.32 q1, [{w}], #16",
}

sweep! {
    /// [`crate::cpu::lanes::ascend_scaled`].
    ascend_scaled(w, g; ; c, eta):
    "vldrw.32 q1, [{g}]",
    "vldrw.32 q0, [{w}]",
    "vabs.f32 q2, q0",
    "vadd.f32 q2, q2, {eta}",
    "vmul.f32 q2, q2, q2",
    "vmul.f32 q2, q2, q1",
    "vmul.f32 q2, q2, {c}",
    "vadd.f32 q1, q0, q2";
    "vstrw.32 q0, [{g}], #16",
    "vstrw.32 q1, [{w}], #16",
}

sweep! {
    /// [`super::descend_along`] for a single row.
    descend_row(v, w; x; factor, momentum, rate):
    "vldrw.32 q3, [{x}], #16",
    "vldrw.32 q0, [{v}]",
    "vldrw.32 q1, [{w}]",
    "vmul.f32 q3, q3, {factor}",
    "vmul.f32 q0, q0, {momentum}",
    "vadd.f32 q0, q0, q3",
    "vmul.f32 q2, q0, {rate}",
    "vadd.f32 q1, q1, q2";
    "vstrw.32 q0, [{v}], #16",
    "vstrw.32 q1, [{w}], #16",
}
