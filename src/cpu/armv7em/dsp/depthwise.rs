//! Depthwise convolution with the DSP extension.

use super::twice;
use crate::cpu::int8::Taps;
use core::arch::asm;

/// `sums[c] = start[c] + sum over taps (input[tap, c] + offset) * weights[tap, c]`, wrapping, for as many
/// channels as come in fours; returns how many.
pub fn depthwise(taps: Taps, offset: i32, start: &[i32], sums: &mut [i32]) -> usize {
    let fours = sums.len() / 4 * 4;
    if taps.rows == 0 || taps.columns == 0 || start.len() < sums.len() || !taps.hold(fours) {
        return 0;
    }
    if fours > 0 {
        // Three taps a row are addressed from the row's start, any other number by moving on.
        let moved = if taps.columns == 3 { 0 } else { taps.columns };
        let step =
            |axis: usize| taps.row_stride[axis].wrapping_sub(moved.wrapping_mul(taps.column_stride[axis]));
        let mut work = FourChannels {
            input: taps.input.as_ptr(),
            weights: taps.weights.as_ptr(),
            column_stride: taps.column_stride,
            row_step: [step(0), step(1)],
            rows: taps.rows,
            columns: taps.columns,
            offset: twice(offset),
            blocks: fours / 4,
            sums: sums.as_mut_ptr(),
            start: start.as_ptr(),
        };
        // SAFETY: `Taps::hold` says that every tap has `4 * blocks` values in input and weights; there are as many
        // sums and starts, at least one tap and one block.
        unsafe { four_channels_in_assembly(&mut work) }
    }
    fours
}

/// What the assembly reads and updates.
#[repr(C)]
struct FourChannels {
    input: *const i8,
    weights: *const i8,
    column_stride: [usize; 2],
    row_step: [usize; 2],
    rows: usize,
    columns: usize,
    offset: u32,
    blocks: usize,
    sums: *mut i32,
    start: *const i32,
}

/// # Safety
/// From `input` and `weights` on every tap must have `4 * blocks` values, `sums` and `start`
/// as many; `rows`, `columns` and
/// `blocks` are not 0.
#[inline(never)]
unsafe fn four_channels_in_assembly(work: &mut FourChannels) {
    // r0 input, r1 weights, r2 r3 their column strides, r4 to r7 sums, r8 offset, r9 to r12 values and weights
    // widened, lr taps left in the row or rows left.
    // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
    unsafe {
        asm!(
            ".macro flatmin_tap_products",
            "sxtab16 r10, r8, r9, ror #8",
            "sxtab16 r9, r8, r9",
            "sxtb16 r12, r11, ror #8",
            "sxtb16 r11, r11",
            "smlabb r4, r9, r11, r4",
            "smlatt r6, r9, r11, r6",
            "smlabb r5, r10, r12, r5",
            "smlatt r7, r10, r12, r7",
            ".endm",
            "push {{r0, r4-r11}}",
            // A block of four channels.
            "2:",
            "ldr r0, [sp]",
            "ldr r9, [r0, #44]",
            "ldm r9!, {{r4-r7}}",
            "str r9, [r0, #44]",
            "ldrd r2, r3, [r0, #8]",
            "ldrd lr, r9, [r0, #24]",
            "ldr r8, [r0, #32]",
            "ldrd r0, r1, [r0]",
            "cmp r9, #3",
            "bne 5f",
            // Three taps a row.
            "3:",
            "ldr r9, [r0]",
            "ldr r11, [r1]",
            "flatmin_tap_products",
            "ldr r9, [r0, r2]",
            "ldr r11, [r1, r3]",
            "flatmin_tap_products",
            "ldr r9, [r0, r2, lsl #1]",
            "ldr r11, [r1, r3, lsl #1]",
            "flatmin_tap_products",
            "ldr r9, [sp]",
            "ldrd r9, r12, [r9, #16]",
            "add r0, r9",
            "add r1, r12",
            "subs lr, #1",
            "bne 3b",
            "b 7f",
            // Any number of taps a row; rows left wait on the stack.
            "5:",
            "push {{r9, lr}}",
            "mov lr, r9",
            "6:",
            "ldr r9, [r0]",
            "ldr r11, [r1]",
            "flatmin_tap_products",
            "add r0, r2",
            "add r1, r3",
            "subs lr, #1",
            "bne 6b",
            "pop {{r9, lr}}",
            "ldr r10, [sp]",
            "ldrd r10, r11, [r10, #16]",
            "add r0, r10",
            "add r1, r11",
            "subs lr, #1",
            "bne 5b",
            // The sums are done.
            "7:",
            "ldr r0, [sp]",
            "ldr r9, [r0, #40]",
            "stm r9!, {{r4-r7}}",
            "str r9, [r0, #40]",
            "ldrd r9, r10, [r0]",
            "add r9, #4",
            "add r10, #4",
            "strd r9, r10, [r0]",
            "ldr r9, [r0, #36]",
            "subs r9, #1",
            "str r9, [r0, #36]",
            "bne 2b",
            "pop {{r0, r4-r11}}",
            ".purgem flatmin_tap_products",
            inout("r0") work as *mut FourChannels => _,
            out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("lr") _,
        )
    }
}
