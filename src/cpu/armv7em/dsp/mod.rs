//! The DSP extension of Armv7E-M and Armv8-M: two 16-bit products and their sum in one instruction.
//!
//! A word of four int8 values becomes two words of two int16 values by SXTB16, bytes 0 and 2 and bytes 1 and 3.
//! Input and weights are widened alike, so that nothing needs to be put in order. The input is widened once for
//! all outputs and kept in [`Scratch`]; a word of weights, once widened, serves two columns.

// Stable Rust has these instructions through `asm!` alone.
#![allow(unsafe_code)]

mod depthwise;
mod pixels;
mod requantize;

use crate::cpu::int8::{Column, Filters};
use core::arch::asm;
pub use depthwise::depthwise;
pub use pixels::add_pixels;
pub use requantize::Requantizer;

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
#[inline(always)]
fn twice(offset: i32) -> u32 {
    (offset as u32 & 0xffff) * 0x1_0001
}

/// Four bytes or fewer as a word, zeros after them.
#[inline(always)]
fn partial_word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// Calls `piece(values from, values)` for pieces of at most [`WIDENED`] contiguous values of `columns`.
#[inline(always)]
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

#[inline(always)]
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
        // Weights after the row's end count as 0, whatever stands against them.
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
#[inline(always)]
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
