//! A device at the end of a line: emulated, on a serial port, or behind a TCP socket.

mod adapt;
mod judged;
mod line;
mod run;
mod saved;
mod simulated;
mod tail;
mod trace;

pub use adapt::{Adapted, adapt};
pub use judged::anomalies;
pub use run::{Measured, Progress, train, tune};
pub use saved::{confusion, finish, pause, resume};
pub use tail::{backup, backup_delta, pull_tail, push_tail, restore, restore_delta};
pub use trace::{Checksum, diff};

use crate::firmware::{Image, LogSink, Machine, Options};
use crate::link::{Answer, Identity, LinkError, Session};
use anyhow::{Context, Result, anyhow, bail, ensure};
use flatmin::Recipe;
use flatmin::wire::Request;
use flatmin::wire::signed::Key;
use flatmin_model::packer::PackFile;
use flatmin_sim::tuning::Tail;
use line::Line;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A device that answers.
#[derive(Debug)]
pub struct Device {
    session: Session<Line>,
    machine: Option<Machine>,
    /// Raised by somebody who waits no longer.
    stop: Option<Arc<AtomicBool>>,
}

impl Device {
    /// How long an answer may take.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Starts `image` in QEMU, with a flash that forgets and a clock that counts instructions.
    ///
    /// # Errors
    /// QEMU missing or failing.
    pub fn start(image: &Image, sink: LogSink) -> Result<Self> {
        Self::emulated(image, Options { count_instructions: true, ..Options::default() }, sink)
    }

    /// Starts `image` in QEMU.
    ///
    /// # Errors
    /// Those of [`Machine::start`].
    pub fn emulated(image: &Image, options: Options, sink: LogSink) -> Result<Self> {
        let (machine, stream) = Machine::start(image, options, sink)?;
        Ok(Self {
            session: Session::new(Line::tcp(stream, Self::PATIENCE)?),
            machine: Some(machine),
            stop: None,
        })
    }

    /// Connects to a device behind a TCP socket, `host:port`.
    ///
    /// # Errors
    /// Nobody there.
    pub fn tcp(address: &str) -> Result<Self> {
        let context = || format!("cannot connect to {address}; is it host:port, and is anybody listening?");
        let mut found = Err(anyhow!("no such host"));
        for candidate in address.to_socket_addrs().with_context(context)? {
            found = TcpStream::connect_timeout(&candidate, Self::PATIENCE).map_err(Into::into);
            if found.is_ok() {
                break;
            }
        }
        let stream = found.with_context(context)?;
        Ok(Self { session: Session::new(Line::tcp(stream, Self::PATIENCE)?), machine: None, stop: None })
    }

    /// Opens a serial port, for instance `/dev/ttyACM0`.
    ///
    /// # Errors
    /// No such port, or one that cannot be opened.
    pub fn serial(port: &str, baud: u32) -> Result<Self> {
        let line = Line::serial(port, baud, Self::PATIENCE)?;
        Ok(Self { session: Session::new(line), machine: None, stop: None })
    }

    /// Starts a device in this process that holds `pack`, with the tuner asked for and an arena for `recipe`: the firmware's
    /// application and the desktop's arithmetic, which have the same bits as a board. Its flash forgets.
    ///
    /// # Errors
    /// What the tuner refuses of the pack or the recipe.
    pub fn simulated(kind: Tail, pack: &PackFile, recipe: &Recipe) -> Result<Self> {
        let pipe = simulated::start(kind, pack, recipe, Self::PATIENCE)?;
        Ok(Self { session: Session::new(Line::over(pipe)), machine: None, stop: None })
    }

    /// Signs what the device takes from the holder of its key alone.
    pub fn with_key(self, key: Key) -> Self {
        Self { session: self.session.with_key(key), ..self }
    }

    /// Asks nothing more once the flag is raised: for whoever waits in another thread.
    pub fn stopped_by(self, flag: Arc<AtomicBool>) -> Self {
        Self { stop: Some(flag), ..self }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// What the device refuses; a firmware that has stopped, with its last words.
    pub fn ask(&mut self, request: &Request) -> Result<Answer> {
        let stopped = self.stop.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
        ensure!(!stopped, "stopped between two requests");
        match self.session.ask(request) {
            Err(LinkError::Ended(_)) => Err(self.last_words()),
            outcome => Ok(outcome?),
        }
    }

    /// Who it is.
    ///
    /// # Errors
    /// Those of [`Self::ask`].
    pub fn identify(&mut self) -> Result<Identity> {
        match self.ask(&Request::Identify)? {
            Answer::Identity(identity) => Ok(identity),
            other => bail!("the device answers {other:?} instead of who it is"),
        }
    }

    /// The emulator behind it, none with another device: to be stopped by somebody else while this waits for an answer.
    pub fn take_machine(&mut self) -> Option<Machine> {
        self.machine.take()
    }

    /// Why the line has ended: what the firmware logged at level error.
    fn last_words(&mut self) -> anyhow::Error {
        let Some(machine) = &mut self.machine else { return anyhow!("the line to the device has ended") };
        let errors = machine.stop();
        if errors.is_empty() {
            return anyhow!("the emulator has stopped without a word");
        }
        anyhow!("the firmware has stopped: {}", errors.join("; "))
    }
}
