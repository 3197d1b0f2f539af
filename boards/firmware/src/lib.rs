//! The application with its model and its memory: what every board's crate runs.
//!
//! With the environment variable `FLATMIN_COMPACT` the tail is tuned in few bytes, by a `CompactTuner`; with `FLATMIN_INTEGER`
//! a tail of any layers is, by an `IntegerTuner`.
//!
//! The model is the pack that the environment variable `FLATMIN_PACK` names when the firmware is compiled; the bundled
//! one without it. Arena and link buffers are statics of exactly the size that it takes.

#![no_std]
#![deny(unsafe_code, missing_docs)]

#[cfg(feature = "motion")]
pub mod motion;
#[allow(unsafe_code)] // the linker's symbols
pub mod stack;

use embedded_io::{Error, ErrorKind, Read, ReadReady, Write};
use embedded_storage::nor_flash::NorFlash;
#[cfg(compact)]
use flatmin::CompactTuner as OwnTuner;
#[cfg(integer)]
use flatmin::IntegerTuner as OwnTuner;
#[cfg(not(any(compact, integer)))]
use flatmin::Tuner as OwnTuner;
use flatmin::store::Contents;
use flatmin::{Arena, Operators, Pack, PackError, Recipe, Sizes, TunerError};
use flatmin_app::{Board, Buffers, link_bytes};
use static_cell::ConstStaticCell;

static PACK: &[u8] = flatmin::include_pack!(concat!(env!("OUT_DIR"), "/model.pack"));
/// The linker leaves the kernels out that this pack does not use, and the solver of heads where it has no statistics.
const LINKED: Operators = {
    let own = Operators::of(PACK);
    own.with_solver(!cfg!(any(compact, integer)) && (cfg!(solver) || own.has_solver()))
};
static OPERATORS: Operators = LINKED;
/// The model's sizes.
pub const SIZES: Sizes = Sizes::of(PACK);
/// What decides the arena's size; the rest of a recipe comes over the link.
pub const RECIPE: Recipe = include!(concat!(env!("OUT_DIR"), "/recipe.rs"));

/// Bytes of the tuner's arena.
const ARENA_BYTES: usize = if cfg!(compact) {
    SIZES.compact_bytes(&RECIPE)
} else if cfg!(integer) {
    SIZES.integer_bytes(&RECIPE)
} else {
    SIZES.train_bytes(&RECIPE)
};

static ARENA: ConstStaticCell<Arena<ARENA_BYTES>> = ConstStaticCell::new(Arena::new());
/// Words beside it that heads are solved in.
const SOLVING_WORDS: usize = if LINKED.has_solver() { SIZES.solve_bytes(&RECIPE) / 4 } else { 0 };
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
    let contents = if cfg!(compact) {
        Contents::Int8AndCompact
    } else if cfg!(integer) {
        Contents::Int8
    } else {
        Contents::Int8AndF32
    };
    SIZES.slot_bytes::<F>(contents)
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
fn run_with(application: impl FnOnce(&mut OwnTuner<'static>, Buffers<'static>) -> Stopped) -> Stopped {
    let pack = match Pack::with_operators(PACK, &OPERATORS) {
        Ok(pack) => pack,
        Err(error) => return Stopped::Pack(error),
    };
    let (Some(arena), Some(memory)) = (ARENA.try_take(), LINK.try_take()) else { return Stopped::Twice };
    let Some(solving) = SOLVING.try_take() else { return Stopped::Twice };
    let mut tuner = OwnTuner::in_arena(pack, RECIPE, arena.bytes());
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
