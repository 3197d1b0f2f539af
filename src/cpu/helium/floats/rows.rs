//! Rows of weights, four at a time: what shares the values that are loaded.

use super::{reaches, unless_flushed};
use crate::cpu::block::{Lanes, ROWS};
use core::arch::asm;
use core::ptr::null_mut;

/// `sums[r][i mod LANES] += rows[r][i] * x[i]` over the shortest length; returns how many values: all or none.
#[inline(always)]
pub fn dots(sums: &mut Lanes, rows: [&[f32]; ROWS], x: &[f32]) -> usize {
    let count = rows.iter().fold(x.len(), |least, row| least.min(row.len()));
    let [a, b, c, d] = rows.map(<[f32]>::as_ptr);
    let flags: u32;
    // SAFETY: every row and x have `count` values, and the loop takes no more, none if it is 0; there are 16 sums.
    unsafe {
        mve!(
            "vldrw.32 q0, [{sums}]",
            "vldrw.32 q1, [{sums}, #16]",
            "vldrw.32 q2, [{sums}, #32]",
            "vldrw.32 q3, [{sums}, #48]",
            dots_loop!(),
            unless_flushed!("flags", "4f"),
            "vstrw.32 q0, [{sums}]",
            "vstrw.32 q1, [{sums}, #16]",
            "vstrw.32 q2, [{sums}, #32]",
            "vstrw.32 q3, [{sums}, #48]",
            "4:",
            sums = in(reg) sums.as_mut_ptr(),
            count = in(reg) count,
            flags = out(reg) flags,
            x = inout(reg) x.as_ptr() => _,
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            c = inout(reg) c => _,
            d = inout(reg) d => _,
        );
    }
    unless_flushed(flags, count)
}

/// The same from nothing, and the lanes' sums by [`crate::cpu::lanes::sum_of`]'s tree; returns how many results there
/// are: all or none.
#[inline(always)]
pub fn dots_of(results: &mut [f32; ROWS], rows: [&[f32]; ROWS], x: &[f32]) -> usize {
    let count = x.len();
    if rows.iter().any(|row| row.len() < count) {
        return 0;
    }
    let [a, b, c, d] = rows.map(<[f32]>::as_ptr);
    let flags: u32;
    // SAFETY: every row and x have `count` values, and the loop takes no more, none if it is 0; there are four results.
    unsafe {
        mve!(
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "vmov.i32 q2, #0",
            "vmov.i32 q3, #0",
            dots_loop!(),
            "vmrs {flags}, fpscr",
            lane_sums!(),
            "vstrw.32 q0, [{results}]",
            results = in(reg) results.as_mut_ptr(),
            count = in(reg) count,
            flags = out(reg) flags,
            x = inout(reg) x.as_ptr() => _,
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            c = inout(reg) c => _,
            d = inout(reg) d => _,
        );
    }
    unless_flushed(flags, ROWS)
}

/// `z[o] = sum_i w[o * inputs + i] * x[i] + biases[o]`, the sum as [`dots_of`] takes it, for as many outputs as come in
/// fours; returns how many: all of them or none, whose values may be overwritten.
#[inline(always)]
pub fn forward(w: &[f32], biases: &[f32], x: &[f32], z: &mut [f32]) -> usize {
    let fours = z.len().min(biases.len()) / ROWS;
    if fours == 0 || !reaches(w, 0, x.len().saturating_mul(fours * ROWS)) {
        return 0;
    }
    let flags: u32;
    // SAFETY: w has `4 * fours` rows of as many values as x, which the loop takes; biases and z have `4 * fours` values,
    // and `fours` is not 0.
    unsafe {
        mve!(
            "5:",
            "mov {x}, {first}",
            "mov {a}, {next}",
            "add {b}, {a}, {count}, lsl #2",
            "add {c}, {b}, {count}, lsl #2",
            "add {d}, {c}, {count}, lsl #2",
            "add {next}, {d}, {count}, lsl #2",
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "vmov.i32 q2, #0",
            "vmov.i32 q3, #0",
            dots_loop!(),
            lane_sums!(),
            "vldrw.32 q1, [{biases}], #16",
            "vadd.f32 q0, q0, q1",
            "vstrw.32 q0, [{z}], #16",
            "subs {fours}, {fours}, #1",
            "bne 5b",
            "vmrs {x}, fpscr",
            first = in(reg) x.as_ptr(),
            count = in(reg) x.len(),
            x = out(reg) flags,
            next = inout(reg) w.as_ptr() => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            biases = inout(reg) biases.as_ptr() => _,
            z = inout(reg) z.as_mut_ptr() => _,
            fours = inout(reg) fours => _,
        );
    }
    unless_flushed(flags, fours * ROWS)
}

