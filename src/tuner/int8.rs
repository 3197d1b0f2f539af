//! The network in int8, with the factory tail or the tuned one, for a tuner of whichever kind.

use super::{TunerError, Version, copy};
use crate::pack::Pack;
use crate::requant::TunedTail;
use crate::trunk;

/// Puts a sample where the network reads it.
pub(crate) fn enter(pack: &Pack, arena: &mut [i8], input: &[i8]) -> Result<(), TunerError> {
    let (expected, found) = (pack.sizes().input_length, input.len());
    if expected != found {
        return Err(TunerError::InputLength { expected, found });
    }
    copy(pack.input().of_mut(arena), input);
    Ok(())
}

/// Runs the trunk on a sample: its features are where they are packed.
pub(crate) fn run_trunk(pack: &Pack, arena: &mut [i8], input: &[i8]) -> Result<(), TunerError> {
    enter(pack, arena, input)?;
    trunk::run_trunk(pack, arena);
    Ok(())
}

/// Refuses a latent of another length than the features'.
pub(crate) fn check_latent(expected: usize, latent: &[i8]) -> Result<(), TunerError> {
    let found = latent.len();
    if expected == found { Ok(()) } else { Err(TunerError::InputLength { expected, found }) }
}

impl TunedTail<'_> {
    /// Refuses the tuned tail where there is none.
    pub(crate) fn check(&self, version: Version) -> Result<(), TunerError> {
        if version == Version::Tuned && self.is_empty() { Err(TunerError::NotTuned) } else { Ok(()) }
    }

    /// Runs the tail that is asked for on the features in `arena`; returns the network's output.
    pub(crate) fn answer<'s>(&self, pack: &Pack, arena: &'s mut [i8], version: Version) -> &'s [i8] {
        match version {
            Version::Factory => trunk::run_factory_tail(pack, arena),
            Version::Tuned => self.run(pack, arena),
        }
        pack.output().of(arena)
    }
}
