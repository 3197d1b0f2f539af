//! The DSP extension of Armv7E-M and Armv8-M: two 16-bit products and their sum in one instruction.
//!
//! A word of four int8 values becomes two words of two int16 values by SXTB16, bytes 0 and 2 and bytes 1 and 3.
//! Input and weights are widened alike, so that nothing needs to be put in order. The input is widened once for
//! all outputs and kept in [`Scratch`]; a word of weights, once widened, serves two columns.

// Stable Rust has these instructions through `asm!` alone.
#![allow(unsafe_code)]

use super::{Column, Filters, Taps, portable};
use crate::kernels::Requantization;
use core::arch::asm;

/// Values of a column that are widened at a time; a multiple of 4.
const WIDENED: usize = 256;

/// Widened columns: four values of one column, then four of the other.
#[derive(Debug)]
pub struct Scratch {
    words: [[u32; 4]; WIDENED / 4],
    values: [[i8; WIDENED]; 2],
}

impl Scratch {
    /// Zeros; they are overwritten before they are read.
    pub const EMPTY: Self = Self { words: [[0; 4]; WIDENED / 4], values: [[0; WIDENED]; 2] };
}

/// `sum + x.0 * y.0 + x.1 * y.1`, wrapping: the products of the 16-bit halves.
#[inline(always)]
fn smlad(x: u32, y: u32, sum: i32) -> i32 {
    let result;
    // SAFETY: one instruction on registers. It may set the saturation flag, which nothing reads.
    unsafe {
        asm!("smlad {}, {}, {}, {}", lateout(reg) result, in(reg) x, in(reg) y, in(reg) sum,
            options(pure, nomem, nostack));
    }
    result
}

/// Bytes 0 and 2, widened to 16 bits, and bytes 1 and 3.
#[inline(always)]
fn widen(word: u32) -> [u32; 2] {
    let (even, odd);
    // SAFETY: two instructions on registers; `even` is written before `word` is read last.
    unsafe {
        asm!("sxtb16 {0}, {2}", "sxtb16 {1}, {2}, ror #8", out(reg) even, lateout(reg) odd, in(reg) word,
            options(pure, nomem, nostack, preserves_flags));
    }
    [even, odd]
}

/// The same plus `offset`, which holds a 16-bit number in each half.
#[inline(always)]
fn widen_and_add(offset: u32, word: u32) -> [u32; 2] {
    let (even, odd);
    // SAFETY: as in `widen`.
    unsafe {
        asm!("sxtab16 {0}, {3}, {2}", "sxtab16 {1}, {3}, {2}, ror #8",
            out(reg) even, lateout(reg) odd, in(reg) word, in(reg) offset,
            options(pure, nomem, nostack, preserves_flags));
    }
    [even, odd]
}

/// The number in both halves of a word.
#[inline]
fn twice(offset: i32) -> u32 {
    (offset as u32 & 0xffff) * 0x1_0001
}

/// Four bytes or fewer as a word, zeros behind them.
#[inline]
fn partial_word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// Calls `piece(values from, values)` for pieces of at most [`WIDENED`] contiguous values of `columns`.
#[inline]
fn in_pieces<const N: usize>(
    columns: [Column; N],
    buffers: &mut [[i8; WIDENED]; 2],
    mut piece: impl FnMut(usize, [&[u8]; N]),
) {
    let length = columns[0].len();
    for from in (0..length).step_by(WIDENED) {
        let to = length.min(from + WIDENED);
        let mut pieces: [&[u8]; N] = [&[]; N];
        for ((column, place), buffer) in columns.iter().zip(&mut pieces).zip(buffers.iter_mut()) {
            *place = if column.rows == 1 {
                bytes(column.values.get(from..to).unwrap_or(&[]))
            } else {
                column.copy(from, buffer.get_mut(..to - from).unwrap_or(&mut []));
                bytes(buffer.get(..to - from).unwrap_or(&[]))
            };
        }
        piece(from, pieces);
    }
}

