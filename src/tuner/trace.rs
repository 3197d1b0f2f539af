//! One inference, operator by operator: where two builds part.

use super::int8::enter;
use super::{Tuner, TunerError, as_int8};
use crate::pack::{Pack, crc32};
use crate::trunk;

impl Tuner<'_> {
    /// Runs the network as it was packed on `input`; `see` is called with each operator's index and the CRC-32 of
    /// its output's bytes. An operator with several outputs is seen with its first.
    ///
    /// # Errors
    /// [`TunerError::InputLength`].
    pub fn trace(&mut self, input: &[i8], see: impl FnMut(usize, u32)) -> Result<(), TunerError> {
        trace(&self.pack, as_int8(self.scratch), input, see)
    }
}

/// The same for a tuner of any kind, over its arena of activations.
pub(crate) fn trace(
    pack: &Pack,
    arena: &mut [i8],
    input: &[i8],
    mut see: impl FnMut(usize, u32),
) -> Result<(), TunerError> {
    enter(pack, arena, input)?;
    for index in 0..pack.operator_count() {
        let operator = pack.operator(index);
        trunk::run_operator(pack, &operator, arena);
        let output = pack.tensor(operator.output).of(arena);
        see(index.into(), crc32(bytemuck::try_cast_slice(output).unwrap_or(&[])));
    }
    Ok(())
}
