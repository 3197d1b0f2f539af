//! The application with its model and its memory: what every board's crate runs.
//!
//! Both are in the Rust file that the environment variable `FLATMIN_MODEL` names when the firmware is compiled, as `flatmin pack
//! --recipe` writes it: pack, recipe, tuner, operators. Without it they are the bundled ones. Arena and link buffers are
//! statics of exactly the size that it takes.

#![no_std]
#![deny(unsafe_code, missing_docs)]

#[cfg(feature = "motion")]
pub mod motion;
#[allow(unsafe_code)] // the linker's symbols
pub mod stack;

use embedded_io::{Error, ErrorKind, Read, ReadReady, Write};
use embedded_storage::nor_flash::NorFlash;
use flatmin::{Arena, Pack, PackError, TunerError};
use flatmin_app::{Board, Buffers, link_bytes};
use static_cell::ConstStaticCell;

mod model {
    include!(env!("FLATMIN_MODEL_FILE"));
}
use model::{ARENA_BYTES, OPERATORS, PACK, Tuner};
pub use model::{RECIPE, SIZES};

static ARENA: ConstStaticCell<Arena<ARENA_BYTES>> = ConstStaticCell::new(Arena::new());
/// Words beside it that heads are solved in: none where the linker leaves the solver out.
const SOLVING_WORDS: usize = if OPERATORS.has_solver() { SIZES.solve_bytes(&RECIPE) / 4 } else { 0 };
static SOLVING: ConstStaticCell<[u32; SOLVING_WORDS]> = ConstStaticCell::new([0; SOLVING_WORDS]);
static LINK: ConstStaticCell<[u8; link_bytes(&SIZES)]> = ConstStaticCell::new([0; link_bytes(&SIZES)]);

/// Why an application has returned.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stopped {
    /// The pack that the firmware was built with is damaged.
    #[error("the pack: {0}")]
    Pack(PackError),
    /// The pack cannot be trained.
    #[error("the tuner: {0}")]
    Tuner(TunerError),
    /// The motion sensor does not answer.
    #[cfg(feature = "motion")]
    #[error("the sensor: {0}")]
    Sensor(flatmin_app::motion::ImuError),
    /// The link reported an error.
    #[error("the link: {0}")]
    Link(ErrorKind),
    /// The link has ended.
    #[error("the link has ended")]
    Ended,
    /// Called a second time.
    #[error("the application runs once")]
    Twice,
}

/// Bytes of a slot that keeps the whole of the model's tail, for the board's `Store`.
pub const fn slot_bytes<F: NorFlash>() -> u32 {
    SIZES.slot_bytes::<F>(model::CONTENTS)
}

/// Runs the application over `link` for as long as that lasts, and logs why it cannot go on.
pub fn run<L: Read + ReadReady + Write>(link: &mut L, board: &mut impl Board) -> Stopped {
    log(run_with(|tuner, buffers| ended(flatmin_app::serve(tuner, link, board, buffers))))
}

fn log(why: Stopped) -> Stopped {
    #[cfg(feature = "defmt")]
    defmt::error!("cannot go on: {}", why);
    why
}

/// Hands the tuner and the link's buffers to an application.
#[inline(always)] // a frame of its own would lie on a small board's stack
fn run_with(application: impl FnOnce(&mut Tuner<'static>, Buffers<'static>) -> Stopped) -> Stopped {
    let pack = match Pack::with_operators(PACK, &OPERATORS) {
        Ok(pack) => pack,
        Err(error) => return Stopped::Pack(error),
    };
    let (Some(arena), Some(memory)) = (ARENA.try_take(), LINK.try_take()) else { return Stopped::Twice };
    let Some(solving) = SOLVING.try_take() else { return Stopped::Twice };
    let mut tuner = Tuner::in_arena(pack, RECIPE, arena.bytes());
    // Used where it is: a second one would not fit on a small board's stack.
    let tuner = match &mut tuner {
        Ok(tuner) => tuner,
        Err(error) => return Stopped::Tuner(*error),
    };
    match Buffers::new(&SIZES, memory) {
        Some(buffers) => application(tuner, buffers.with_solver(solving)),
        None => Stopped::Twice,
    }
}

fn ended<E: Error>(outcome: Result<(), E>) -> Stopped {
    outcome.map_or_else(|error| Stopped::Link(error.kind()), |()| Stopped::Ended)
}
