//! Helium, the vector extension of Cortex-M52, M55 and M85: sixteen int8 products and their sum in one instruction.
//!
//! Loops are tail-predicated (`dlstp`, `letp`): the last vector's surplus lanes neither load nor count.

// Stable Rust has these instructions through assembly alone.
#![allow(unsafe_code)]

mod depthwise;
mod requantize;

use super::int8::{Column, Filters};
use core::arch::asm;
pub use depthwise::depthwise;
pub use requantize::Requantizer;

/// Values of a column that are copied together at a time.
const GATHERED: usize = 256;

/// A column that does not lie in rows of whole vectors.
#[derive(Debug)]
pub struct Scratch {
    values: [i8; GATHERED],
}

impl Scratch {
    /// Zeros; they are overwritten before they are read.
    pub const EMPTY: Self = Self { values: [0; GATHERED] };
}

/// `sums[o] = start[o] + sum_k (column[k] + offset) * weights[o, from + k]`, wrapping; where `from` is not 0, it goes
/// on from what is in `sums`.
pub fn accumulate(scratch: &mut Scratch, filters: &Filters, column: Column, from: usize, sums: &mut [i32]) {
    if !filters.hold(from, column.len(), sums) {
        return;
    }
    if column.rows == 1 {
        one_row(filters, column, from, sums);
    } else if column.row_length % 16 == 0 && filters.offset == 0 {
        whole_rows(filters, column, from, sums);
    } else {
        for piece in (0..column.len()).step_by(GATHERED) {
            let values = scratch.values.get_mut(..GATHERED.min(column.len() - piece)).unwrap_or(&mut []);
            column.copy(piece, values);
            one_row(filters, Column::contiguous(values), from + piece, sums);
        }
    }
}

/// The same for two columns.
#[inline(always)]
pub fn accumulate_two(
    scratch: &mut Scratch,
    filters: &Filters,
    columns: [Column; 2],
    from: usize,
    sums: [&mut [i32]; 2],
) {
    let [a, b] = columns;
    let [sums0, sums1] = sums;
    let alike = (a.rows, a.row_length, a.row_stride) == (b.rows, b.row_length, b.row_stride);
    let whole = a.rows > 1 && a.row_length % 16 == 0 && filters.offset == 0 && sums0.len() % 4 == 0;
    let held = filters.hold(from, a.len(), sums0) && filters.hold(from, a.len(), sums1);
    if !(alike && whole && held) {
        accumulate(scratch, filters, a, from, sums0);
        return accumulate(scratch, filters, b, from, sums1);
    }
    let mut work = Rows::new(filters, a, from, sums0);
    let odd = a.row_length % 32 != 0;
    let (weights, start, blocks) = (work.weights, work.start, work.blocks);
    // SAFETY: as in `whole_rows`; there are sums, for `Filters` has weights, and they are a multiple of four.
    unsafe { work.run(odd) }
    let start = if from == 0 { start } else { sums1.as_ptr() };
    work = Rows { column: b.values.as_ptr(), weights, start, blocks, sums: sums1.as_mut_ptr(), ..work };
    // SAFETY: likewise.
    unsafe { work.run(odd) }
}

