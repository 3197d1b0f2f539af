//! Whole steps of both tuners side by side: the compact tail's and the f32 tail's, by the calls that a firmware makes.

use crate::board::{Board, measured};
use crate::random::fill;
use crate::tails::{METHODS, packs, recipe};
use flatmin::{Arithmetic, CompactTuner, Method, Pack, Recipe, Tuner, TunerError};

/// Samples of a step, in this order, of every tail and then of every method.
pub const BATCHES: [u16; 2] = [1, 16];

/// The tuners, in this order, of every step.
pub const TUNERS: [&str; 2] = ["f32", "compact"];

/// Bytes that [`run_tuners`] takes, and [`run_resumed`](crate::resumed::run_resumed), which saves runs there, too.
pub const TUNERS_MEMORY: usize = 120_000;

/// Longest input.
const MOST_VALUES: usize = 128;

/// Gives the tuner so many random samples of so many classes in turn.
pub(crate) fn observe<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    samples: u16,
    classes: usize,
) -> Result<(), TunerError> {
    let mut input = [0; MOST_VALUES];
    let length = tuner.pack().sizes().input_length;
    let input = input.get_mut(..length).unwrap_or_default();
    for sample in 0..samples {
        fill(41 + u32::from(sample), input);
        tuner.observe(input, usize::from(sample) % classes)?;
    }
    Ok(())
}

/// Ticks and the weights' CRC-32 of the second step of a run: the first has left a velocity, and put the epoch's samples in
/// order.
fn second_step<'p, A: Arithmetic<'p>>(
    board: &mut impl Board,
    tuner: &mut Tuner<'p, A>,
    recipe: Recipe,
) -> Option<(u64, u32)> {
    observe(tuner, recipe.replay_capacity, tuner.classes()).ok()?;
    tuner.start(recipe).ok()?;
    tuner.step().ok()?;
    let mut done = false;
    let ticks = measured(board, || done = tuner.step().is_ok());
    done.then(|| (ticks, tuner.weights_crc32()))
}

fn run(
    board: &mut impl Board,
    pack: Pack,
    (method, minibatch, tuner): (Method, u16, &str),
    memory: &mut [u8],
) -> Option<(u64, u32)> {
    let recipe = Recipe { minibatch, replay_capacity: 32, epochs: 1, ..recipe(method) };
    if tuner == "compact" {
        second_step(board, &mut CompactTuner::in_arena(pack, recipe, memory).ok()?, recipe)
    } else {
        second_step(board, &mut Tuner::new(pack, recipe, memory).ok()?, recipe)
    }
}

/// Prints for every chain in `bytes`, batch, method and tuner `kernel TAIL_BATCH_METHOD_TUNER TICKS CRC`, tail and method by
/// their numbers, or `skipped …` if it does not fit into `memory`, which begins at a
/// boundary of 16 bytes.
///
/// # Errors
/// Those of the line.
pub fn run_tuners(board: &mut impl Board, bytes: &[u8], memory: &mut [u8]) -> core::fmt::Result {
    for (tail, pack) in packs(bytes).filter(|pack| pack.sizes().tail_is_chain).enumerate() {
        for batch in BATCHES {
            for (place, method) in METHODS.into_iter().enumerate() {
                for tuner in TUNERS {
                    match run(board, pack, (method, batch, tuner), memory) {
                        None => writeln!(board, "skipped {tail}_{batch}_{place}_{tuner}")?,
                        Some((ticks, crc)) => {
                            writeln!(board, "kernel {tail}_{batch}_{place}_{tuner} {ticks} {crc:08x}")?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}
