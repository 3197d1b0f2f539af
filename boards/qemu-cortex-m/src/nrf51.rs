//! The link: an nRF51's UART (nRF51 Series Reference Manual, chapter 29).

use core::convert::Infallible;
use core::ptr::{read_volatile, write_volatile};
use embedded_io::{ErrorType, Read, ReadReady, Write};

/// Offsets of registers, in bytes.
mod register {
    pub const START_RECEIVER: usize = 0x000;
    pub const START_TRANSMITTER: usize = 0x008;
    pub const RECEIVED: usize = 0x108;
    pub const TRANSMITTED: usize = 0x11C;
    pub const ENABLE: usize = 0x500;
    pub const TRANSMIT_PIN: usize = 0x50C;
    pub const RECEIVE_PIN: usize = 0x514;
    pub const RECEIVE: usize = 0x518;
    pub const TRANSMIT: usize = 0x51C;
    pub const BAUD_RATE: usize = 0x524;
}

/// 115,200 baud.
const BAUD_RATE: u32 = 0x01D7_E000;

/// The UART.
pub struct Uart(usize);

impl Uart {
    /// The UART whose registers are at `address`, on the pins of the micro:bit's USB serial port.
    pub fn new(address: usize) -> Self {
        let uart = Self(address);
        uart.write_register(register::TRANSMIT_PIN, 24);
        uart.write_register(register::RECEIVE_PIN, 25);
        uart.write_register(register::BAUD_RATE, BAUD_RATE);
        uart.write_register(register::ENABLE, 4);
        uart.write_register(register::START_RECEIVER, 1);
        uart.write_register(register::START_TRANSMITTER, 1);
        uart
    }

    fn write_register(&self, offset: usize, value: u32) {
        // SAFETY: the UART's registers, mapped on this board, used here alone.
        unsafe { write_volatile((self.0 + offset) as *mut u32, value) }
    }

    fn read_register(&self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { read_volatile((self.0 + offset) as *const u32) }
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.read_register(register::RECEIVED) != 0)
    }
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let Some(first) = buffer.first_mut() else { return Ok(0) };
        while self.read_register(register::RECEIVED) == 0 {}
        // Cleared before the byte is taken: the next one may come at once.
        self.write_register(register::RECEIVED, 0);
        *first = self.read_register(register::RECEIVE) as u8;
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let Some(&first) = bytes.first() else { return Ok(0) };
        self.write_register(register::TRANSMITTED, 0);
        self.write_register(register::TRANSMIT, first.into());
        while self.read_register(register::TRANSMITTED) == 0 {}
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
