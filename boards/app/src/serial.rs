//! The link of a UART whose driver never waits.

use embedded_hal_nb::nb;
use embedded_hal_nb::serial;
use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write};

/// A HAL's UART as link, byte by byte.
///
/// A byte that came too late or with noise is left out: its frame is damaged, and the desktop sends it again.
#[derive(Debug)]
pub struct Serial<U> {
    uart: U,
    /// The byte that was there when the link was asked.
    next: Option<u8>,
}

impl<U> Serial<U> {
    /// A link over `uart`.
    pub fn new(uart: U) -> Self {
        Self { uart, next: None }
    }

    /// The UART.
    pub fn uart(&self) -> &U {
        &self.uart
    }
}

impl<U> ErrorType for Serial<U> {
    type Error = ErrorKind;
}

impl<U: serial::Read> ReadReady for Serial<U> {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        if self.next.is_none() {
            self.next = self.uart.read().ok();
        }
        Ok(self.next.is_some())
    }
}

impl<U: serial::Read> Read for Serial<U> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        let Some(first) = bytes.first_mut() else { return Ok(0) };
        loop {
            if self.read_ready()?
                && let Some(byte) = self.next.take()
            {
                *first = byte;
                return Ok(1);
            }
        }
    }
}

impl<U: serial::Write> Write for Serial<U> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let Some(&first) = bytes.first() else { return Ok(0) };
        nb::block!(self.uart.write(first)).map_err(|_| ErrorKind::Other)?;
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        nb::block!(self.uart.flush()).map_err(|_| ErrorKind::Other)
    }
}