/// `sums[i] += sum_o factors[o] * rows[o * stride + i]`, o ascending; `from_zero`, `sums[i] = ` that. Returns how many
/// sums: all or none.
#[inline(always)]
pub fn combine(sums: &mut [f32; 16], factors: &[f32], rows: &[f32], stride: usize, from_zero: bool) -> usize {
    static ZEROS: [f32; 16] = [0.0; 16];
    let past_first = rows.len().checked_sub(16);
    let count = past_first.map_or(0, |past| factors.len().min(past / stride.max(1) + 1));
    let start = if from_zero { ZEROS.as_ptr() } else { sums.as_ptr() };
    let flags: u32;
    // SAFETY: `count` factors are there, and 16 values from every multiple of `stride` below `count * stride`. The last
    // step beyond `rows` is not read from.
    unsafe {
        mve!(
            "vldrw.32 q0, [{start}]",
            "vldrw.32 q1, [{start}, #16]",
            "vldrw.32 q2, [{start}, #32]",
            "vldrw.32 q3, [{start}, #48]",
            "lsr {start}, {count}, #2",
            "wls lr, {start}, 3f",
            "2:",
            "ldm {factors}!, {{r2-r5}}",
            combine_row!("r2"),
            combine_row!("r3"),
            combine_row!("r4"),
            combine_row!("r5"),
            "le lr, 2b",
            "3:",
            "and {start}, {count}, #3",
            "wls lr, {start}, 5f",
            "4:",
            "ldr r2, [{factors}], #4",
            combine_row!("r2"),
            "le lr, 4b",
            "5:",
            unless_flushed!("start", "6f"),
            "vstrw.32 q0, [{sums}]",
            "vstrw.32 q1, [{sums}, #16]",
            "vstrw.32 q2, [{sums}, #32]",
            "vstrw.32 q3, [{sums}, #48]",
            "6:",
            start = inout(reg) start => flags,
            sums = in(reg) sums.as_mut_ptr(),
            factors = inout(reg) factors.as_ptr() => _,
            rows = inout(reg) rows.as_ptr() => _,
            step = in(reg) stride.wrapping_mul(4),
            count = in(reg) count,
            out("r2") _, out("r3") _, out("r4") _, out("r5") _,
        );
    }
    unless_flushed(flags, sums.len())
}

/// `rows[r][i] += factors[r] * x[i]` over the shortest length; returns how many values.
#[inline(always)]
pub fn add_to_rows(rows: &mut [&mut [f32]; ROWS], factors: &[f32; ROWS], x: &[f32]) -> usize {
    let count = rows.iter().fold(x.len(), |least, row| least.min(row.len()));
    let whole = x.get(..count).unwrap_or(&[]);
    // SAFETY: every row has at least as many values as `whole`, and they are borrowed apart.
    unsafe { add_to_four(rows.each_mut().map(|row| row.as_mut_ptr()), factors, whole) }
}

