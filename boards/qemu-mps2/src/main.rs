//! flatmin on QEMU's mps2-an386 and mps2-an500: the application's loop over the first UART, logs by semihosting.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[allow(unsafe_code)] // a handler for faults is declared so
mod fault;
#[allow(unsafe_code)] // reads what lies behind the statics
mod stack;
#[allow(unsafe_code)] // registers
mod timer;
#[allow(unsafe_code)] // registers
mod uart;

use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_semihosting as _;
use flatmin::{Arena, Operators, Pack, Recipe, Sizes, Tuner};
use flatmin_app::{Board, Buffers, link_bytes, serve};
use static_cell::ConstStaticCell;
use timer::Timer;
use uart::Uart;

static PACK: &[u8] = flatmin::include_pack!(concat!(env!("OUT_DIR"), "/model.pack"));
const SIZES: Sizes = Sizes::of(PACK);
/// The linker leaves the kernels out that this pack does not use.
static OPERATORS: Operators = Operators::of(PACK);
/// What decides the arena's size; the rest of the recipe comes over the link.
const RECIPE: Recipe = include!(concat!(env!("OUT_DIR"), "/recipe.rs"));

static ARENA: ConstStaticCell<Arena<{ SIZES.train_bytes(&RECIPE) }>> = ConstStaticCell::new(Arena::new());
static LINK: ConstStaticCell<[u8; link_bytes(&SIZES)]> = ConstStaticCell::new([0; link_bytes(&SIZES)]);

struct Mps2(Timer);

impl Board for Mps2 {
    fn ticks(&mut self) -> u32 {
        self.0.ticks()
    }

    fn stack_bytes(&mut self) -> u32 {
        stack::high_water_bytes()
    }
}

#[entry]
fn main() -> ! {
    let pack = Pack::with_operators(PACK, &OPERATORS).expect("the pack that this firmware was built with");
    // Not `expect`: the error holds numbers whose text takes 10 KiB of flash and 2 KiB of stack.
    let mut tuner = match Tuner::new(pack, RECIPE, ARENA.take().bytes()) {
        Ok(tuner) => tuner,
        Err(error) => fault::stop(error),
    };
    let buffers = Buffers::new(&SIZES, LINK.take()).expect("the memory was sized for it");
    let Ok(()) = serve(&mut tuner, &mut Uart::new(), &mut Mps2(Timer::new()), buffers);
    loop {
        cortex_m::asm::wfi();
    }
}
