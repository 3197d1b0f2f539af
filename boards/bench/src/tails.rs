//! Whole steps of packed tails: the last layers of published networks, by the shapes of their layers.

use crate::board::{Board, measured};
use crate::checksum::crc32_floats;
use crate::random::{fill, fill_uniform};
use flatmin::internals::pack::format::{ALIGNMENT, header};
use flatmin::internals::step::{self, Buffers};
use flatmin::{Affine, Method, Pack, Recipe};
use flatmin::{
    Loss,
    internals::{
        label::Target,
        tail::{PackedTail, Tail},
    },
};

/// In this order, of every tail.
pub const METHODS: [Method; 3] = [Method::Sgd, Method::Sam, Method::Asam];

/// Floats that [`run_tails`] takes: of the largest tail three times the parameters, and the workspace.
pub const TAILS_MEMORY: usize = 230_000;

/// Most outputs of a tail that is trained against real values.
const MOST_VALUES: usize = 640;

/// The packs that lie one behind the other, each at the next boundary.
pub fn packs(bytes: &[u8]) -> impl Iterator<Item = Pack<'_>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let total = rest.get(header::TOTAL_BYTES..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
        let pack = Pack::new(rest.get(..total as usize)?).ok()?;
        rest = rest.get((total as usize).next_multiple_of(ALIGNMENT)..).unwrap_or(&[]);
        Some(pack)
    })
}

/// The recipe of a method's step.
pub fn recipe(method: Method) -> Recipe {
    Recipe { method, momentum: 0.9, weight_decay: 0.0, label_smoothing: 0.0, ..Recipe::DEFAULT }
}

/// One step of one sample; ticks, and the CRC-32 of weights and velocity.
fn run(board: &mut impl Board, pack: &Pack, method: Method, memory: &mut [f32]) -> Option<(u64, u32)> {
    let tail = PackedTail::of(pack).ok()?;
    let recipe = recipe(method);
    let parameters = tail.parameters();
    let stored = if step::stores_perturbation(&tail, &recipe) { parameters } else { 0 };
    let (weights, rest) = memory.split_at_mut_checked(parameters)?;
    let (velocity, rest) = rest.split_at_mut_checked(parameters)?;
    let (gradient, workspace) = rest.split_at_mut_checked(stored)?;
    for (seed, limit, values) in [(31, 0.1, &mut *weights), (32, 0.01, &mut *velocity)] {
        fill_uniform(seed, limit, values);
    }
    let mut values = [0; MOST_VALUES];
    fill(34, &mut values);
    let target = match tail.objective() {
        Loss::SquaredError => Target::Values {
            values: values.get(..tail.classes())?,
            affine: Affine { scale: 0.01, zero_point: 0 },
        },
        _ => Target::from(1),
    };
    let mut done = false;
    let ticks = measured(board, || {
        let buffers = Buffers {
            weights: &mut *weights,
            velocity: &mut *velocity,
            gradient: &mut *gradient,
            workspace: &mut *workspace,
        };
        let outcome = step::minibatch(&tail, &recipe, 0.01, buffers, 1, |_, features| {
            fill_uniform(33, 1.0, features);
            target
        });
        done = outcome.is_ok();
    });
    done.then(|| (ticks, crc32_floats(memory.get(..2 * parameters).unwrap_or(&[]))))
}

/// Prints for every tail and method `kernel TAIL_METHOD TICKS CRC`, both by their numbers, or `skipped TAIL_METHOD` if
/// it does not fit into `memory`.
///
/// # Errors
/// Those of the line.
pub fn run_tails(board: &mut impl Board, bytes: &[u8], memory: &mut [f32]) -> core::fmt::Result {
    for (index, pack) in packs(bytes).enumerate() {
        for (place, method) in METHODS.into_iter().enumerate() {
            match run(board, &pack, method, memory) {
                None => writeln!(board, "skipped {index}_{place}")?,
                Some((ticks, crc)) => writeln!(board, "kernel {index}_{place} {ticks} {crc:08x}")?,
            }
        }
    }
    Ok(())
}