/// One row of any length; `Filters::hold` was asked.
fn one_row(filters: &Filters, column: Column, from: usize, sums: &mut [i32]) {
    let Filters { weights, stride, start, offset } = *filters;
    let length = column.row_length;
    let begun = if from == 0 { start.as_ptr() } else { sums.as_ptr() };
    let loaded = length.next_multiple_of(16);
    let step = if offset == 0 { 4 } else { 3 };
    let whole = sums.len() / step * step;
    let mut work = OneRow {
        sums: sums.as_mut_ptr(),
        column: column.values.as_ptr(),
        stride,
        // `from` is at most `stride`, and the weights are not empty.
        weights: weights.as_ptr().wrapping_add(from),
        start: begun,
        length,
        next: stride.wrapping_sub(loaded),
        loaded,
        end: sums.as_ptr().wrapping_add(whole),
        offset,
    };
    if whole > 0 {
        // SAFETY: `Filters::hold` and `Filters::new` say that `length` weights of every output lie from `from` on, and
        // that there is a start for every sum; `column` has `length` values, which is not 0.
        unsafe { if offset == 0 { four_filters(&work) } else { three_filters_with_offset(&work) } }
    }
    // The rest stands beside itself.
    for o in whole..sums.len() {
        let first = if from == 0 { start.get(o) } else { sums.get(o) };
        let mut beside = [first.copied().unwrap_or(0); 4];
        work.weights = weights.as_ptr().wrapping_add(o * stride + from);
        work.stride = 0;
        (work.start, work.sums) = (beside.as_ptr(), beside.as_mut_ptr());
        work.end = beside.as_ptr().wrapping_add(step);
        // SAFETY: as above; all filters are the one of output `o`, and there are four sums.
        unsafe { if offset == 0 { four_filters(&work) } else { three_filters_with_offset(&work) } }
        if let Some(sum) = sums.get_mut(o) {
            *sum = beside[0];
        }
    }
}

/// Several rows of whole vectors, without an offset; `Filters::hold` was asked.
fn whole_rows(filters: &Filters, column: Column, from: usize, sums: &mut [i32]) {
    let Filters { weights, stride, start, .. } = *filters;
    let whole = sums.len() / 4 * 4;
    let odd = column.row_length % 32 != 0;
    let mut work = Rows::new(filters, column, from, sums);
    if whole > 0 {
        // SAFETY: as in `one_row`; `Column` holds its rows, of which there is one at least.
        unsafe { work.run(odd) }
    }
    for o in whole..sums.len() {
        let first = if from == 0 { start.get(o) } else { sums.get(o) };
        let mut beside = [first.copied().unwrap_or(0); 4];
        work.weights = weights.as_ptr().wrapping_add(o * stride + from);
        (work.stride, work.blocks) = (0, 1);
        (work.start, work.sums) = (beside.as_ptr(), beside.as_mut_ptr());
        // SAFETY: as in `one_row`.
        unsafe { work.run(odd) }
        if let Some(sum) = sums.get_mut(o) {
            *sum = beside[0];
        }
    }
}

/// What the assembly reads.
#[repr(C)]
struct OneRow {
    sums: *mut i32,
    column: *const i8,
    stride: usize,
    weights: *const i8,
    start: *const i32,
    length: usize,
    /// From where the last filter's loads ended to the next filter, wrapping.
    next: usize,
    /// `length` in whole vectors.
    loaded: usize,
    /// After the last sum; a whole number of blocks.
    end: *const i32,
    offset: i32,
}

/// # Safety
/// `length` values must lie at `column`; sums and starts up to `end`, at least four and a multiple of four; and for
/// each of them `length` weights, `stride` apart. `length` is not 0.
#[inline(never)]
unsafe fn four_filters(work: &OneRow) {
    // r0 sums, r1 values, r2 stride, r3 r5 r7 r9 weights, r4 r6 r8 r10 sums, r11 start, r12 length.
    // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
    unsafe {
        asm!(
            "push {{r4-r11}}",
            "ldrd r4, r5, [r0, #24]",
            "ldr r6, [r0, #32]",
            "push {{r4-r6}}",
            "ldm r0, {{r0-r3, r11, r12}}",
            "2:",
            "add r5, r3, r2",
            "add r7, r5, r2",
            "add r9, r7, r2",
            "ldrd r4, r6, [r11], #8",
            "ldrd r8, r10, [r11], #8",
            "dlstp.8 lr, r12",
            "4:",
            "vldrb.8 q0, [r1], #16",
            "vldrb.8 q1, [r3], #16",
            "vmladava.s8 r4, q0, q1",
            "vldrb.8 q2, [r5], #16",
            "vmladava.s8 r6, q0, q2",
            "vldrb.8 q3, [r7], #16",
            "vmladava.s8 r8, q0, q3",
            "vldrb.8 q1, [r9], #16",
            "vmladava.s8 r10, q0, q1",
            "letp lr, 4b",
            "strd r4, r6, [r0], #8",
            "strd r8, r10, [r0], #8",
            "ldm sp, {{r4, r6, r8}}",
            "add r3, r9, r4",
            "sub r1, r6",
            "cmp r0, r8",
            "bne 2b",
            "add sp, #12",
            "pop {{r4-r11}}",
            inout("r0") work as *const OneRow => _,
            out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("lr") _,
            out("q0") _, out("q1") _, out("q2") _, out("q3") _,
        )
    }
}

