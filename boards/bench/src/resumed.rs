//! Runs that are stopped at every slice boundary, saved, and resumed after another run of the same tuner.

use crate::board::Board;
use crate::tails::packs;
use crate::tuners::observe;
use flatmin::{
    Arithmetic, CompactTuner, IntegerTuner, Method, Optimizer, Pack, Progress, Recipe, Tuner, TunerError,
};

/// Samples of a run.
const SAMPLES: u16 = 8;

/// Classes of theirs: few, that there is one of each to hold out.
const CLASSES: usize = 2;

/// Two epochs of two steps each, the last of them short.
const RECIPE: Recipe = Recipe {
    epochs: 2,
    minibatch: 5,
    replay_capacity: SAMPLES,
    learning_rate: 0.05,
    rho: 0.05,
    ..Recipe::DEFAULT
};

/// What is run of every tail that is a chain, and whether the compact tuner runs it, too.
const RUNS: [(Recipe, bool); 11] = [
    (Recipe { method: Method::Sgd, ..RECIPE }, true),
    (Recipe { method: Method::Sam, ..RECIPE }, true),
    (Recipe { method: Method::Asam, ..RECIPE }, true),
    (Recipe { method: Method::Asam, held_out: 0.3, ..RECIPE }, true),
    (Recipe { method: Method::SamOn, ..RECIPE }, false),
    (Recipe { method: Method::Sam, sharpness_batch: 4, ..RECIPE }, false),
    (Recipe { method: Method::Asam, sharpness_batch: 4, keep_best: true, held_out: 0.3, ..RECIPE }, false),
    (Recipe { method: Method::Sam, sample_losses: true, ..RECIPE }, false),
    (Recipe { method: Method::Sam, ascent_every: 2, ..RECIPE }, true),
    (Recipe { method: Method::Sgd, optimizer: Optimizer::Adam, learning_rate: 0.01, ..RECIPE }, false),
    (Recipe { method: Method::Asam, optimizer: Optimizer::Adam, learning_rate: 0.01, ..RECIPE }, false),
];

/// What is run of every other tail, in integers.
const INTEGER_RUNS: [Recipe; 3] = [
    Recipe { method: Method::Sgd, ..INTEGER },
    Recipe { method: Method::Sam, held_out: 0.3, ..INTEGER },
    Recipe { method: Method::Asam, ..INTEGER },
];

const INTEGER: Recipe = Recipe { epochs: 2, replay_capacity: SAMPLES, ..Recipe::INTEGER };

/// Slice boundaries, and the weights' CRC-32 after a run in one piece and after one that was resumed at all of them.
struct Outcome {
    boundaries: u32,
    whole: u32,
    resumed: u32,
}

/// Both runs; `saved` takes what a run leaves.
fn both_runs<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    recipe: Recipe,
    saved: &mut [u8],
) -> Result<Outcome, TunerError> {
    observe(tuner, SAMPLES, CLASSES)?;
    tuner.start(recipe)?;
    let mut boundaries = 1;
    while !is_last(tuner.poll()?) {
        boundaries += 1;
    }
    let whole = tuner.weights_crc32();

    tuner.factory_reset();
    tuner.start(recipe)?;
    for boundary in 0..boundaries {
        let length = tuner.save_run(0, saved)?;
        let bytes = saved.get_mut(..length).unwrap_or_default();
        let crc32 = flatmin::crc32(bytes);
        // Another run, of another kind and left in the midst of a step, takes its place.
        tuner.factory_reset();
        tuner.start(Recipe {
            method: Method::Sgd,
            seed: boundary.into(),
            epochs: 3,
            held_out: 0.0,
            ..recipe
        })?;
        for _ in 0..boundary % 9 {
            tuner.poll()?;
        }
        tuner.resume_run(bytes)?;
        tuner.save_run(0, bytes)?;
        if flatmin::crc32(bytes) != crc32 {
            return Err(TunerError::RunDamaged);
        }
        if is_last(tuner.poll()?) && boundary + 1 < boundaries {
            return Err(TunerError::NotRunning);
        }
    }
    Ok(Outcome { boundaries, whole, resumed: tuner.weights_crc32() })
}

fn is_last(progress: Progress) -> bool {
    matches!(progress, Progress::Stepped(report) if report.finished)
}

fn run(pack: Pack, recipe: Recipe, tuner: &str, memory: &mut [u8]) -> Result<Outcome, TunerError> {
    let (arena, saved) = memory.split_at_mut_checked(memory.len() / 32 * 16).unwrap_or_default();
    match tuner {
        "compact" => both_runs(&mut CompactTuner::in_arena(pack, recipe, arena)?, recipe, saved),
        "integer" => both_runs(&mut IntegerTuner::in_arena(pack, recipe, arena)?, recipe, saved),
        _ => both_runs(&mut Tuner::new(pack, recipe, arena)?, recipe, saved),
    }
}

/// Prints for every tail in `bytes` and every run of it `resumed NUMBER BOUNDARIES CRC CRC`, the weights' after the run in
/// one piece and after the one in pieces, or `failed …`, why, and what the run is. `memory` begins at a boundary of 16 bytes;
/// half of it is the arena.
///
/// # Errors
/// Those of the line.
pub fn run_resumed(board: &mut impl Board, bytes: &[u8], memory: &mut [u8]) -> core::fmt::Result {
    let tuners = |(recipe, too): (Recipe, bool)| {
        [Some((recipe, "f32")), too.then_some((recipe, "compact"))].into_iter().flatten()
    };
    let integers = INTEGER_RUNS.into_iter().map(|recipe| (recipe, "integer"));
    let runs = |chain| {
        let of_chains = RUNS.into_iter().flat_map(tuners).filter(move |_| chain);
        of_chains.chain(integers.clone().filter(move |_| !chain))
    };
    let all = packs(bytes).flat_map(|pack| runs(pack.sizes().tail_is_chain).map(move |run| (pack, run)));
    for (number, (pack, (recipe, tuner))) in all.enumerate() {
        match run(pack, recipe, tuner, memory) {
            Err(error) => {
                writeln!(board, "failed resumed_{number}: {error}; {tuner} tuner, {recipe:?}")?;
            }
            Ok(Outcome { boundaries, whole, resumed }) => {
                writeln!(board, "resumed {number} {boundaries} {whole:08x} {resumed:08x}")?;
            }
        }
    }
    Ok(())
}
