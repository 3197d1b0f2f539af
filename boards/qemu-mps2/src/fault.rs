//! Panics and faults end the emulator at once, with a failure, rather than hang: panic-probe logs the panic and
//! raises a hard fault.

use cortex_m_rt::{ExceptionFrame, exception};
use panic_probe as _;

// SAFETY: it does not return.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    #[cfg(feature = "defmt")]
    defmt::error!("stopped at {=u32:#010x}", frame.pc());
    #[cfg(not(feature = "defmt"))]
    let _ = frame;
    semihosting::process::exit(1)
}

/// Logs why the firmware cannot go on, and ends the emulator with a failure.
#[cfg(feature = "defmt")]
pub fn stop(error: impl defmt::Format) -> ! {
    defmt::error!("cannot go on: {}", error);
    semihosting::process::exit(1)
}

/// Ends the emulator with a failure.
#[cfg(not(feature = "defmt"))]
pub fn stop<E>(_: E) -> ! {
    semihosting::process::exit(1)
}
