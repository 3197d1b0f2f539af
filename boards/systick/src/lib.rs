//! The clock of Cortex-M boards: SysTick, its 24 bits carried on by an interrupt.

#![no_std]
#![deny(missing_docs)]

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_rt::exception;
use flatmin_app::Clock;

static WRAPS: AtomicU32 = AtomicU32::new(0);
const RELOAD: u32 = 0x00ff_ffff;

#[exception]
fn SysTick() {
    WRAPS.store(WRAPS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// SysTick at the processor's clock.
pub struct SysTick {
    hertz: u32,
}

impl SysTick {
    /// Starts it; the processor runs at `hertz`.
    pub fn new(mut timer: SYST, hertz: u32) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(RELOAD);
        timer.clear_current();
        timer.enable_interrupt();
        timer.enable_counter();
        Self { hertz }
    }
}

impl Clock for SysTick {
    fn ticks(&mut self) -> u32 {
        loop {
            let wraps = WRAPS.load(Ordering::Relaxed);
            let ticks = RELOAD.wrapping_sub(SYST::get_current());
            if wraps == WRAPS.load(Ordering::Relaxed) {
                return wraps << 24 | ticks;
            }
        }
    }

    fn hertz(&self) -> u32 {
        self.hertz
    }
}
