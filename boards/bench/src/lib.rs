//! What `flatmin bench` runs on a board and on the desktop alike: four kernel shapes, a model's operators one by
//! one, generated layers and a microphone's front end, single-operator models that the desktop hands over, and training. Every result leaves as a
//! CRC-32, which the desktop compares with its own.

#![no_std]
#![deny(unsafe_code, missing_docs)]

mod cases;
mod front_end;
mod grid;
mod random;
pub mod resumed;
mod shapes;
pub mod tails;
pub mod train;
pub mod tuners;

pub use cases::{CASES, Case, Layer, run_case};
pub use front_end::run_front_end;
pub use grid::{GRID_ARENA_BYTES, GRID_PACK_BYTES, GridMemory, Source, run_grid};
pub use random::fill;
pub use shapes::{KERNELS, Kernel};

use core::fmt::Write;
use flatmin::{Pack, internals::trunk};

/// What a board gives: a line to the desktop and a clock.
pub trait Board: Write {
    /// A free-running clock; it does not wrap during a benchmark.
    fn ticks(&mut self) -> u64;
}

/// Seed of a model's input.
pub const INPUT_SEED: u32 = 0x51ed_270b;

fn measured(board: &mut impl Board, work: impl FnOnce()) -> u64 {
    let start = board.ticks();
    work();
    board.ticks().wrapping_sub(start)
}

/// A checksum of `values`, the one that boards print.
fn crc32(values: &[i8]) -> u32 {
    crc32_after(0, values)
}

/// Goes on from what was before; 0 stands for nothing.
///
/// ```
/// let twice = flatmin_bench::crc32_after(flatmin_bench::crc32_after(0, &[1, 2]), &[3]);
/// assert_ne!(twice, flatmin_bench::crc32_after(0, &[1, 2]));
/// ```
pub fn crc32_after(mut crc: u32, values: &[i8]) -> u32 {
    // The CRC takes bytes; pieces keep the copy small.
    for piece in values.chunks(64) {
        let mut bytes = [0; 68];
        bytes[..4].copy_from_slice(&u32::to_le_bytes(crc));
        for (byte, value) in bytes[4..].iter_mut().zip(piece) {
            *byte = value.cast_unsigned();
        }
        crc = flatmin::crc32(&bytes[..4 + piece.len()]);
    }
    crc
}

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
