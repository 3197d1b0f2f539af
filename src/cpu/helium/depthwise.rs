//! Depthwise convolution with Helium.

use crate::cpu::int8::Taps;
use core::arch::asm;

/// `sums[c] = start[c] + sum over taps (input[tap, c] + offset) * weights[tap, c]`, wrapping, for as many
/// channels as come in eights; returns how many.
pub fn depthwise(taps: Taps, offset: i32, start: &[i32], sums: &mut [i32]) -> usize {
    if taps.rows == 0 || taps.columns == 0 || start.len() < sums.len() || !taps.hold(sums.len()) {
        return 0;
    }
    let count = sums.len();
    let [sixteens, eights] = [count / 16, count % 16 / 8];
    // From the last tap of a row to the first of the next.
    let step =
        |axis: usize| taps.row_stride[axis].wrapping_sub(taps.columns.wrapping_mul(taps.column_stride[axis]));
    let mut work = Channels {
        input: taps.input.as_ptr(),
        weights: taps.weights.as_ptr(),
        column_stride: taps.column_stride,
        row_step: [step(0), step(1)],
        columns: taps.columns,
        rows: taps.rows,
        offset,
        start: start.as_ptr(),
        sums: sums.as_mut_ptr(),
        blocks: sixteens,
    };
    // SAFETY: `Taps::hold` says that every tap has as many values in input and weights as there are sums; sixteen are
    // taken at a time, then eight, and the assembly moves input, weights, start and sums on by what it took.
    unsafe {
        if sixteens > 0 {
            sixteen_channels(&mut work);
        }
        if eights > 0 {
            work.blocks = eights;
            eight_channels(&mut work);
        }
    }
    sixteens * 16 + eights * 8
}

/// What the assembly reads and updates.
#[repr(C)]
struct Channels {
    input: *const i8,
    weights: *const i8,
    column_stride: [usize; 2],
    row_step: [usize; 2],
    columns: usize,
    rows: usize,
    offset: i32,
    start: *const i32,
    sums: *mut i32,
    blocks: usize,
}

/// Products of int16 values in even and odd lanes: `vld2` and `vst2` put the sums in order.
macro_rules! channels_in_assembly {
    ($(#[$documentation:meta])* $name:ident, $channels:literal, $load:literal, $second:literal, $store:literal) => {
        $(#[$documentation])*
        ///
        /// # Safety
        /// From `input` and `weights` on every tap must have as many values as all blocks take, and `start` and
        /// `sums` too; `rows`, `columns` and `blocks` are not 0.
        #[inline(never)]
        unsafe fn $name(work: &mut Channels) {
            // r1 input, r2 weights, r3 r4 their column strides, r5 r6 their row steps, r7 taps a row, r8 rows left,
            // r9 offset, r10 start, r11 sums; q0 to q3 sums, q4 to q7 values, weights and products.
            // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
            unsafe {
            asm!(
                "push {{r4-r11}}",
                "vpush {{d8-d15}}",
                "2:",
                "ldm r0, {{r1-r11}}",
                "vld20.32 {{q0, q1}}, [r10]",
                "vld21.32 {{q0, q1}}, [r10]!",
                $load,
                "str r10, [r0, #36]",
                "3:",
                "dls lr, r7",
                "4:",
                "vldrb.s16 q4, [r1]",
                "vldrb.s16 q5, [r2]",
                "vadd.i16 q4, q4, r9",
                "vmullb.s16 q6, q4, q5",
                "vadd.i32 q0, q0, q6",
                "vmullt.s16 q7, q4, q5",
                "vadd.i32 q1, q1, q7",
                $second,
                "add r1, r3",
                "add r2, r4",
                "le lr, 4b",
                "add r1, r5",
                "add r2, r6",
                "subs r8, #1",
                "bne 3b",
                "vst20.32 {{q0, q1}}, [r11]",
                "vst21.32 {{q0, q1}}, [r11]!",
                $store,
                "str r11, [r0, #40]",
                "ldrd r1, r2, [r0]",
                "add r1, #{channels}",
                "add r2, #{channels}",
                "strd r1, r2, [r0]",
                "ldr r1, [r0, #44]",
                "subs r1, #1",
                "str r1, [r0, #44]",
                "bne 2b",
                "vpop {{d8-d15}}",
                "pop {{r4-r11}}",
                channels = const $channels,
                inout("r0") work as *mut Channels => _,
                out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("lr") _,
                out("q0") _, out("q1") _, out("q2") _, out("q3") _,
            )
            }
        }
    };
}

channels_in_assembly!(
    /// Sixteen channels at a time.
    sixteen_channels,
    16,
    "vld20.32 {{q2, q3}}, [r10]
     vld21.32 {{q2, q3}}, [r10]!",
    "vldrb.s16 q4, [r1, #8]
     vldrb.s16 q5, [r2, #8]
     vadd.i16 q4, q4, r9
     vmullb.s16 q6, q4, q5
     vadd.i32 q2, q2, q6
     vmullt.s16 q7, q4, q5
     vadd.i32 q3, q3, q7",
    "vst20.32 {{q2, q3}}, [r11]
     vst21.32 {{q2, q3}}, [r11]!"
);

channels_in_assembly!(
    /// Eight channels at a time.
    eight_channels,
    8,
    "",
    "",
    ""
);
