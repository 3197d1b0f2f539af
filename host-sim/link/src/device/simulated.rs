//! A device in this process: the firmware's application on a thread of its own, over a flash that forgets. There is no chip, and
//! all else is as on a board: the messages, the tuner, the store, the bits.

use anyhow::{Context, Result, anyhow};
use embedded_io::ErrorType;
use flatmin::flash::Flash;
use flatmin::store::Store;
use flatmin::{Arithmetic, CompactTuner, IntegerTuner, Recipe, Tuner};
use flatmin_app::{Buffers, Clock, Hardware, link_bytes, serve};
use flatmin_model::packer::PackFile;
use flatmin_sim::tuning::Tail;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

type Nor = Flash<4, 4096>;

/// The tuner's frames and the link's; a kernel's scratch lies in the arena.
const STACK_BYTES: usize = 1 << 20;

/// Ticks of microseconds.
struct Microseconds(Instant);

impl Clock for Microseconds {
    fn ticks(&mut self) -> u32 {
        // It wraps, as clocks of boards do.
        self.0.elapsed().as_micros() as u32
    }

    fn hertz(&self) -> u32 {
        1_000_000
    }
}

/// The desktop's end of the line.
pub(super) struct Pipe {
    to_device: Sender<Vec<u8>>,
    from_device: Receiver<Vec<u8>>,
    here: VecDeque<u8>,
    patience: Duration,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let ended = |_| io::Error::from(ErrorKind::BrokenPipe);
        self.to_device.send(bytes.to_vec()).map_err(ended)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.here.is_empty() {
            match self.from_device.recv_timeout(self.patience) {
                Ok(more) => self.here.extend(more),
                Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::TimedOut.into()),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        self.here.read(bytes)
    }
}

/// The device's end.
struct Uart {
    incoming: Receiver<Vec<u8>>,
    outgoing: Sender<Vec<u8>>,
    here: VecDeque<u8>,
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl embedded_io::ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        // A read waits: nothing else is done here meanwhile.
        Ok(true)
    }
}

impl embedded_io::Read for Uart {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        while self.here.is_empty() {
            match self.incoming.recv() {
                Ok(more) => self.here.extend(more),
                Err(_) => return Ok(0),
            }
        }
        Ok(self.here.read(bytes).unwrap_or(0))
    }
}

impl embedded_io::Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        // Where nobody listens any more, the next read ends.
        let _ = self.outgoing.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Starts a device that holds `pack`, with an arena for `recipe`.
///
/// # Errors
/// What the tuner refuses of the pack.
pub(super) fn start(kind: Tail, pack: &PackFile, recipe: &Recipe, patience: Duration) -> Result<Pipe> {
    let (to_device, incoming) = channel();
    let (outgoing, from_device) = channel();
    let (made, ready) = channel();
    let (pack, recipe) = (pack.clone(), *recipe);
    let uart = Uart { incoming, outgoing, here: VecDeque::new() };
    let live = move || {
        let mut words = kind.arena(&pack, &recipe);
        let arena = bytemuck::cast_slice_mut(&mut words);
        let outcome = match kind {
            Tail::Full => Tuner::new(pack.pack(), recipe, arena).map(|tuner| live(tuner, uart, &made)),
            Tail::Compact => {
                CompactTuner::in_arena(pack.pack(), recipe, arena).map(|tuner| live(tuner, uart, &made))
            }
            Tail::Integer => {
                IntegerTuner::in_arena(pack.pack(), recipe, arena).map(|tuner| live(tuner, uart, &made))
            }
        };
        if let Err(error) = outcome {
            let _ = made.send(Err(error.into()));
        }
    };
    let thread = thread::Builder::new().name("simulated device".into()).stack_size(STACK_BYTES);
    thread.spawn(live).context("no thread for a simulated device")?;
    ready.recv().map_err(|_| anyhow!("the simulated device has failed"))??;
    Ok(Pipe { to_device, from_device, here: VecDeque::new(), patience })
}

/// Answers until the desktop's end is gone.
fn live<'p, A: Arithmetic<'p>>(mut tuner: Tuner<'p, A>, mut uart: Uart, made: &Sender<Result<()>>) {
    let sizes = tuner.pack().sizes();
    let store = Store::new(0, sizes.slot_bytes::<Nor>(A::CONTENTS), 2);
    let flash = Nor::new(store.end() as usize / 4096);
    let mut board = Hardware::new("simulated", Microseconds(Instant::now())).with_store(store, flash);
    let mut memory = vec![0; link_bytes(&sizes)];
    let mut solving = vec![0; sizes.solve_bytes(tuner.recipe()).max(sizes.integer_solve_bytes()) / 4];
    let Some(buffers) = Buffers::new(&sizes, &mut memory) else { return };
    let _ = made.send(Ok(()));
    let Ok(()) = serve(&mut tuner, &mut uart, &mut board, buffers.with_solver(&mut solving));
}
