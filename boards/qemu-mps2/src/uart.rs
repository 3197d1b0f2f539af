//! The link: the board's first UART.

use core::ptr::{read_volatile, write_volatile};
use embedded_io::{ErrorType, Read, Write};

/// CMSDK UART 0 of the MPS2 (Arm DDI 0479, section 4.3).
pub struct Uart;

impl Uart {
    const DATA: *mut u32 = 0x4000_4000 as *mut u32;
    const STATE: *const u32 = 0x4000_4004 as *const u32;
    const CONTROL: *mut u32 = 0x4000_4008 as *mut u32;
    const DIVIDER: *mut u32 = 0x4000_4010 as *mut u32;

    pub fn new() -> Self {
        // SAFETY: the UART's registers, mapped on this board, used here alone.
        unsafe {
            write_volatile(Self::DIVIDER, 16);
            write_volatile(Self::CONTROL, 3);
        }
        Self
    }

    fn state() -> u32 {
        // SAFETY: reading the state register has no side effect.
        unsafe { read_volatile(Self::STATE) }
    }
}

impl ErrorType for Uart {
    type Error = core::convert::Infallible;
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let Some(first) = buffer.first_mut() else { return Ok(0) };
        while Self::state() & 2 == 0 {}
        // SAFETY: a byte is there; reading takes it.
        *first = unsafe { read_volatile(Self::DATA) } as u8;
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        let Some(&first) = bytes.first() else { return Ok(0) };
        while Self::state() & 1 != 0 {}
        // SAFETY: the transmitter is free.
        unsafe { write_volatile(Self::DATA, first.into()) };
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
