//! The link: UARTE0, which the debugger makes a USB serial port of.

use embassy_futures::block_on;
use embassy_nrf::buffered_uarte::{BufferedUarte, Error};
use embedded_io::{ErrorType, Read, ReadReady, Write};

/// The HAL's UART, waited for.
pub struct Link(pub BufferedUarte<'static>);

impl ErrorType for Link {
    type Error = Error;
}

impl ReadReady for Link {
    fn read_ready(&mut self) -> Result<bool, Error> {
        embedded_io_async::ReadReady::read_ready(&mut self.0)
    }
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        loop {
            // Bytes that came too fast are a damaged frame: the desktop sends it again.
            if let Ok(count) = block_on(self.0.read(bytes)) {
                return Ok(count);
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        block_on(self.0.write(bytes))
    }

    fn flush(&mut self) -> Result<(), Error> {
        block_on(self.0.flush())
    }
}
