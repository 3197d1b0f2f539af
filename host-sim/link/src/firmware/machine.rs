//! A running QEMU and the line to it.

use super::board::Board;
use super::image::Image;
use super::log::{Log, LogSink};
use anyhow::{Context, Result, bail, ensure};
use std::fs::OpenOptions;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a machine is started with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// A file with the contents of the board's flash; it is created, erased, where there is none. Without one the
    /// flash forgets.
    pub flash: Option<&'a Path>,
    /// Let time pass by instructions alone, so that the board's clock counts them: several times slower.
    pub count_instructions: bool,
}

/// A running QEMU; it ends with this.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    log: Option<Log>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Machine {
    /// Starts `image`; returns the machine's serial line, too.
    ///
    /// # Errors
    /// QEMU missing or failing, a file that is not as long as the board's flash.
    pub fn start(image: &Image, options: Options, sink: LogSink) -> Result<(Self, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let &[emulator, machine, ref others @ ..] = image.board.qemu else {
            bail!("a board names its emulator")
        };
        let mut command = Command::new(emulator);
        command
            .args(["-M", machine, "-display", "none", "-monitor", "none"])
            .args(others)
            // The log has standard output to itself; the line is a socket.
            .args(["-chardev", "stdio,id=log,signal=off"])
            .args(["-semihosting-config", "enable=on,target=native,chardev=log"])
            .args(["-serial", "null"].repeat(image.board.other_ports))
            .args(["-serial", &format!("tcp:127.0.0.1:{port},nodelay=on")]);
        if options.count_instructions {
            command.args(["-icount", &format!("shift={}", Board::ICOUNT_SHIFT)]);
        }
        if let Some(path) = options.flash {
            erased_unless_there(path, image.board.flash_bytes)?;
            // QEMU reads two commas as one.
            let path = path.display().to_string().replace(',', ",,");
            command.args(["-drive", &format!("if=pflash,unit=1,format=raw,file={path}")]);
        }
        let mut qemu = command
            .arg("-kernel")
            .arg(&image.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {emulator}: install QEMU 9.2 or newer"))?;
        let stream = connection(&listener, &mut qemu);
        let log = qemu.stdout.take().map(|stdout| Log::follow(&image.bytes, stdout, sink)).transpose();
        match (stream, log) {
            (Ok(stream), Ok(log)) => Ok((Self { qemu, log }, stream)),
            (stream, log) => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                stream?;
                log?;
                bail!("QEMU did not start")
            }
        }
    }

    /// Ends it at once, as a power cut would. Returns what the firmware logged at level error.
    pub fn stop(&mut self) -> Vec<String> {
        // A process that is gone already is fine.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        self.log.take().map(Log::errors).unwrap_or_default()
    }
}

fn erased_unless_there(path: &Path, bytes: u64) -> Result<()> {
    let context = || path.display().to_string();
    ensure!(bytes > 0, "this board has no flash that a file could stand for");
    if !path.exists() {
        std::fs::write(path, vec![0xFF; usize::try_from(bytes)?]).with_context(context)?;
    }
    let found = OpenOptions::new().read(true).write(true).open(path).with_context(context)?.metadata()?.len();
    ensure!(found == bytes, "{} has {found} bytes, the board's flash {bytes}", context());
    Ok(())
}

/// The line that QEMU opens.
fn connection(listener: &TcpListener, qemu: &mut Child) -> Result<TcpStream> {
    for _ in 0..1_000 {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            return Ok(stream);
        }
        if let Some(status) = qemu.try_wait()? {
            bail!("QEMU has ended before it opened its serial line: {status}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("QEMU did not open its serial line within 10 seconds")
}
