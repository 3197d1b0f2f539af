//! Armv6-M's eight registers that most instructions reach: pointers and factors lie in them, sums in the others, which
//! ADD reaches, too. Bytes are loaded with sign from a pointer past the end and one negative index for all.
#![allow(unsafe_code)]

use crate::cpu::int8::Taps;
use core::arch::asm;

/// What the assembly of products reads and updates, at the offsets that it names.
#[repr(C)]
struct Work {
    /// Ends of the values: of two columns and two rows, or of one column and four rows.
    ends: [*const i8; 5],
    /// Minus the length.
    index: usize,
    offset: i32,
    sums: [i32; 4],
}

/// `sums[p][r] += sum_k (x[p][k] + offset) * w[r][k]` for two columns and two rows without an offset, and for one column
/// and four rows; returns how many values k it did: all or none.
#[inline(always)]
pub fn add_products<const P: usize, const N: usize>(
    sums: &mut [[i32; N]; P],
    x: [&[i8]; P],
    w: [&[i8]; N],
    length: usize,
    offset: i32,
) -> usize {
    let square = P == 2 && N == 2 && offset == 0;
    let row = P == 1 && N == 4;
    if !(square || row) || length == 0 || x.iter().chain(&w).any(|values| values.len() < length) {
        return 0;
    }
    let mut work = Work { ends: [core::ptr::null(); 5], index: length.wrapping_neg(), offset, sums: [0; 4] };
    for (end, values) in work.ends.iter_mut().zip(x.iter().chain(&w)) {
        *end = values.as_ptr().wrapping_add(length);
    }
    for (to, &sum) in work.sums.iter_mut().zip(sums.as_flattened()) {
        *to = sum;
    }
    // SAFETY: `length` values, not 0, end at each of the pointers: four for the square, five for the row.
    unsafe { if square { two_by_two(&mut work) } else { one_by_four(&mut work) } }
    for (sum, &from) in sums.as_flattened_mut().iter_mut().zip(&work.sums) {
        *sum = from;
    }
    length
}

/// Registers 4 to 11 to the stack.
macro_rules! save {
    () => {
        "push {{r4-r7}}
         mov r4, r8
         mov r5, r9
         mov r6, r10
         mov r7, r11
         push {{r4-r7}}"
    };
}

/// Registers 4 to 11 back.
macro_rules! restore {
    () => {
        "pop {{r4-r7}}
         mov r8, r4
         mov r9, r5
         mov r10, r6
         mov r11, r7
         pop {{r4-r7}}"
    };
}

/// Four sums at r0 to registers 8 to 11, and back.
macro_rules! load_sums {
    ($first:literal, $second:literal, $third:literal, $fourth:literal) => {
        concat!(
            "ldr r4, [r0, #",
            $first,
            "]\nmov r8, r4\n",
            "ldr r4, [r0, #",
            $second,
            "]\nmov r9, r4\n",
            "ldr r4, [r0, #",
            $third,
            "]\nmov r10, r4\n",
            "ldr r4, [r0, #",
            $fourth,
            "]\nmov r11, r4\n",
        )
    };
}
macro_rules! store_sums {
    ($first:literal, $second:literal, $third:literal, $fourth:literal) => {
        concat!(
            "mov r4, r8\nstr r4, [r0, #",
            $first,
            "]\n",
            "mov r4, r9\nstr r4, [r0, #",
            $second,
            "]\n",
            "mov r4, r10\nstr r4, [r0, #",
            $third,
            "]\n",
            "mov r4, r11\nstr r4, [r0, #",
            $fourth,
            "]\n",
        )
    };
}

/// # Safety
/// `index` values, negated and not 0, end at each of the first four pointers.
#[inline(never)]
unsafe fn two_by_two(work: &mut Work) {
    // r0 r1 columns, r2 r3 rows, r4 index, r5 r6 r7 factors and products, r8 to r11 sums.
    // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
    unsafe {
        asm!(
            save!(),
            "push {{r0}}",
            load_sums!(28, 32, 36, 40),
            "ldr r1, [r0, #4]",
            "ldr r2, [r0, #8]",
            "ldr r3, [r0, #12]",
            "ldr r4, [r0, #20]",
            "ldr r0, [r0]",
            "2:",
            "ldrsb r5, [r0, r4]",
            "ldrsb r6, [r2, r4]",
            "movs r7, r6",
            "muls r7, r5, r7",
            "add r8, r7",
            "ldrsb r7, [r3, r4]",
            "muls r5, r7, r5",
            "add r9, r5",
            "ldrsb r5, [r1, r4]",
            "muls r6, r5, r6",
            "add r10, r6",
            "muls r7, r5, r7",
            "add r11, r7",
            "adds r4, #1",
            "bne 2b",
            "pop {{r0}}",
            store_sums!(28, 32, 36, 40),
            restore!(),
            inout("r0") work as *mut Work => _,
            out("r1") _, out("r2") _, out("r3") _,
        )
    }
}

