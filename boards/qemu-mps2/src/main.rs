//! flatmin on QEMU's mps2-an386: the application's loop over the first UART.

#![no_std]
#![no_main]

use core::ptr::{read_volatile, write_volatile};
use cortex_m_rt::entry;
use embedded_io::{ErrorType, Read, Write};
use flatmin::{Arena, Pack, Recipe, Sizes, Tuner, wire};
use flatmin_app::{Board, Buffers, serve};
use panic_semihosting as _;
use static_cell::StaticCell;

static PACK: &[u8] = flatmin::include_pack!(concat!(env!("OUT_DIR"), "/model.pack"));
const SIZES: Sizes = Sizes::of(PACK);
/// Up to 256 latents; the recipe itself comes over the link.
const RECIPE: Recipe = Recipe { replay_capacity: 256, ..Recipe::DEFAULT };
const FRAME: usize = SIZES.input_length + wire::OVERHEAD;

static ARENA: StaticCell<Arena<{ SIZES.train_bytes(&RECIPE) }>> = StaticCell::new();
static FRAMES: StaticCell<[[u8; FRAME]; 3]> = StaticCell::new();

/// CMSDK UART 0 of the MPS2 (Arm DDI 0479, section 4.3).
struct Uart;

impl Uart {
    const DATA: *mut u32 = 0x4000_4000 as *mut u32;
    const STATE: *const u32 = 0x4000_4004 as *const u32;
    const CONTROL: *mut u32 = 0x4000_4008 as *mut u32;
    const DIVIDER: *mut u32 = 0x4000_4010 as *mut u32;

    fn new() -> Self {
        // SAFETY: the UART's registers, mapped on this board, used here alone.
        unsafe {
            write_volatile(Self::DIVIDER, 16);
            write_volatile(Self::CONTROL, 3);
        }
        Self
    }

    fn state() -> u32 {
        // SAFETY: reading the state register has no side effect.
        unsafe { read_volatile(Self::STATE) }
    }
}

impl ErrorType for Uart {
    type Error = core::convert::Infallible;
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let Some(first) = buffer.first_mut() else { return Ok(0) };
        while Self::state() & 2 == 0 {}
        // SAFETY: a byte is there; reading takes it.
        *first = unsafe { read_volatile(Self::DATA) } as u8;
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        let Some(&first) = bytes.first() else { return Ok(0) };
        while Self::state() & 1 != 0 {}
        // SAFETY: the transmitter is free.
        unsafe { write_volatile(Self::DATA, first.into()) };
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// CMSDK timer 0, counting down at 25 MHz.
struct Mps2;

impl Mps2 {
    const CONTROL: *mut u32 = 0x4000_0000 as *mut u32;
    const VALUE: *mut u32 = 0x4000_0004 as *mut u32;
    const RELOAD: *mut u32 = 0x4000_0008 as *mut u32;

    fn new() -> Self {
        // SAFETY: the timer's registers, mapped on this board, used here alone.
        unsafe {
            write_volatile(Self::RELOAD, u32::MAX);
            write_volatile(Self::VALUE, u32::MAX);
            write_volatile(Self::CONTROL, 1);
        }
        Self
    }
}

impl Board for Mps2 {
    fn ticks(&mut self) -> u32 {
        // SAFETY: reading the counter has no side effect.
        !unsafe { read_volatile(Self::VALUE) }
    }

    fn stack_bytes(&mut self) -> u32 {
        0
    }
}

#[entry]
fn main() -> ! {
    let pack = Pack::new(PACK).expect("the pack that this firmware was built with");
    let arena = ARENA.init_with(Arena::new);
    let mut tuner = Tuner::new(pack, RECIPE, arena.bytes()).expect("the arena was sized for it");
    let [incoming, body, outgoing] = FRAMES.init([[0; FRAME]; 3]);
    let buffers = Buffers { incoming, body, outgoing };
    let Ok(()) = serve(pack, &mut tuner, &mut Uart::new(), &mut Mps2::new(), buffers);
    loop {
        cortex_m::asm::wfi();
    }
}
