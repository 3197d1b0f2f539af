//! An emulated device and the line to it.

use super::log::{Log, LogSink};
use super::{Board, Image};
use crate::link::{Answer, LinkError, Session};
use anyhow::{Context, Result, anyhow, bail};
use flatmin::wire::Request;
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The emulated serial line; reads are buffered.
#[derive(Debug)]
struct Line(BufReader<TcpStream>);

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

/// A running QEMU.
#[derive(Debug)]
pub struct Device {
    qemu: Child,
    link: Session<Line>,
    log: Option<Log>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Device {
    /// Starts `image`.
    ///
    /// # Errors
    /// QEMU missing or failing.
    pub fn start(image: &Image, sink: LogSink) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let mut qemu = Command::new("qemu-system-arm")
            .args(["-M", image.board.machine, "-display", "none", "-monitor", "none"])
            .args(["-icount", &format!("shift={}", Board::ICOUNT_SHIFT)])
            // The log has standard output to itself; the line is a socket.
            .args(["-chardev", "stdio,id=log,signal=off"])
            .args(["-semihosting-config", "enable=on,target=native,chardev=log"])
            .args(["-serial", &format!("tcp:127.0.0.1:{port}")])
            .arg("-kernel")
            .arg(&image.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-arm: install QEMU 9.2 or newer")?;
        let stream = connection(&listener, &mut qemu);
        let log = qemu.stdout.take().map(|stdout| Log::follow(&image.bytes, stdout, sink)).transpose();
        match (stream, log) {
            (Ok(stream), Ok(log)) => {
                let link = Session::new(Line(BufReader::new(stream)));
                Ok(Self { qemu, link, log })
            }
            (stream, log) => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                stream?;
                log?;
                bail!("QEMU did not start")
            }
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// What the device refuses; a firmware that has stopped, with its last words.
    pub fn ask(&mut self, request: &Request) -> Result<Answer> {
        match self.link.ask(request) {
            Err(LinkError::Ended(_)) => Err(self.last_words()),
            outcome => Ok(outcome?),
        }
    }

    /// How long an answer may take.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Why the line has ended: what the firmware logged at level error.
    fn last_words(&mut self) -> anyhow::Error {
        let errors = self.stop();
        if errors.is_empty() {
            return anyhow!("the emulator has stopped without a word");
        }
        anyhow!("the firmware has stopped: {}", errors.join("; "))
    }

    fn stop(&mut self) -> Vec<String> {
        // It has nothing to save; a process that is gone already is fine.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        self.log.take().map(Log::errors).unwrap_or_default()
    }
}

/// The line that QEMU opens.
fn connection(listener: &TcpListener, qemu: &mut Child) -> Result<TcpStream> {
    for _ in 0..200 {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Device::PATIENCE))?;
            return Ok(stream);
        }
        if let Some(status) = qemu.try_wait()? {
            bail!("QEMU has ended before it opened its serial line: {status}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("QEMU did not open its serial line within 10 seconds")
}
