//! Runs that are stopped at every slice boundary, saved, and resumed after another run of the same tuner.

use crate::Board;
use crate::tails::packs;
use crate::tuners::observe;
use flatmin::{CompactTuner, Method, Optimizer, Pack, Progress, Recipe, Tuner, Tunes};

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

/// What is run of every tail, and whether the compact tuner runs it, too.
const RUNS: [(Recipe, bool); 9] = [
    (Recipe { method: Method::Sgd, ..RECIPE }, true),
    (Recipe { method: Method::Sam, ..RECIPE }, true),
    (Recipe { method: Method::Asam, ..RECIPE }, true),
    (Recipe { method: Method::Asam, held_out: 0.3, ..RECIPE }, true),
    (Recipe { method: Method::SamOn, ..RECIPE }, false),
    (Recipe { method: Method::Sam, sharpness_batch: 4, ..RECIPE }, false),
    (Recipe { method: Method::Asam, sharpness_batch: 4, keep_best: true, held_out: 0.3, ..RECIPE }, false),
    (Recipe { method: Method::Sgd, optimizer: Optimizer::Adam, learning_rate: 0.01, ..RECIPE }, false),
    (Recipe { method: Method::Asam, optimizer: Optimizer::Adam, learning_rate: 0.01, ..RECIPE }, false),
];

/// Slice boundaries, and the weights' CRC-32 after a run in one piece and after one that was resumed at all of them.
struct Outcome {
    boundaries: u32,
    whole: u32,
    resumed: u32,
}

/// Both runs; `saved` takes what a run leaves.
fn both_runs<'p>(tuner: &mut impl Tunes<'p>, recipe: Recipe, saved: &mut [u8]) -> Option<Outcome> {
    observe(tuner, SAMPLES, CLASSES)?;
    tuner.start(recipe).ok()?;
    while !tuner.step().ok()?.finished {}
    let whole = tuner.weights_crc32();

    tuner.factory_reset();
    tuner.start(recipe).ok()?;
    let mut boundaries = 0;
    loop {
        let bytes = saved.get_mut(..tuner.run_bytes())?;
        tuner.save_run(0, bytes).ok()?;
        // Another run, in another order and left in the midst of a step, takes its place.
        tuner.factory_reset();
        tuner.start(Recipe { seed: recipe.seed ^ u64::from(boundaries + 1), ..recipe }).ok()?;
        for _ in 0..boundaries % 9 {
            tuner.poll().ok()?;
        }
        tuner.resume_run(bytes).ok()?;
        boundaries += 1;
        if matches!(tuner.poll().ok()?, Progress::Stepped(report) if report.finished) {
            return Some(Outcome { boundaries, whole, resumed: tuner.weights_crc32() });
        }
    }
}

fn run(pack: Pack, recipe: Recipe, compact: bool, memory: &mut [u8]) -> Option<Outcome> {
    let (arena, saved) = memory.split_at_mut_checked(memory.len() / 32 * 16)?;
    if compact {
        both_runs(&mut CompactTuner::new(pack, recipe, arena).ok()?, recipe, saved)
    } else {
        both_runs(&mut Tuner::new(pack, recipe, arena).ok()?, recipe, saved)
    }
}

/// Prints for every tail in `bytes` and every run of it `resumed NUMBER BOUNDARIES CRC CRC`, the weights' after the run in
/// one piece and after the one in pieces, or `skipped …` if it does not fit into `memory`, which begins at a boundary of 16
/// bytes.
///
/// # Errors
/// Those of the line.
pub fn run_resumed(board: &mut impl Board, bytes: &[u8], memory: &mut [u8]) -> core::fmt::Result {
    let tuners = |(recipe, too): (Recipe, bool)| {
        [Some((recipe, false)), too.then_some((recipe, true))].into_iter().flatten()
    };
    let runs = || RUNS.into_iter().flat_map(tuners);
    let all = packs(bytes).flat_map(|pack| runs().map(move |run| (pack, run)));
    for (number, (pack, (recipe, compact))) in all.enumerate() {
        match run(pack, recipe, compact, memory) {
            None => writeln!(board, "skipped resumed_{number}")?,
            Some(Outcome { boundaries, whole, resumed }) => {
                writeln!(board, "resumed {number} {boundaries} {whole:08x} {resumed:08x}")?;
            }
        }
    }
    Ok(())
}
