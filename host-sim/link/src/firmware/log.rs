//! The firmware's log: defmt frames that QEMU's semihosting writes to its standard output, decoded line by line.

use anyhow::Result;
use defmt_decoder::{DecodeError, Frame, Table};
use std::fmt;
use std::io::Read;
use std::process::ChildStdout;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Where log lines go, one call a line, from any thread.
#[derive(Clone)]
pub struct LogSink(Arc<dyn Fn(&str) + Send + Sync>);

impl LogSink {
    /// Lines go to `write`.
    pub fn new(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSink")
    }
}

/// A thread that reads one device's log.
#[derive(Debug)]
pub(super) struct Log(JoinHandle<Vec<String>>);

impl Log {
    /// Follows `stream` until it ends; `executable` holds the lines' formats.
    ///
    /// # Errors
    /// An executable whose defmt is of another version.
    pub fn follow(executable: &[u8], stream: ChildStdout, sink: LogSink) -> Result<Self> {
        let table = Table::parse(executable)?;
        Ok(Self(std::thread::spawn(move || match table {
            Some(table) => read(&table, stream, &sink),
            None => Vec::new(), // a firmware without defmt says nothing
        })))
    }

    /// Waits for the stream's end; returns the lines of level error.
    pub fn errors(self) -> Vec<String> {
        self.0.join().unwrap_or_default()
    }
}

fn read(table: &Table, mut stream: impl Read, sink: &LogSink) -> Vec<String> {
    let mut decoder = table.new_stream_decoder();
    let mut errors = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        decoder.received(&bytes[..count]);
        loop {
            match decoder.decode() {
                Ok(frame) => {
                    let text = line(&frame);
                    (sink.0)(&text);
                    if frame.level().is_some_and(|level| level.as_str() == "error") {
                        errors.push(frame.display_message().to_string());
                    }
                }
                Err(DecodeError::UnexpectedEof) => break,
                // The next frame is whole again.
                Err(DecodeError::Malformed) if table.encoding().can_recover() => {}
                Err(DecodeError::Malformed) => return errors,
            }
        }
    }
    errors
}

fn line(frame: &Frame) -> String {
    let level = frame.level().map_or("", |level| level.as_str());
    format!("{level:5} {}", frame.display_message())
}
