//! What `flatmin bench` runs on a board and on the desktop alike: four kernel shapes, a model's operators one by
//! one, generated layers and a microphone's front end, single-operator models that the desktop hands over, and training. Every result leaves as a
//! CRC-32, which the desktop compares with its own.

#![no_std]
#![deny(unsafe_code, missing_docs)]

mod board;
mod cases;
mod checksum;
mod front_end;
mod grid;
mod random;
pub mod resumed;
mod shapes;
pub mod tails;
pub mod train;
pub mod tuners;

pub use board::Board;
pub use cases::{CASES, Case, Layer, run_case};
pub use checksum::crc32_after;
pub use front_end::run_front_end;
pub use grid::{GRID_ARENA_BYTES, GRID_PACK_BYTES, GridMemory, Source, run_grid};
pub use random::fill;
pub use shapes::{KERNELS, Kernel};

use board::measured;
use checksum::crc32;
use flatmin::{Pack, internals::trunk};

/// Seed of a model's input.
pub const INPUT_SEED: u32 = 0x51ed_270b;

/// Prints `empty TICKS`, then for every kernel `kernel NAME TICKS CRC`, or `skipped NAME` if input and output do
/// not fit into `memory`.
///
/// # Errors
/// Those of the line.
pub fn run_kernels(board: &mut impl Board, memory: &mut [i8]) -> core::fmt::Result {
    let ticks = measured(board, || ());
    writeln!(board, "empty {ticks}")?;
    for kernel in KERNELS {
        match kernel.place(memory) {
            None => writeln!(board, "skipped {}", kernel.name)?,
            Some((input, output)) => {
                let ticks = measured(board, || kernel.run(input, output));
                writeln!(board, "kernel {} {ticks} {:08x}", kernel.name, crc32(output))?;
            }
        }
    }
    writeln!(board, "end")
}

/// Prints `empty TICKS`, then for every operator of `pack` `operator INDEX TICKS CRC`, the CRC of its output.
///
/// # Errors
/// Those of the line.
pub fn run_model(board: &mut impl Board, pack: &Pack, arena: &mut [i8]) -> core::fmt::Result {
    let ticks = measured(board, || ());
    writeln!(board, "empty {ticks}")?;
    for place in 0..pack.input_count() {
        let input = pack.input_at(place);
        fill(INPUT_SEED, trunk::place(&input, arena));
    }
    for index in 0..pack.operator_count() {
        let op = pack.operator(index);
        let ticks = measured(board, || trunk::run_operator(pack, &op, arena));
        let output = pack.tensor(op.output);
        writeln!(board, "operator {index} {ticks} {:08x}", crc32(trunk::place(&output, arena)))?;
    }
    writeln!(board, "end")
}

/// Prints `case INDEX CRC` for every generated case, then what [`run_front_end`] does.
///
/// # Errors
/// Those of the line.
pub fn run_cases(board: &mut impl Board) -> core::fmt::Result {
    for index in 0..CASES {
        writeln!(board, "case {index} {:08x}", run_case(index))?;
    }
    run_front_end(board)?;
    writeln!(board, "end")
}
