//! The stack's high-water mark: all RAM between the statics and the stack is painted at start; what is no longer painted
//! has been used.

/// What untouched words hold: that of cortex-m-rt's feature `paint-stack`.
const PAINT: u32 = 0xcccc_cccc;

// The lowest word that the stack may take, and where it starts, growing downwards, as the linker scripts of the two
// start-up crates call them.
unsafe extern "C" {
    #[cfg_attr(target_arch = "arm", link_name = "_stack_end")]
    #[cfg_attr(target_arch = "riscv32", link_name = "__estack")]
    static LOWEST: u32;
    #[link_name = "_stack_start"]
    static START: u32;
}

/// The largest stack since reset, in bytes: interrupts and start-up code included. Needs the paint: cortex-m-rt's
/// feature `paint-stack`, or [`paint`].
pub fn high_water_bytes() -> u32 {
    let (lowest, start) = (&raw const LOWEST, &raw const START);
    let mut word = lowest;
    // SAFETY: every word from `lowest` up to `start` is RAM, and aligned; the read is volatile because the stack
    // lives there.
    while word < start && unsafe { word.read_volatile() } == PAINT {
        word = word.wrapping_add(1);
    }
    (start.addr().wrapping_sub(word.addr())) as u32
}

/// Paints what lies below the caller's stack, for start-up code that does not.
#[inline(never)]
pub fn paint() {
    /// What a frame of this function and of an interrupt may take.
    const MARGIN_WORDS: usize = 256;
    let mark = PAINT;
    let end = (&raw const mark).wrapping_sub(MARGIN_WORDS);
    let mut word = (&raw const LOWEST).cast_mut();
    while word.cast_const() < end {
        // SAFETY: RAM between the statics and the stack, which nothing uses.
        unsafe { word.write_volatile(PAINT) };
        word = word.wrapping_add(1);
    }
}