/// `rows[r][i] += factors[r] * x[i]`; returns how many values.
///
/// # Safety
/// Every row has as many values as x, which are not those of x or of another row.
#[inline(always)]
unsafe fn add_to_four([a, b, c, d]: [*mut f32; ROWS], factors: &[f32; ROWS], x: &[f32]) -> usize {
    let left: usize;
    // SAFETY: the caller's; there are four factors.
    unsafe {
        mve!(
            "ldm {factors}, {{r2-r5}}",
            "wlstp.32 lr, {count}, 3f",
            "2:",
            "vldrw.32 q4, [{x}], #16",
            "vldrw.32 q0, [{a}]",
            "vmul.f32 q5, q4, r2",
            "vldrw.32 q1, [{b}]",
            "vmul.f32 q6, q4, r3",
            "vadd.f32 q0, q0, q5",
            "vldrw.32 q2, [{c}]",
            "vmul.f32 q7, q4, r4",
            "vadd.f32 q1, q1, q6",
            "vldrw.32 q3, [{d}]",
            "vmul.f32 q4, q4, r5",
            "vadd.f32 q2, q2, q7",
            "vadd.f32 q3, q3, q4",
            unless_flushed!("count", "4f"),
            "vstrw.32 q0, [{a}], #16",
            "vstrw.32 q1, [{b}], #16",
            "vstrw.32 q2, [{c}], #16",
            "vstrw.32 q3, [{d}], #16",
            "letp lr, 2b",
            "3:",
            "mov {count}, #0",
            "b 5f",
            "4:",
            "mov {count}, lr",
            "lctp",
            "5:",
            factors = inout(reg) factors.as_ptr() => _,
            count = inout(reg) x.len() => left,
            x = inout(reg) x.as_ptr() => _,
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            c = inout(reg) c => _,
            d = inout(reg) d => _,
            out("r2") _, out("r3") _, out("r4") _, out("r5") _,
        );
    }
    if left > 0 {
        super::take_back();
    }
    x.len() - left
}

/// `d[o * inputs + i] += scale * delta[o] * x[i]`, the factor first, in the rows where delta is not 0; returns how
/// many rows: all, or none unless all of them are there.
#[inline(always)]
pub fn add_rank_one(d: &mut [f32], scale: f32, delta: &[f32], x: &[f32]) -> usize {
    let inputs = x.len();
    if !reaches(d, 0, inputs.saturating_mul(delta.len())) {
        return 0;
    }
    // Four rows share every value of x that is loaded; where there are fewer, the last ones are left out.
    let (mut rows, mut factors, mut held) = ([null_mut(); ROWS], [0.0; ROWS], 0);
    for (row, &delta) in delta.iter().enumerate() {
        // ReLU leaves many exact zeros.
        if delta == 0.0 {
            continue;
        }
        if let (Some(place), Some(factor)) = (rows.get_mut(held), factors.get_mut(held)) {
            // SAFETY: the row's values lie within d.
            *place = unsafe { d.as_mut_ptr().add(row * inputs) };
            *factor = scale * delta;
            held += 1;
        }
        if held == ROWS {
            // SAFETY: the four rows are different ones of d and have as many values as x.
            let done = unsafe { add_to_four(rows, &factors, x) };
            if done < inputs {
                // SAFETY: likewise.
                unsafe { finish_rows(rows, &factors, x, done) };
            }
            held = 0;
        }
    }
    for (row, factor) in rows.into_iter().zip(factors).take(held) {
        // SAFETY: each row is one of d's, of `inputs` values; none of the others is borrowed.
        crate::cpu::lanes::add_scaled(unsafe { core::slice::from_raw_parts_mut(row, inputs) }, factor, x);
    }
    delta.len()
}

/// What [`add_to_four`] left.
///
/// # Safety
/// As for [`add_to_four`].
#[cold]
#[inline(never)]
unsafe fn finish_rows(rows: [*mut f32; ROWS], factors: &[f32; ROWS], x: &[f32], done: usize) {
    for (row, &factor) in rows.into_iter().zip(factors) {
        // SAFETY: the caller's; one row is borrowed at a time.
        let row = unsafe { core::slice::from_raw_parts_mut(row, x.len()) };
        for (d, &x) in row.iter_mut().zip(x).skip(done) {
            *d = crate::cpu::scalar(*d + crate::cpu::scalar(factor * x));
        }
    }
}

/// `v[r][i] = momentum * v[r][i] + factors[r] * x[i]`, then `w[r][i] += rate * v[r][i]`, over the shortest length;
/// returns how many values: all or none.
#[inline(always)]
pub fn descend_along(
    v: &mut [&mut [f32]; ROWS],
    w: &mut [&mut [f32]; ROWS],
    factors: &[f32; ROWS],
    x: &[f32],
    momentum: f32,
    rate: f32,
) -> usize {
    for ((v, w), &factor) in v.iter_mut().zip(w).zip(factors) {
        crate::cpu::block::descend_row(v, w, factor, x, momentum, rate);
    }
    x.len()
}
