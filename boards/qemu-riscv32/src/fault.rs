//! Panics and faults end the emulator at once, with a failure, rather than hang.

use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    #[cfg(feature = "defmt")]
    defmt::error!("{}", defmt::Display2Format(info));
    #[cfg(not(feature = "defmt"))]
    let _ = info;
    end()
}

// SAFETY: riscv-rt's name for this handler, defined nowhere else.
#[unsafe(no_mangle)]
extern "C" fn ExceptionHandler(_: &riscv_rt::TrapFrame) -> ! {
    #[cfg(feature = "defmt")]
    defmt::error!("stopped at {=usize:#010x}", riscv::register::mepc::read());
    end()
}

/// Ends the emulator with a failure.
pub fn end() -> ! {
    semihosting::process::exit(1)
}
