//! Requests about samples with targets.

use flatmin::wire::Response;
use flatmin::{Arithmetic, Tuner, TunerError, Version, as_int8};

/// Keeps a sample with its target, or with itself as such.
pub(crate) fn observe<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    target: Option<&[u8]>,
    anomalous: bool,
    input: &[u8],
) -> Result<(), TunerError> {
    let input = as_int8(input);
    match target {
        _ if anomalous => tuner.observe_anomaly(input),
        Some(target) => tuner.observe_target(input, as_int8(target)),
        None => tuner.observe_itself(input),
    }
}

/// The errors of all tails on a sample.
pub(crate) fn judge<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    target: Option<&[u8]>,
    input: &[u8],
) -> Result<Response<'static>, TunerError> {
    let (input, target) = (as_int8(input), target.map(as_int8));
    let factory = tuner.error(input, target, Version::Factory)?;
    let tuned_int8 = match tuner.error(input, target, Version::Tuned) {
        Ok(error) => Some(error),
        Err(TunerError::NotTuned) => None,
        Err(error) => return Err(error),
    };
    let tuned_f32 = tuner.score_target(input, target)?.loss;
    Ok(Response::Compared { factory, tuned_f32, tuned_int8 })
}
