//! Sums back to int8 with the DSP extension.

use crate::cpu::int8::Requantization;
use crate::cpu::portable;
use core::arch::asm;

/// `output[o] = clamp(zero_point + sums[o] * multiplier[o])`; see [`portable::Requantizer`].
#[derive(Debug)]
pub struct Requantizer<'a>(Requantization<'a>);

impl<'a> Requantizer<'a> {
    /// Prepares what every pixel needs.
    pub fn new(requantization: Requantization<'a>) -> Self {
        Self(requantization)
    }

    /// Scales one pixel's sums.
    pub fn run(&mut self, sums: &[i32], output: &mut [i8]) {
        let Requantization { output_zero_point, mantissas, shifts, clamp, .. } = self.0;
        let count = sums.len().min(mantissas.len()).min(shifts.len()).min(output.len());
        let whole = count / 4 * 4;
        let four_times = |bound: i8| u32::from(bound.cast_unsigned()) * 0x0101_0101;
        if whole > 0 {
            let mut work = FourOutputs {
                sums: sums.as_ptr(),
                mantissas: mantissas.as_ptr(),
                shifts: shifts.as_ptr(),
                output: output.as_mut_ptr(),
                blocks: whole / 4,
                high: four_times(clamp[1]),
                low: four_times(clamp[0]),
                twice_zero_point_and_one: 2 * output_zero_point + 1,
            };
            // SAFETY: all four arrays have at least `4 * blocks` elements, and there is a block.
            unsafe { four_outputs_in_assembly(&mut work) }
        }
        if whole < count {
            let (sums, output) =
                (sums.get(whole..).unwrap_or(&[]), output.get_mut(whole..).unwrap_or(&mut []));
            portable::Requantizer::new(self.0.outputs(whole, count - whole)).run(sums, output);
        }
    }
}

/// What the assembly reads.
#[repr(C)]
struct FourOutputs {
    sums: *const i32,
    mantissas: *const i32,
    shifts: *const i32,
    output: *mut i8,
    blocks: usize,
    high: u32,
    low: u32,
    twice_zero_point_and_one: i32,
}

/// [`portable::Requantizer`]'s arithmetic. The zero point is added before the last halving, with saturation; four
/// results in a word are clamped at once.
///
/// # Safety
/// The arrays must have `4 * blocks` elements; `blocks` is not 0.
#[inline(never)]
unsafe fn four_outputs_in_assembly(work: &mut FourOutputs) {
    // r0 sums, r1 mantissas, r2 shifts, r3 output, r4 blocks left, r5 high, lr low, r11 twice the zero point and one,
    // r12 four outputs.
    // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
    unsafe {
        asm!(
            ".macro flatmin_output place, left, back",
            "ldr r6, [r0], #4",
            "ldr r8, [r2], #4",
            "ldr r7, [r1], #4",
            "mvns r8, r8",
            "mov r9, #0x40000000",
            "mov r10, #0",
            "bmi \\left",
            "smlal r9, r10, r6, r7",
            "lsls r9, r9, #1",
            "adc r10, r10, r10",
            "add r10, r10, r10, asr #31",
            "asr r10, r10, r8",
            "qadd r10, r10, r11",
            "asr r10, r10, #1",
            "\\back",
            "ssat r10, #8, r10",
            "bfi r12, r10, #\\place, #8",
            ".endm",
            // A shift to the left, or none: one rounding.
            ".macro flatmin_output_left",
            "mvn r8, r8",
            "lsl r6, r6, r8",
            "smlal r9, r10, r6, r7",
            "lsls r9, r9, #1",
            "adc r10, r10, r10",
            "asr r8, r11, #1",
            "qadd r10, r10, r8",
            ".endm",
            "push {{r4-r11}}",
            "ldm r0, {{r0-r5, r11, lr}}",
            // Registers rise with addresses: low came into r11, the zero point into lr.
            "mov r12, r11",
            "mov r11, lr",
            "mov lr, r12",
            "2:",
            "flatmin_output 0, 40f, 30:",
            "flatmin_output 8, 41f, 31:",
            "flatmin_output 16, 42f, 32:",
            "flatmin_output 24, 43f, 33:",
            "ssub8 r6, r12, lr",
            "sel r12, r12, lr",
            "ssub8 r6, r5, r12",
            "sel r12, r12, r5",
            "str r12, [r3], #4",
            "subs r4, #1",
            "bne 2b",
            "pop {{r4-r11}}",
            "b 49f",
            "40:",
            "flatmin_output_left",
            "b 30b",
            "41:",
            "flatmin_output_left",
            "b 31b",
            "42:",
            "flatmin_output_left",
            "b 32b",
            "43:",
            "flatmin_output_left",
            "b 33b",
            "49:",
            ".purgem flatmin_output",
            ".purgem flatmin_output_left",
            inout("r0") work as *mut FourOutputs => _,
            out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("lr") _,
        )
    }
}
