//! Sums over pixels with the DSP extension.

use crate::cpu::int8::Pixels;
use core::arch::asm;

/// Pixels whose sums hold in 16 bits: 256 times -128 does.
const MOST: usize = 256;

/// `sums[c] += sum over pixels of pixels[.., c]`, wrapping, for as many channels as come in fours; returns how many.
pub fn add_pixels(pixels: Pixels, sums: &mut [i32]) -> usize {
    let (blocks, _) = sums.as_chunks_mut::<4>();
    let channels = 4 * blocks.len();
    let Pixels { values, lines, pixels: width, steps } = pixels;
    let last = lines.saturating_sub(1) * steps[0] + width.saturating_sub(1) * steps[1];
    if channels == 0 || lines == 0 || width == 0 || last + channels > values.len() {
        return 0;
    }
    for (block, sums) in blocks.iter_mut().enumerate() {
        for line in 0..lines {
            for from in (0..width).step_by(MOST) {
                let first = values.as_ptr().wrapping_add(line * steps[0] + from * steps[1] + 4 * block);
                // SAFETY: the last pixel of the last line has `channels` values, so that every one before has; there
                // is one pixel at least.
                let [even, odd] = unsafe { four_channels(first, steps[1], MOST.min(width - from)) };
                let halves = |word: u32| [i32::from(word as i16), i32::from((word >> 16) as i16)];
                let ([a, c], [b, d]) = (halves(even), halves(odd));
                for (sum, added) in sums.iter_mut().zip([a, b, c, d]) {
                    *sum = sum.wrapping_add(added);
                }
            }
        }
    }
    channels
}

/// Sums of channels 0 and 2, and of 1 and 3, of so many pixels, in the halves of a word.
///
/// # Safety
/// There is one pixel at least, at most [`MOST`], and each, `step` after the one before it, has four values.
#[inline(always)]
unsafe fn four_channels(first: *const i8, step: usize, pixels: usize) -> [u32; 2] {
    let (mut even, mut odd) = (0, 0);
    // SAFETY: the caller's promise; only the registers that are named are written.
    unsafe {
        asm!(
            "2:",
            "ldr {word}, [{place}]",
            "add {place}, {step}",
            "sxtab16 {even}, {even}, {word}",
            "sxtab16 {odd}, {odd}, {word}, ror #8",
            "subs {left}, #1",
            "bne 2b",
            word = out(reg) _,
            place = inout(reg) first => _,
            step = in(reg) step,
            left = inout(reg) pixels => _,
            even = inout(reg) even,
            odd = inout(reg) odd,
            options(readonly, nostack),
        );
    }
    [even, odd]
}
