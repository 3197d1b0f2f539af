//! Single-operator models that the desktop hands over, packed: every output of theirs leaves as a CRC-32.
//!
//! The stream, all numbers little-endian and 32 bits wide: the number of models; then for each its pack's length,
//! its number of samples, the pack, and sample by sample its inputs' bytes in the pack's order.

use crate::checksum::crc32_after;
use core::fmt::{self, Write};
use flatmin::{Aligned, Pack, internals::trunk};

/// The largest pack that a board takes, in bytes.
pub const GRID_PACK_BYTES: usize = 32 << 10;
/// The largest activation arena that a board takes, in bytes.
pub const GRID_ARENA_BYTES: usize = 32 << 10;
/// Outputs of a model.
const OUTPUTS: usize = 16;
const PIECE: usize = 1 << 10;

/// What the desktop hands over, from its beginning to its end.
pub trait Source {
    /// Fills `bytes` with what comes next.
    ///
    /// # Errors
    /// There is less than that.
    fn read(&mut self, bytes: &mut [u8]) -> fmt::Result;
}

impl Source for &[u8] {
    fn read(&mut self, bytes: &mut [u8]) -> fmt::Result {
        let (next, rest) = self.split_at_checked(bytes.len()).ok_or(fmt::Error)?;
        bytes.copy_from_slice(next);
        *self = rest;
        Ok(())
    }
}

/// Where a model lies while it runs.
#[derive(Debug)]
pub struct GridMemory {
    pack: Aligned<[u8; GRID_PACK_BYTES]>,
    arena: Aligned<[i8; GRID_ARENA_BYTES]>,
}

impl GridMemory {
    /// Memory of zeros.
    pub const fn new() -> Self {
        Self { pack: Aligned([0; GRID_PACK_BYTES]), arena: Aligned([0; GRID_ARENA_BYTES]) }
    }
}

impl Default for GridMemory {
    fn default() -> Self {
        Self::new()
    }
}

/// Prints `grid MODEL OUTPUT CRC` for every output of every model: the CRC of all its samples, one after the other.
///
/// # Errors
/// Those of the line; a stream that ends too early, or a model that is too large.
pub fn run_grid(line: &mut impl Write, source: &mut impl Source, memory: &mut GridMemory) -> fmt::Result {
    let models = number(source)?;
    for model in 0..models {
        let (length, samples) = (number(source)?, number(source)?);
        let bytes = memory.pack.0.get_mut(..length).ok_or(fmt::Error)?;
        source.read(bytes)?;
        let pack = match Pack::new(bytes) {
            Ok(pack) => pack,
            Err(why) => {
                writeln!(line, "model {model}: {why}")?;
                return Err(fmt::Error);
            }
        };
        let arena = memory.arena.0.get_mut(..pack.sizes().arena_bytes).ok_or(fmt::Error)?;
        let mut sums = [0; OUTPUTS];
        let sums = sums.get_mut(..pack.output_count()).ok_or(fmt::Error)?;
        // The samples of a network with variables are a stream.
        trunk::reset(&pack, arena);
        for _ in 0..samples {
            for place in 0..pack.input_count() {
                load(source, trunk::place(&pack.input_at(place), arena))?;
            }
            trunk::run(&pack, arena);
            for (place, sum) in sums.iter_mut().enumerate() {
                *sum = crc32_after(*sum, trunk::output(&pack, place, arena));
            }
        }
        for (place, sum) in sums.iter().enumerate() {
            writeln!(line, "grid {model} {place} {sum:08x}")?;
        }
    }
    writeln!(line, "end")
}

fn number(source: &mut impl Source) -> Result<usize, fmt::Error> {
    let mut bytes = [0; 4];
    source.read(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

fn load(source: &mut impl Source, values: &mut [i8]) -> fmt::Result {
    let mut piece = [0; PIECE];
    for values in values.chunks_mut(PIECE) {
        let bytes = &mut piece[..values.len()];
        source.read(bytes)?;
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value = byte.cast_signed();
        }
    }
    Ok(())
}
