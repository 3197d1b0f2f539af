//! The benchmark on QEMU's `virt` machine: the clock counts instructions, the line to the desktop is the UART.

#![no_std]
#![no_main]

use core::fmt;
use core::panic::PanicInfo;
use core::ptr::write_volatile;
use flatmin::{Aligned, Arena, Operators, Pack, Sizes};
use flatmin_bench::{Board, GridMemory, Source, run_grid};
use riscv_rt::entry;
use semihosting::{fs::File, io::Read};
use static_cell::StaticCell;

static PACK: &[u8] = flatmin::include_pack!(concat!(env!("OUT_DIR"), "/model.pack"));
/// Tails for both tuners.
static TUNERS: &[u8] = flatmin::include_pack!(concat!(env!("OUT_DIR"), "/tuners.pack"));
static OPERATORS: Operators = if PACK.is_empty() { Operators::NONE } else { Operators::of(PACK) };
const MEMORY_BYTES: usize = if PACK.is_empty() { 16_000 } else { Sizes::of(PACK).arena_bytes };

/// Training instead of inference.
const TRAINING: bool = option_env!("FLATMIN_TRAIN").is_some();
/// What of it.
const ONLY: &str = match option_env!("FLATMIN_ONLY") {
    Some(only) => only,
    None => "",
};
const FLOATS_LENGTH: usize = if TRAINING { flatmin_bench::train::MEMORY } else { 0 };

const ARENA_BYTES: usize = if TUNERS.is_empty() { 0 } else { flatmin_bench::tuners::TUNERS_MEMORY };

static FLOATS: StaticCell<[f32; FLOATS_LENGTH]> = StaticCell::new();
static ARENA: StaticCell<Arena<ARENA_BYTES>> = StaticCell::new();
static MEMORY: StaticCell<Aligned<[i8; MEMORY_BYTES]>> = StaticCell::new();

struct Virt;

impl fmt::Write for Virt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the transmit register of the machine's 16550 UART; QEMU's is always ready.
            unsafe { write_volatile(0x1000_0000 as *mut u8, byte) };
        }
        Ok(())
    }
}

impl Board for Virt {
    fn ticks(&mut self) -> u64 {
        riscv::register::minstret::read64()
    }
}

/// Ends QEMU through the machine's test device: 0x5555 is success, 0x3333 failure.
fn exit(code: u32) -> ! {
    // SAFETY: the test device's register; the write ends the machine.
    unsafe { write_volatile(0x10_0000 as *mut u32, code) };
    loop {
        riscv::asm::wfi();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let _ = fmt::write(&mut Virt, format_args!("{info}\n"));
    exit(0x1_3333)
}

#[entry]
fn main() -> ! {
    let memory = &mut MEMORY.init(Aligned([0; MEMORY_BYTES])).0;
    let done = if TRAINING {
        flatmin_bench::train::run_training(
            &mut Virt,
            &[],
            FLOATS.init([0.0; FLOATS_LENGTH]),
            (TUNERS, ARENA.init(Arena::new()).bytes()),
            ONLY,
        )
    } else if PACK.is_empty() {
        flatmin_bench::run_kernels(&mut Virt, memory).and_then(|()| cases()).and_then(|()| grid())
    } else {
        let pack = Pack::with_operators(PACK, &OPERATORS).expect("the desktop validated it");
        flatmin_bench::run_model(&mut Virt, &pack, memory)
    };
    exit(if done.is_ok() { 0x5555 } else { 0x1_3333 })
}

fn cases() -> fmt::Result {
    if option_env!("FLATMIN_CASES").is_none() { Ok(()) } else { flatmin_bench::run_cases(&mut Virt) }
}

/// A file on the desktop, in the folder where QEMU was started.
struct Handed(File);

impl Source for Handed {
    fn read(&mut self, bytes: &mut [u8]) -> fmt::Result {
        self.0.read_exact(bytes).map_err(|_| fmt::Error)
    }
}

fn grid() -> fmt::Result {
    static MEMORY: StaticCell<GridMemory> = StaticCell::new();
    if option_env!("FLATMIN_GRID").is_none() {
        return Ok(());
    }
    let mut source = Handed(File::open(c"grid.bin").map_err(|_| fmt::Error)?);
    run_grid(&mut Virt, &mut source, MEMORY.init_with(GridMemory::new))
}
