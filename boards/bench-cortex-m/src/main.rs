//! The benchmark on a Cortex-M: clock is SysTick, the line to the desktop semihosting.

#![no_std]
#![no_main]

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{Peripherals, SYST};
use cortex_m_rt::{entry, exception};
use cortex_m_semihosting::{debug, hio};
use flatmin::{Aligned, Arena, Operators, Pack, Sizes};
use flatmin_bench::{Board, GridMemory, Source, run_grid};
use panic_semihosting as _;
use semihosting::{fs::File, io::Read};

static PACK: &[u8] = flatmin::include_pack!(concat!(env!("OUT_DIR"), "/model.pack"));
/// Tails for both tuners.
static TUNERS: &[u8] = flatmin::include_pack!(concat!(env!("OUT_DIR"), "/tuners.pack"));
static OPERATORS: Operators = if PACK.is_empty() || TRAINING { Operators::NONE } else { Operators::of(PACK) };
const MEMORY_BYTES: usize =
    if PACK.is_empty() || TRAINING { kernels_bytes() } else { Sizes::of(PACK).arena_bytes };
const _: () = assert!(MEMORY_BYTES <= ram_bytes(), "the model's activations do not fit into the board's RAM");

/// Training instead of inference.
const TRAINING: bool = option_env!("FLATMIN_TRAIN").is_some();
/// What of it.
const ONLY: &str = match option_env!("FLATMIN_ONLY") {
    Some(only) => only,
    None => "",
};
const FLOATS_LENGTH: usize = match (TRAINING, PACK.is_empty()) {
    (false, _) => 0,
    (true, true) => flatmin_bench::train::MEMORY,
    (true, false) => flatmin_bench::tails::TAILS_MEMORY,
};

const ARENA_BYTES: usize = if TUNERS.is_empty() { 0 } else { flatmin_bench::tuners::TUNERS_MEMORY };

/// What the board can spare, from the build script.
const fn ram_bytes() -> usize {
    match usize::from_str_radix(env!("FLATMIN_RAM_BYTES"), 10) {
        Ok(bytes) => bytes,
        Err(_) => panic!("FLATMIN_RAM_BYTES is a number"),
    }
}

/// One grid of single-operator models if the desktop hands one over: its memory is more than the smallest board has.
const GRIDS: usize = option_env!("FLATMIN_GRID").is_some() as usize;

/// The largest shape's input and output, or what there is.
const fn kernels_bytes() -> usize {
    if ram_bytes() < 16_000 { ram_bytes() } else { 16_000 }
}

static WRAPS: AtomicU32 = AtomicU32::new(0);
/// SysTick counts 24 bits down.
const SYSTICK_RELOAD: u32 = 0x00ff_ffff;

#[exception]
fn SysTick() {
    // Not a read-modify-write: a Cortex-M0 has none. Nothing else writes it.
    WRAPS.store(WRAPS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

struct CortexM {
    output: hio::HostStream,
}

impl CortexM {
    fn new(mut systick: SYST) -> Self {
        systick.set_clock_source(SystClkSource::Core);
        systick.set_reload(SYSTICK_RELOAD);
        systick.clear_current();
        systick.enable_interrupt();
        systick.enable_counter();
        Self { output: hio::hstdout().expect("semihosting has a standard output") }
    }
}

impl fmt::Write for CortexM {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.output.write_all(text.as_bytes()).map_err(|()| fmt::Error)
    }
}

impl Board for CortexM {
    // A function of its own: its calls are where the desktop finds a measurement's begin and end in a trace.
    #[inline(never)]
    fn ticks(&mut self) -> u64 {
        loop {
            let wraps = WRAPS.load(Ordering::Relaxed);
            let ticks = SYSTICK_RELOAD - SYST::get_current();
            if wraps == WRAPS.load(Ordering::Relaxed) {
                return u64::from(wraps) << 24 | u64::from(ticks);
            }
        }
    }
}

#[entry]
fn main() -> ! {
    static mut MEMORY: Aligned<[i8; MEMORY_BYTES]> = Aligned([0; MEMORY_BYTES]);
    static mut GRID: [GridMemory; GRIDS] = [const { GridMemory::new() }; GRIDS];
    static mut FLOATS: [f32; FLOATS_LENGTH] = [0.0; FLOATS_LENGTH];
    static mut ARENA: Arena<ARENA_BYTES> = Arena::new();
    let peripherals = Peripherals::take().expect("taken here alone");
    let mut board = CortexM::new(peripherals.SYST);
    let done = if TRAINING {
        flatmin_bench::train::run_training(&mut board, PACK, FLOATS, (TUNERS, ARENA.bytes()), ONLY)
    } else if PACK.is_empty() {
        flatmin_bench::run_kernels(&mut board, &mut MEMORY.0)
            .and_then(|()| cases(&mut board))
            .and_then(|()| GRID.iter_mut().try_for_each(|memory| grid(&mut board, memory)))
    } else {
        let pack = Pack::with_operators(PACK, &OPERATORS).expect("the desktop validated it");
        flatmin_bench::run_model(&mut board, &pack, &mut MEMORY.0)
    };
    debug::exit(if done.is_ok() { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}

fn cases(board: &mut CortexM) -> fmt::Result {
    if option_env!("FLATMIN_CASES").is_none() { Ok(()) } else { flatmin_bench::run_cases(board) }
}

/// A file on the desktop, in the folder where QEMU was started.
struct Handed(File);

impl Source for Handed {
    fn read(&mut self, bytes: &mut [u8]) -> fmt::Result {
        self.0.read_exact(bytes).map_err(|_| fmt::Error)
    }
}

fn grid(board: &mut CortexM, memory: &mut GridMemory) -> fmt::Result {
    let mut source = Handed(File::open(c"grid.bin").map_err(|_| fmt::Error)?);
    run_grid(board, &mut source, memory)
}
