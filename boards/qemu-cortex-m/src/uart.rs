//! The link: a CMSDK UART (Arm DDI 0479, section 4.3).

use core::convert::Infallible;
use core::ptr::{read_volatile, write_volatile};
use embedded_io::{ErrorType, Read, ReadReady, Write};

/// Registers of the UART, one word each: data, state, control, interrupts, divider.
pub struct Uart(*mut u32);

impl Uart {
    /// The UART whose registers are at `address`.
    pub fn new(address: usize) -> Self {
        let registers = address as *mut u32;
        // SAFETY: the UART's registers, mapped on this board, used here alone.
        unsafe {
            write_volatile(registers.wrapping_add(4), 16);
            write_volatile(registers.wrapping_add(2), 3);
        }
        Self(registers)
    }

    fn state(&self) -> u32 {
        // SAFETY: reading the state register has no side effect.
        unsafe { read_volatile(self.0.wrapping_add(1)) }
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.state() & 2 != 0)
    }
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let Some(first) = buffer.first_mut() else { return Ok(0) };
        while self.state() & 2 == 0 {}
        // SAFETY: a byte is there; reading takes it.
        *first = unsafe { read_volatile(self.0) } as u8;
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let Some(&first) = bytes.first() else { return Ok(0) };
        while self.state() & 1 != 0 {}
        // SAFETY: the transmitter is free.
        unsafe { write_volatile(self.0, first.into()) };
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
