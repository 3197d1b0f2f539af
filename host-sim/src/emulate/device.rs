//! An emulated device and the line to it.

use super::log::{Log, LogSink};
use super::{Board, Image};
use anyhow::{Context, Result, anyhow, bail};
use flatmin::wire::{self, Request, Response};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a device answers, without what is borrowed.
#[derive(Debug)]
pub enum Answer {
    /// The pack's CRC-32 and the arena's size.
    Identity {
        /// CRC-32 of the pack.
        pack_crc32: u32,
        /// Bytes of the arena.
        arena_bytes: u32,
    },
    /// Done, in so many ticks.
    Done(u64),
    /// A step of training.
    Stepped {
        /// Epoch, from 0.
        epoch: u16,
        /// Mean loss of the minibatch.
        loss: f32,
        /// Last of its epoch.
        epoch_finished: bool,
        /// Last of the run.
        finished: bool,
        /// Clock ticks.
        ticks: u64,
    },
    /// Classes of one sample.
    Judged {
        /// Factory tail.
        factory: u16,
        /// f32 tail.
        tuned_f32: u16,
        /// Tuned int8 tail.
        tuned_int8: Option<u16>,
        /// Cross-entropy of the f32 tail.
        loss: f32,
    },
    /// What has come out.
    Summary {
        /// CRC-32 of the f32 weights.
        weights_crc32: u32,
        /// Multiply-adds.
        macs: u64,
        /// Mean rise of a sample's loss.
        sharpness: f32,
        /// The stack's high-water mark.
        stack_bytes: u32,
    },
}

/// A running QEMU.
#[derive(Debug)]
pub struct Device {
    qemu: Child,
    line: BufReader<TcpStream>,
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
            (Ok(stream), Ok(log)) => Ok(Self { qemu, line: BufReader::new(stream), log }),
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
        let input_length = match request {
            Request::Observe { input, .. } | Request::Judge { input, .. } => input.len(),
            _ => 0,
        };
        let bytes = wire::request_bytes(input_length);
        let (mut scratch, mut frame) = (vec![0; bytes], vec![0; bytes]);
        let frame = wire::encode(request, &mut scratch, &mut frame)?;
        let mut incoming = Vec::new();
        let sent = self.line.get_mut().write_all(frame);
        match sent.and_then(|()| self.line.read_until(0, &mut incoming)) {
            Ok(1..) if incoming.ends_with(&[0]) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("the device has not answered within {} seconds", Self::PATIENCE.as_secs())
            }
            _ => return Err(self.last_words()),
        }
        Ok(match wire::decode::<Response>(&mut incoming).context("the device's answer")? {
            Response::Identity { pack_crc32, arena_bytes, .. } => {
                Answer::Identity { pack_crc32, arena_bytes }
            }
            Response::Done { ticks } => Answer::Done(ticks.into()),
            Response::Stepped { epoch, loss, epoch_finished, finished, ticks } => {
                Answer::Stepped { epoch, loss, epoch_finished, finished, ticks: ticks.into() }
            }
            Response::Judged { factory, tuned_f32, tuned_int8, loss } => {
                Answer::Judged { factory, tuned_f32, tuned_int8, loss }
            }
            Response::Summary { weights_crc32, macs, sharpness, stack_bytes } => {
                Answer::Summary { weights_crc32, macs, sharpness, stack_bytes }
            }
            Response::Refused(why) => bail!("the device refuses: {why}"),
            other => bail!("the device answers {other:?}, which this version does not know"),
        })
    }

    /// How long an answer may take.
    const PATIENCE: Duration = Duration::from_secs(60);

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
