//! The clock: the board's first timer.

use core::ptr::{read_volatile, write_volatile};

/// CMSDK timer 0, counting down at 25 MHz.
pub struct Timer;

impl Timer {
    const CONTROL: *mut u32 = 0x4000_0000 as *mut u32;
    const VALUE: *mut u32 = 0x4000_0004 as *mut u32;
    const RELOAD: *mut u32 = 0x4000_0008 as *mut u32;

    pub fn new() -> Self {
        // SAFETY: the timer's registers, mapped on this board, used here alone.
        unsafe {
            write_volatile(Self::RELOAD, u32::MAX);
            write_volatile(Self::VALUE, u32::MAX);
            write_volatile(Self::CONTROL, 1);
        }
        Self
    }

    /// Ticks of 40 ns so far, wrapping.
    pub fn ticks(&self) -> u32 {
        // SAFETY: reading the counter has no side effect.
        !unsafe { read_volatile(Self::VALUE) }
    }
}
