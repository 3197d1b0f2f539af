//! Serial ports and sockets, their reads buffered.

use anyhow::{Context, Result};
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A line to a device, whose reads time out.
pub struct Line(BufReader<Box<dyn Stream>>);

impl Line {
    pub fn over(stream: impl Read + Write + Send + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    pub fn tcp(stream: TcpStream, patience: Duration) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    pub fn serial(port: &str, baud: u32, patience: Duration) -> Result<Self> {
        let opened = serialport::new(port, baud).timeout(patience).dtr_on_open(true).open();
        let stream = opened.with_context(|| {
            format!(
                "cannot open {port}; does it exist, are you in its group (dialout), does nobody else use it?"
            )
        })?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}