/// What the assembly reads and updates.
#[repr(C)]
struct Rows {
    column: *const i8,
    stride: usize,
    weights: *const i8,
    start: *const i32,
    rows: usize,
    /// Pairs of vectors in a row.
    pairs: usize,
    /// From one row's end to the next one's start.
    row_step: usize,
    sums: *mut i32,
    blocks: usize,
}

impl Rows {
    #[inline]
    fn new(filters: &Filters, column: Column, from: usize, sums: &mut [i32]) -> Self {
        Self {
            column: column.values.as_ptr(),
            stride: filters.stride,
            // `from` is at most `stride`, and the weights are not empty.
            weights: filters.weights.as_ptr().wrapping_add(from),
            start: if from == 0 { filters.start.as_ptr() } else { sums.as_ptr() },
            rows: column.rows,
            pairs: column.row_length / 32,
            row_step: column.row_stride.wrapping_sub(column.row_length),
            sums: sums.as_mut_ptr(),
            blocks: sums.len() / 4,
        }
    }

    /// # Safety
    /// See [`four_filters_of_even_rows`]; rows have one more vector if `odd`.
    #[inline]
    unsafe fn run(&mut self, odd: bool) {
        // SAFETY: the caller's promise.
        unsafe { if odd { four_filters_of_odd_rows(self) } else { four_filters_of_even_rows(self) } }
    }
}

