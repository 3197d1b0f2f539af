//! Sums back to int8 with Helium.

use crate::cpu::int8::Requantization;
use core::arch::asm;

/// `output[o] = clamp(zero_point + sums[o] * multiplier[o])`; see `portable::Requantizer`.
#[derive(Debug)]
pub struct Requantizer<'a> {
    work: Outputs,
    /// No multiplier shifts to the left or not at all.
    right: bool,
    // What `work` points into.
    _requantization: Requantization<'a>,
}

impl<'a> Requantizer<'a> {
    /// Prepares what every pixel needs.
    pub fn new(requantization: Requantization<'a>) -> Self {
        let Requantization { output_zero_point, mantissas, shifts, clamp, .. } = requantization;
        let work = Outputs {
            mantissas: mantissas.as_ptr(),
            shifts: shifts.as_ptr(),
            count: mantissas.len().min(shifts.len()),
            zero_point: output_zero_point,
            low: clamp[0].into(),
            high: clamp[1].into(),
        };
        Self { work, right: shifts.iter().all(|&shift| shift < 0), _requantization: requantization }
    }

    /// Scales one pixel's sums.
    pub fn run(&mut self, sums: &[i32], output: &mut [i8]) {
        let Self { work, right, .. } = self;
        if work.count == 0 || sums.len() < work.count || output.len() < work.count {
            return;
        }
        // SAFETY: all four arrays have at least `count` elements, which is not 0; `work` points into arrays that are
        // borrowed for as long as it lives.
        unsafe {
            if *right {
                scale_to_the_right(sums.as_ptr(), work, output.as_mut_ptr());
            } else {
                scale(sums.as_ptr(), work, output.as_mut_ptr());
            }
        }
    }
}

/// What the assembly reads.
#[repr(C)]
#[derive(Debug)]
struct Outputs {
    mantissas: *const i32,
    shifts: *const i32,
    count: usize,
    zero_point: i32,
    low: i32,
    high: i32,
}

/// VQRDMULH is the doubled high product, rounded half up as gemmlowp's is in effect; VRSHL rounds half up too, so that
/// negative numbers are lowered by one first.
macro_rules! outputs_in_assembly {
    ($(#[$documentation:meta])* $name:ident, $left:literal, $lower:literal) => {
        $(#[$documentation])*
        ///
        /// # Safety
        /// The arrays must have `count` elements; `count` is not 0.
        #[inline(never)]
        unsafe fn $name(sums: *const i32, work: &Outputs, output: *mut i8) {
            // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
            unsafe {
                asm!(
                    "push {{r4-r7}}",
                    "vpush {{d8-d13}}",
                    "ldm r1, {{r1, r3-r7}}",
                    "vmov.i32 q4, #0",
                    "vdup.32 q5, r6",
                    "vdup.32 q6, r7",
                    "dlstp.32 lr, r4",
                    "2:",
                    "vldrw.32 q0, [r0], #16",
                    "vldrw.32 q2, [r1], #16",
                    "vldrw.32 q1, [r3], #16",
                    $left,
                    "vqrdmulh.s32 q0, q0, q2",
                    $lower,
                    "vqadd.s32 q0, q0, q3",
                    "vrshl.s32 q0, q0, q1",
                    "vqadd.s32 q0, q0, r5",
                    "vmax.s32 q0, q0, q5",
                    "vmin.s32 q0, q0, q6",
                    "vstrb.32 q0, [r2], #4",
                    "letp lr, 2b",
                    "vpop {{d8-d13}}",
                    "pop {{r4-r7}}",
                    inout("r0") sums => _, inout("r1") work as *const Outputs => _, inout("r2") output => _,
                    out("r3") _, out("r12") _, out("lr") _,
                    out("q0") _, out("q1") _, out("q2") _, out("q3") _,
                )
            }
        }
    };
}

outputs_in_assembly!(
    /// Any shift.
    scale,
    "vmax.s32 q3, q1, q4
     vshl.s32 q0, q0, q3",
    "vmin.s32 q1, q1, q4
     vand q3, q0, q1
     vshr.s32 q3, q3, #31"
);

outputs_in_assembly!(
    /// Shifts to the right alone.
    scale_to_the_right,
    "",
    "vshr.s32 q3, q0, #31"
);