/// # Safety
/// `index` values, negated and not 0, end at each of the five pointers.
#[inline(never)]
unsafe fn one_by_four(work: &mut Work) {
    // r0 column, r1 to r4 rows, r5 index, r6 value, r7 weight and product, r8 to r11 sums, r12 offset.
    // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
    unsafe {
        asm!(
            save!(),
            "push {{r0}}",
            load_sums!(28, 32, 36, 40),
            "ldr r1, [r0, #24]",
            "mov r12, r1",
            "ldr r1, [r0, #4]",
            "ldr r2, [r0, #8]",
            "ldr r3, [r0, #12]",
            "ldr r4, [r0, #16]",
            "ldr r5, [r0, #20]",
            "ldr r0, [r0]",
            "2:",
            "ldrsb r6, [r0, r5]",
            "add r6, r12",
            "ldrsb r7, [r1, r5]",
            "muls r7, r6, r7",
            "add r8, r7",
            "ldrsb r7, [r2, r5]",
            "muls r7, r6, r7",
            "add r9, r7",
            "ldrsb r7, [r3, r5]",
            "muls r7, r6, r7",
            "add r10, r7",
            "ldrsb r7, [r4, r5]",
            "muls r7, r6, r7",
            "add r11, r7",
            "adds r5, #1",
            "bne 2b",
            "pop {{r0}}",
            store_sums!(28, 32, 36, 40),
            restore!(),
            inout("r0") work as *mut Work => _,
            out("r1") _, out("r2") _, out("r3") _, out("r12") _,
        )
    }
}

/// What the assembly of taps reads and updates, at the offsets that it names.
#[repr(C)]
struct TapsWork {
    input: *const i8,
    weights: *const i8,
    column_stride: [usize; 2],
    columns: usize,
    rows: usize,
    /// From past a row's last tap to the next row's first.
    row_step: [usize; 2],
    offset: i32,
    sums: [i32; 4],
}

/// `sums[c] += sum over taps (input[tap, c] + offset) * weights[tap, c]` for four channels; returns how many it did: all or
/// none.
#[inline(always)]
pub fn add_taps<const N: usize>(taps: Taps, offset: i32, sums: &mut [i32; N]) -> usize {
    if N != 4 || taps.rows == 0 || taps.columns == 0 || !taps.hold(N) {
        return 0;
    }
    let step =
        |axis: usize| taps.row_stride[axis].wrapping_sub(taps.columns.wrapping_mul(taps.column_stride[axis]));
    let mut work = TapsWork {
        input: taps.input.as_ptr(),
        weights: taps.weights.as_ptr(),
        column_stride: taps.column_stride,
        columns: taps.columns,
        rows: taps.rows,
        row_step: [step(0), step(1)],
        offset,
        sums: [0; 4],
    };
    for (to, &sum) in work.sums.iter_mut().zip(sums.iter()) {
        *to = sum;
    }
    // SAFETY: `Taps::hold` says that every tap has four values in input and weights; there is one at least.
    unsafe { four_channels(&mut work) }
    for (sum, &from) in sums.iter_mut().zip(&work.sums) {
        *sum = from;
    }
    N
}

/// # Safety
/// From `input` and `weights` on every tap must have four values; `rows` and `columns` are not 0.
#[inline(never)]
unsafe fn four_channels(work: &mut TapsWork) {
    // r0 input, r1 weights, r2 channel, r3 r4 column strides, r5 value, r6 weight and product, r7 taps left, r8 to r11
    // sums, r12 offset.
    // SAFETY: the caller's promise. Registers that are not named as outputs, and the stack, are restored.
    unsafe {
        asm!(
            save!(),
            "push {{r0}}",
            load_sums!(36, 40, 44, 48),
            "ldr r1, [r0, #32]",
            "mov r12, r1",
            "ldr r7, [r0, #16]",
            "ldr r3, [r0, #8]",
            "ldr r4, [r0, #12]",
            "ldr r1, [r0, #4]",
            "ldr r0, [r0]",
            "2:",
            "movs r2, #0",
            "ldrsb r5, [r0, r2]",
            "ldrsb r6, [r1, r2]",
            "add r5, r12",
            "muls r6, r5, r6",
            "add r8, r6",
            "movs r2, #1",
            "ldrsb r5, [r0, r2]",
            "ldrsb r6, [r1, r2]",
            "add r5, r12",
            "muls r6, r5, r6",
            "add r9, r6",
            "movs r2, #2",
            "ldrsb r5, [r0, r2]",
            "ldrsb r6, [r1, r2]",
            "add r5, r12",
            "muls r6, r5, r6",
            "add r10, r6",
            "movs r2, #3",
            "ldrsb r5, [r0, r2]",
            "ldrsb r6, [r1, r2]",
            "add r5, r12",
            "muls r6, r5, r6",
            "add r11, r6",
            "adds r0, r0, r3",
            "adds r1, r1, r4",
            "subs r7, #1",
            "bne 2b",
            "ldr r5, [sp]",
            "ldr r6, [r5, #24]",
            "adds r0, r0, r6",
            "ldr r6, [r5, #28]",
            "adds r1, r1, r6",
            "ldr r7, [r5, #16]",
            "ldr r6, [r5, #20]",
            "subs r6, #1",
            "str r6, [r5, #20]",
            "bne 2b",
            "pop {{r0}}",
            store_sums!(36, 40, 44, 48),
            restore!(),
            inout("r0") work as *mut TapsWork => _,
            out("r1") _, out("r2") _, out("r3") _, out("r12") _,
        )
    }
}
