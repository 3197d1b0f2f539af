//! The stack's high-water mark: cortex-m-rt paints all RAM behind the statics before `main` (its feature
//! `paint-stack`); what is no longer painted has been used.

use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    /// End of the statics: the lowest word that the stack may take (cortex-m-rt's linker script).
    static _stack_end: u32;
    /// Where the stack starts, growing downwards.
    static _stack_start: u32;
}

/// The largest stack since reset, in bytes: interrupts and start-up code included.
pub fn high_water_bytes() -> u32 {
    let (lowest, start) = (&raw const _stack_end, &raw const _stack_start);
    let mut word = lowest;
    // SAFETY: every word from `lowest` up to `start` is RAM that start-up code has painted, and aligned; the
    // read is volatile because the stack lives there.
    while word < start && unsafe { word.read_volatile() } == STACK_PAINT_VALUE {
        word = word.wrapping_add(1);
    }
    (start.addr() - word.addr()) as u32
}