/// Two vectors a turn, and a last one where their number is odd.
macro_rules! filters_of_rows_in_assembly {
    ($(#[$documentation:meta])* $name:ident, $last:literal) => {
        $(#[$documentation])*
        ///
        /// # Safety
        /// `rows` rows of `pairs` pairs of vectors must lie at `column`; `4 * blocks` sums and starts; and for each of
        /// them as many weights, `stride` apart. `rows` and `blocks` are not 0.
        #[inline(never)]
        unsafe fn $name(work: &mut Rows) {
            // r1 values, r3 r5 r7 r9 weights, r4 r6 r8 r10 sums, r2 pairs, r11 row step, r12 rows left.
            // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
            unsafe {
                asm!(
                    ".macro flatmin_vector",
                    "vldrb.8 q0, [r1], #16",
                    "vldrb.8 q1, [r3], #16",
                    "vmladava.s8 r4, q0, q1",
                    "vldrb.8 q2, [r5], #16",
                    "vmladava.s8 r6, q0, q2",
                    "vldrb.8 q3, [r7], #16",
                    "vmladava.s8 r8, q0, q3",
                    "vldrb.8 q1, [r9], #16",
                    "vmladava.s8 r10, q0, q1",
                    ".endm",
                    "push {{r4-r11}}",
                    "2:",
                    "ldm r0, {{r1, r2, r3, r11, r12}}",
                    "ldrd r4, r6, [r11], #8",
                    "ldrd r8, r10, [r11], #8",
                    "add r5, r3, r2",
                    "add r7, r5, r2",
                    "add r9, r7, r2",
                    "add r2, r9, r2",
                    "strd r2, r11, [r0, #8]",
                    "ldrd r2, r11, [r0, #20]",
                    "3:",
                    "wls lr, r2, 5f",
                    "4:",
                    "flatmin_vector",
                    "flatmin_vector",
                    "le lr, 4b",
                    "5:",
                    $last,
                    "add r1, r11",
                    "subs r12, #1",
                    "bne 3b",
                    "ldrd r11, r12, [r0, #28]",
                    "strd r4, r6, [r11], #8",
                    "strd r8, r10, [r11], #8",
                    "subs r12, #1",
                    "strd r11, r12, [r0, #28]",
                    "bne 2b",
                    "pop {{r4-r11}}",
                    ".purgem flatmin_vector",
                    inout("r0") work as *mut Rows => _,
                    out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("lr") _,
                    out("q0") _, out("q1") _, out("q2") _, out("q3") _,
                )
            }
        }
    };
}

filters_of_rows_in_assembly!(
    /// An even number of vectors a row.
    four_filters_of_even_rows,
    ""
);

filters_of_rows_in_assembly!(
    /// An odd number of vectors a row.
    four_filters_of_odd_rows,
    "flatmin_vector"
);

/// `sum x w + offset * sum w` for three filters at a time.
///
/// # Safety
/// As for [`four_filters`], with three in place of four.
#[inline(never)]
unsafe fn three_filters_with_offset(work: &OneRow) {
    // r0 sums, r1 values, r3 r5 r7 weights, r4 r6 r8 sums of products, r2 r10 r12 sums of weights, r11 start, r9 spare.
    // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
    unsafe {
        asm!(
            "push {{r0, r4-r11}}",
            "ldm r0, {{r0-r3, r11}}",
            "2:",
            "add r5, r3, r2",
            "add r7, r5, r2",
            "ldrd r4, r6, [r11], #8",
            "ldr r8, [r11], #4",
            "ldr r9, [sp]",
            "ldr r9, [r9, #20]",
            "mov r2, #0",
            "mov r10, #0",
            "mov r12, #0",
            "dlstp.8 lr, r9",
            "4:",
            "vldrb.8 q0, [r1], #16",
            "vldrb.8 q1, [r3], #16",
            "vmladava.s8 r4, q0, q1",
            "vaddva.s8 r2, q1",
            "vldrb.8 q2, [r5], #16",
            "vmladava.s8 r6, q0, q2",
            "vaddva.s8 r10, q2",
            "vldrb.8 q3, [r7], #16",
            "vmladava.s8 r8, q0, q3",
            "vaddva.s8 r12, q3",
            "letp lr, 4b",
            "ldr lr, [sp]",
            "ldr r9, [lr, #36]",
            "mla r4, r2, r9, r4",
            "mla r6, r10, r9, r6",
            "mla r8, r12, r9, r8",
            "strd r4, r6, [r0], #8",
            "str r8, [r0], #4",
            "ldr r2, [lr, #8]",
            "ldrd r4, r6, [lr, #24]",
            "ldr r8, [lr, #32]",
            "add r3, r7, r4",
            "sub r1, r6",
            "cmp r0, r8",
            "bne 2b",
            "pop {{r0, r4-r11}}",
            inout("r0") work as *const OneRow => _,
            out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("lr") _,
            out("q0") _, out("q1") _, out("q2") _, out("q3") _,
        )
    }
}

/// Copies as many values as both have.
#[inline]
pub fn copy(from: &[i8], to: &mut [i8]) {
    let length = from.len().min(to.len());
    // SAFETY: both have `length` values, and a shared and a unique borrow do not overlap. No vector is loaded if
    // `length` is 0.
    unsafe {
        asm!(
            "wlstp.8 lr, {length}, 3f",
            "2:",
            "vldrb.8 q0, [{from}], #16",
            "vstrb.8 q0, [{to}], #16",
            "letp lr, 2b",
            "3:",
            from = inout(reg) from.as_ptr() => _, to = inout(reg) to.as_mut_ptr() => _, length = in(reg) length,
            out("lr") _, out("q0") _, options(nostack),
        )
    }
}

/// Fills `values`.
#[inline]
pub fn fill(value: i8, values: &mut [i8]) {
    // SAFETY: nothing is stored after `values`; nothing at all if it is empty.
    unsafe {
        asm!(
            "vdup.8 q0, {value}",
            "wlstp.8 lr, {length}, 3f",
            "2:",
            "vstrb.8 q0, [{to}], #16",
            "letp lr, 2b",
            "3:",
            value = in(reg) i32::from(value), to = inout(reg) values.as_mut_ptr() => _,
            length = in(reg) values.len(), out("lr") _, out("q0") _, options(nostack),
        )
    }
}