#[inline]
fn bytes(values: &[i8]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// `sums[o] = start[o] + sum_k (column[k] + offset) * weights[o, from + k]`, wrapping; where `from` is not 0, it goes
/// on from what is in `sums`.
pub fn accumulate(scratch: &mut Scratch, filters: &Filters, column: Column, from: usize, sums: &mut [i32]) {
    if !filters.hold(from, column.len(), sums) {
        return;
    }
    let Scratch { words, values } = scratch;
    let Filters { weights, stride, .. } = *filters;
    let offset = twice(filters.offset);
    in_pieces([column], values, |piece, [x]| {
        let (groups, rest) = x.as_chunks::<4>();
        let widened = words.as_flattened_mut().as_chunks_mut::<2>().0;
        for (wide, &group) in widened.iter_mut().zip(groups) {
            *wide = widen_and_add(offset, u32::from_le_bytes(group));
        }
        let widened = widened.get(..groups.len()).unwrap_or(&[]);
        // Weights behind the row's end count as 0, whatever stands against them.
        let last = widen_and_add(offset, partial_word(rest));
        let weights = bytes(weights.get(from + piece..).unwrap_or(&[]));
        let start = (from + piece == 0).then_some(filters.start);
        let in_fours = sums.len() / 4 * 4;
        let (fours, single) = sums.split_at_mut(in_fours);
        four_rows(widened, weights, stride, start, fours);
        begin(start, in_fours, single);
        for (o, sum) in single.iter_mut().enumerate() {
            let row = row(weights, (in_fours + o) * stride, x.len());
            for (wide, &w) in widened.iter().zip(row.as_chunks::<4>().0) {
                let w = widen(u32::from_le_bytes(w));
                *sum = smlad(wide[1], w[1], smlad(wide[0], w[0], *sum));
            }
        }
        if !rest.is_empty() {
            for (o, sum) in sums.iter_mut().enumerate() {
                let w = widen(partial_word(row(weights, o * stride, x.len()).as_chunks::<4>().1));
                *sum = smlad(last[1], w[1], smlad(last[0], w[0], *sum));
            }
        }
    });
}

/// Puts `start` from its element `first` on into `sums`, if there is a start.
fn begin(start: Option<&[i32]>, first: usize, sums: &mut [i32]) {
    for (sum, &start) in sums.iter_mut().zip(start.and_then(|s| s.get(first..)).unwrap_or(&[])) {
        *sum = start;
    }
}

/// A row of weights.
#[inline]
fn row(weights: &[u8], start: usize, length: usize) -> &[u8] {
    weights.get(start..start + length).unwrap_or(&[])
}

/// The same for two columns.
pub fn accumulate_two(
    scratch: &mut Scratch,
    filters: &Filters,
    columns: [Column; 2],
    from: usize,
    sums: [&mut [i32]; 2],
) {
    let [sums0, sums1] = sums;
    let length = columns[0].len();
    let held = filters.hold(from, length, sums0) && filters.hold(from, length, sums1);
    if !held || columns[1].len() != length {
        return;
    }
    let Scratch { words, values } = scratch;
    let Filters { weights, stride, .. } = *filters;
    let offset = twice(filters.offset);
    in_pieces(columns, values, |piece, [x0, x1]| {
        let ((groups0, rest0), (groups1, rest1)) = (x0.as_chunks::<4>(), x1.as_chunks::<4>());
        for ((wide, &a), &b) in words.iter_mut().zip(groups0).zip(groups1) {
            let [a0, a1] = widen_and_add(offset, u32::from_le_bytes(a));
            let [b0, b1] = widen_and_add(offset, u32::from_le_bytes(b));
            *wide = [a0, a1, b0, b1];
        }
        let widened = words.get(..groups0.len()).unwrap_or(&[]);
        let last = [rest0, rest1].map(|rest| widen_and_add(offset, partial_word(rest)));
        let weights = bytes(weights.get(from + piece..).unwrap_or(&[]));
        let start = (from + piece == 0).then_some(filters.start);
        let in_twos = sums0.len() / 2 * 2;
        let ((twos0, single0), (twos1, single1)) = (sums0.split_at_mut(in_twos), sums1.split_at_mut(in_twos));
        two_rows(widened, weights, stride, start, [twos0, twos1]);
        begin(start, in_twos, single0);
        begin(start, in_twos, single1);
        if let ([y0], [y1]) = (single0, single1) {
            // An odd last output stands beside itself.
            let mut pair = [[*y0, 0], [*y1, 0]];
            let [pair0, pair1] = &mut pair;
            two_rows(widened, row(weights, in_twos * stride, x0.len()), 0, None, [pair0, pair1]);
            [*y0, *y1] = [pair[0][0], pair[1][0]];
        }
        if !rest0.is_empty() {
            for (o, (y0, y1)) in sums0.iter_mut().zip(sums1.iter_mut()).enumerate() {
                let w = widen(partial_word(row(weights, o * stride, x0.len()).as_chunks::<4>().1));
                for (y, x) in [y0, y1].into_iter().zip(last) {
                    *y = smlad(x[1], w[1], smlad(x[0], w[0], *y));
                }
            }
        }
    });
}

/// Adds the products of one column and every row of weights; a multiple of four rows, of which the first
/// `4 * column.len()` weights count.
fn four_rows(column: &[[u32; 2]], weights: &[u8], stride: usize, start: Option<&[i32]>, sums: &mut [i32]) {
    let held = held_rows(column.len(), weights, stride).min(sums.len());
    if column.is_empty() || held < 4 || start.is_some_and(|s| s.len() < sums.len()) {
        return begin(start, 0, sums);
    }
    let mut work = FourRows {
        column: column.as_ptr(),
        groups: column.len(),
        weights: weights.as_ptr(),
        stride,
        blocks: held / 4,
        sums: sums.as_mut_ptr(),
        start: start.map_or(sums.as_ptr(), <[i32]>::as_ptr),
    };
    // SAFETY: `held` rows of `4 * groups` weights, `stride` apart, lie in `weights`, and as many sums in `sums`
    // and where they start; there is at least one group and one block.
    unsafe { four_rows_in_assembly(&mut work) }
}

/// How many rows of `4 * groups` weights, `stride` apart, there are; any number if they are one and the same.
fn held_rows(groups: usize, weights: &[u8], stride: usize) -> usize {
    match weights.len().checked_sub(4 * groups) {
        None => 0,
        Some(_) if stride == 0 => usize::MAX,
        Some(behind) => behind / stride + 1,
    }
}

/// What the assembly reads and updates.
#[repr(C)]
struct FourRows {
    column: *const [u32; 2],
    groups: usize,
    weights: *const u8,
    stride: usize,
    blocks: usize,
    sums: *mut i32,
    start: *const i32,
}

/// # Safety
/// `blocks * 4` rows of `groups * 4` weights, `stride` apart, must lie at `weights`, as many sums at `sums` and
/// `start`, and `groups` pairs at `column`; `groups` and `blocks` are not 0.
#[inline(never)]
unsafe fn four_rows_in_assembly(work: &mut FourRows) {
    // r0 column, r1 groups left, r2 r3 r10 r11 weights, r4 to r7 sums, r8 r9 values, r12 lr weights widened.
    // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
    unsafe {
        asm!(
            ".macro flatmin_row weights, sum",
            "ldr r12, [\\weights], #4",
            "sxtb16 lr, r12",
            "sxtb16 r12, r12, ror #8",
            "smlad \\sum, lr, r8, \\sum",
            "smlad \\sum, r12, r9, \\sum",
            ".endm",
            ".macro flatmin_four_rows",
            "ldrd r8, r9, [r0], #8",
            "flatmin_row r2, r4",
            "flatmin_row r3, r5",
            "flatmin_row r10, r6",
            "flatmin_row r11, r7",
            ".endm",
            "push {{r0, r4-r11}}",
            "2:",
            "ldr r0, [sp]",
            "ldrd r2, r8, [r0, #8]",
            "ldr r9, [r0, #24]",
            "ldm r9!, {{r4-r7}}",
            "str r9, [r0, #24]",
            "add r3, r2, r8",
            "add r10, r3, r8",
            "add r11, r10, r8",
            "add r8, r11, r8",
            "str r8, [r0, #8]",
            "ldrd r0, r1, [r0]",
            "subs r1, #4",
            "blt 4f",
            "3:",
            "flatmin_four_rows",
            "flatmin_four_rows",
            "flatmin_four_rows",
            "flatmin_four_rows",
            "subs r1, #4",
            "bge 3b",
            "4:",
            "adds r1, #4",
            "beq 6f",
            "5:",
            "flatmin_four_rows",
            "subs r1, #1",
            "bne 5b",
            "6:",
            "ldr r0, [sp]",
            "ldrd r8, r9, [r0, #16]",
            "stm r9!, {{r4-r7}}",
            "subs r8, #1",
            "strd r8, r9, [r0, #16]",
            "bne 2b",
            "pop {{r0, r4-r11}}",
            ".purgem flatmin_row",
            ".purgem flatmin_four_rows",
            inout("r0") work as *mut FourRows => _,
            out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("lr") _,
        )
    }
}

/// Adds the products of two columns and every row of weights; an even number of rows, of which the first
/// `4 * columns.len()` weights count.
fn two_rows(
    columns: &[[u32; 4]],
    weights: &[u8],
    stride: usize,
    start: Option<&[i32]>,
    sums: [&mut [i32]; 2],
) {
    let held = held_rows(columns.len(), weights, stride).min(sums[0].len()).min(sums[1].len());
    if columns.is_empty() || held < 2 || start.is_some_and(|s| s.len() < sums[0].len().max(sums[1].len())) {
        return sums.into_iter().for_each(|sums| begin(start, 0, sums));
    }
    let starts = [0, 1].map(|column| start.map_or(sums[column].as_ptr(), <[i32]>::as_ptr));
    let mut work = TwoRows {
        columns: columns.as_ptr(),
        groups: columns.len(),
        weights: weights.as_ptr(),
        stride,
        blocks: held / 2,
        sums: sums.map(|sums| sums.as_mut_ptr()),
        starts,
    };
    // SAFETY: `held` rows of `4 * groups` weights, `stride` apart, lie in `weights`, and as many sums in either of
    // `sums` and where they start; there is at least one group and one block.
    unsafe { two_rows_in_assembly(&mut work) }
}

/// What the assembly reads and updates.
#[repr(C)]
struct TwoRows {
    columns: *const [u32; 4],
    groups: usize,
    weights: *const u8,
    stride: usize,
    blocks: usize,
    sums: [*mut i32; 2],
    starts: [*const i32; 2],
}

/// # Safety
/// `blocks * 2` rows of `groups * 4` weights, `stride` apart, must lie at `weights`, as many sums at either of
/// `sums` and `starts`, and `groups` groups at `columns`; `groups` and `blocks` are not 0.
#[inline(never)]
unsafe fn two_rows_in_assembly(work: &mut TwoRows) {
    // r0 columns, r1 groups left, r2 r3 weights, r4 r5 the first row's sums, r6 r7 the second's, r8 to r11 values,
    // r12 lr weights widened.
    // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
    unsafe {
        asm!(
            ".macro flatmin_row weights, sum, other",
            "ldr r12, [\\weights], #4",
            "sxtb16 lr, r12",
            "sxtb16 r12, r12, ror #8",
            "smlad \\sum, lr, r8, \\sum",
            "smlad \\sum, r12, r9, \\sum",
            "smlad \\other, lr, r10, \\other",
            "smlad \\other, r12, r11, \\other",
            ".endm",
            ".macro flatmin_two_rows",
            "ldm r0!, {{r8-r11}}",
            "flatmin_row r2, r4, r5",
            "flatmin_row r3, r6, r7",
            ".endm",
            "push {{r0, r4-r11}}",
            "2:",
            "ldr r0, [sp]",
            "ldrd r8, r9, [r0, #28]",
            "ldrd r4, r6, [r8], #8",
            "ldrd r5, r7, [r9], #8",
            "strd r8, r9, [r0, #28]",
            "ldrd r2, r8, [r0, #8]",
            "add r3, r2, r8",
            "add r8, r3, r8",
            "str r8, [r0, #8]",
            "ldrd r0, r1, [r0]",
            "subs r1, #4",
            "blt 4f",
            "3:",
            "flatmin_two_rows",
            "flatmin_two_rows",
            "flatmin_two_rows",
            "flatmin_two_rows",
            "subs r1, #4",
            "bge 3b",
            "4:",
            "adds r1, #4",
            "beq 6f",
            "5:",
            "flatmin_two_rows",
            "subs r1, #1",
            "bne 5b",
            "6:",
            "ldr r0, [sp]",
            "ldrd r8, r9, [r0, #20]",
            "strd r4, r6, [r8], #8",
            "strd r5, r7, [r9], #8",
            "strd r8, r9, [r0, #20]",
            "ldr r8, [r0, #16]",
            "subs r8, #1",
            "str r8, [r0, #16]",
            "bne 2b",
            "pop {{r0, r4-r11}}",
            ".purgem flatmin_row",
            ".purgem flatmin_two_rows",
            inout("r0") work as *mut TwoRows => _,
            out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("lr") _,
        )
    }
}

/// `sums[c] = start[c] + sum over taps (input[tap, c] + offset) * weights[tap, c]`, wrapping.
pub fn depthwise(taps: Taps, offset: i32, start: &[i32], sums: &mut [i32]) {
    let fours = sums.len() / 4 * 4;
    if taps.rows == 0 || taps.columns == 0 || start.len() < sums.len() || !taps.hold(fours) {
        return portable::depthwise(taps, offset, start, sums);
    }
    let (whole, rest) = sums.split_at_mut(fours);
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
            sums: whole.as_mut_ptr(),
            start: start.as_ptr(),
        };
        // SAFETY: `Taps::hold` says that every tap has `4 * blocks` values in input and weights; there are as many
        // sums and starts, at least one tap and one block.
        unsafe { four_channels_in_assembly(&mut work) }
    }
    if !rest.is_empty() {
        portable::depthwise(taps.behind(fours), offset, start.get(fours..).unwrap_or(&[]), rest);
    }
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
