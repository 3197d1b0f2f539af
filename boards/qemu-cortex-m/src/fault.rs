//! Panics and faults end the emulator at once, with a failure, rather than hang: panic-probe logs the panic and
//! raises a hard fault.

use cortex_m_rt::{ExceptionFrame, exception};
#[cfg(not(feature = "no-panic"))]
use panic_probe as _;

// SAFETY: it does not return.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    #[cfg(feature = "defmt")]
    defmt::error!("stopped at {=u32:#010x}", frame.pc());
    #[cfg(not(feature = "defmt"))]
    let _ = frame;
    end()
}

/// Ends the emulator with a failure.
pub fn end() -> ! {
    semihosting::process::exit(1)
}

/// There is no such function: where the compiler cannot show that no panic is reached, the linker reports it missing.
#[cfg(feature = "no-panic")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    unsafe extern "C" {
        fn a_panic_can_be_reached() -> !;
    }
    // SAFETY: never linked.
    unsafe { a_panic_can_be_reached() }
}
