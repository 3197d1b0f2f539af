//! Four pixels by four filters: a filter a lane, so that every sum has one order.

use super::{reaches, unless_flushed};
use crate::cpu::block::ROWS;
use core::arch::asm;

/// What [`four_pixels`] has no registers for, at the offsets that its assembly names; steps in bytes.
#[repr(C)]
struct Frame {
    x: *const f32,
    input_bytes: usize,
    w: *const f32,
    pairs: usize,
    biases: *const f32,
    y: *mut f32,
    output_bytes: usize,
    blocks: usize,
}

/// A value of every filter, gathered, times one of every pixel.
macro_rules! sixteen_products {
    () => {
        concat!(
            "vldrw.u32 q4, [q7, #4]!\n",
            "ldr {a}, [{p}], #4\n",
            "ldr {b}, [{q}], #4\n",
            "ldr {c}, [{r}], #4\n",
            "ldr {d}, [{s}], #4\n",
            "vmul.f32 q5, q4, {a}\n",
            "vmul.f32 q6, q4, {b}\n",
            "vadd.f32 q0, q0, q5\n",
            "vmul.f32 q5, q4, {c}\n",
            "vadd.f32 q1, q1, q6\n",
            "vmul.f32 q4, q4, {d}\n",
            "vadd.f32 q2, q2, q5\n",
            "vadd.f32 q3, q3, q4\n",
        )
    };
}

/// `y[p * outputs + o] = sum_k x[p * inputs + k] * w[o * inputs + k] + biases[o]` for four pixels, k ascending, the
/// bias last, for as many filters as come in fours; returns how many: none unless inputs come in pairs. Values of none
/// may be overwritten.
#[inline(always)]
pub fn four_pixels(
    x: &[f32],
    w: &[f32],
    biases: &[f32],
    y: &mut [f32],
    [inputs, outputs]: [usize; 2],
) -> usize {
    let whole = inputs > 0
        && inputs.is_multiple_of(2)
        && reaches(x, inputs.saturating_mul(ROWS - 1), inputs)
        && reaches(y, outputs.saturating_mul(ROWS - 1), outputs);
    let blocks = biases.len().min(outputs) / ROWS;
    if !whole || blocks == 0 || !reaches(w, inputs.saturating_mul(blocks * ROWS), 0) {
        return 0;
    }
    let mut frame = Frame {
        x: x.as_ptr(),
        input_bytes: inputs.wrapping_mul(4),
        w: w.as_ptr().wrapping_sub(1),
        pairs: inputs / 2,
        biases: biases.as_ptr(),
        y: y.as_mut_ptr(),
        output_bytes: outputs.wrapping_mul(4),
        blocks,
    };
    let flags: u32;
    // SAFETY: x has four pixels of `2 * pairs` values, w `4 * blocks` filters of as many, biases `4 * blocks` values
    // and y four pixels of no fewer; neither count is 0. The frame is ours alone, and of 32-bit words. Addresses in q7
    // are raised before they are loaded from, and begin one value early.
    unsafe {
        mve!(
            "3:",
            "ldrd {p}, {k}, [{frame}]",
            "add {q}, {p}, {k}",
            "add {r}, {q}, {k}",
            "add {s}, {r}, {k}",
            "ldrd {a}, {m}, [{frame}, #8]",
            "add {b}, {a}, {k}",
            "add {c}, {b}, {k}",
            "add {d}, {c}, {k}",
            "add {k}, {d}, {k}",
            "str {k}, [{frame}, #8]",
            "vmov q7[2], q7[0], {a}, {c}",
            "vmov q7[3], q7[1], {b}, {d}",
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "vmov.i32 q2, #0",
            "vmov.i32 q3, #0",
            "dls lr, {m}",
            "2:",
            sixteen_products!(),
            sixteen_products!(),
            "le lr, 2b",
            "ldrd {a}, {b}, [{frame}, #16]",
            "ldrd {c}, {d}, [{frame}, #24]",
            "vldrw.32 q4, [{a}], #16",
            "vadd.f32 q0, q0, q4",
            "vadd.f32 q1, q1, q4",
            "vadd.f32 q2, q2, q4",
            "vadd.f32 q3, q3, q4",
            "add {p}, {b}, {c}",
            "vstrw.32 q0, [{b}], #16",
            "strd {a}, {b}, [{frame}, #16]",
            "vstrw.32 q1, [{p}]",
            "add {p}, {c}",
            "vstrw.32 q2, [{p}]",
            "add {p}, {c}",
            "vstrw.32 q3, [{p}]",
            "subs {d}, {d}, #1",
            "str {d}, [{frame}, #28]",
            "bne 3b",
            "vmrs {p}, fpscr",
            frame = in(reg) &raw mut frame,
            p = out(reg) flags,
            q = out(reg) _,
            r = out(reg) _,
            s = out(reg) _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            k = out(reg) _,
            m = out(reg) _,
        );
    }
    unless_flushed(flags, blocks * ROWS)
}
