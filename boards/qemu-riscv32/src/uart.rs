//! The link: the machine's 16550 UART.

use core::convert::Infallible;
use core::ptr::{read_volatile, write_volatile};
use embedded_io::{ErrorType, Read, ReadReady, Write};

pub struct Uart;

const DATA: *mut u8 = 0x1000_0000 as *mut u8;
const LINE_STATUS: *const u8 = 0x1000_0005 as *const u8;
const RECEIVED: u8 = 1;
const TRANSMITTER_FREE: u8 = 1 << 5;

fn status() -> u8 {
    // SAFETY: the UART's register, mapped on this machine; of what reading clears, nothing is used.
    unsafe { read_volatile(LINE_STATUS) }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(status() & RECEIVED != 0)
    }
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let Some(first) = buffer.first_mut() else { return Ok(0) };
        while status() & RECEIVED == 0 {}
        // SAFETY: a byte is there; reading takes it.
        *first = unsafe { read_volatile(DATA) };
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let Some(&first) = bytes.first() else { return Ok(0) };
        while status() & TRANSMITTER_FREE == 0 {}
        // SAFETY: the transmitter is free.
        unsafe { write_volatile(DATA, first) };
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
