//! Requests about samples with targets, and what an output stands for.

use flatmin::wire::Response;
use flatmin::{Arithmetic, Tuner, TunerError, Version, as_int8, tail::Loss};

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

/// An output whose meaning is asked for after the call that gave it.
pub(crate) struct Kept {
    values: [i8; Loss::MOST_QUESTIONS],
    length: usize,
    largest: (u16, i8),
}

impl Kept {
    pub fn of(output: &[i8]) -> Self {
        let mut values = [0; Loss::MOST_QUESTIONS];
        values.iter_mut().zip(output).for_each(|(to, from)| *to = *from);
        Self { values, length: output.len(), largest: largest(output) }
    }

    /// The label that it stands for, and its largest value. Longer ones are those of classes.
    pub fn answer<'p, A: Arithmetic<'p>>(&self, tuner: &Tuner<'p, A>, version: Version) -> (u16, i8) {
        let (class, value) = self.largest;
        let label = self.values.get(..self.length).map(|values| tuner.answer(values, version));
        // A label has 16 bits.
        (label.map_or(class, |label| label as u16), value)
    }
}

/// Class and value of the largest output; the first among equals.
pub(crate) fn largest(output: &[i8]) -> (u16, i8) {
    let mut best = (0, i8::MIN);
    for (class, &value) in (0u16..).zip(output) {
        if value > best.1 {
            best = (class, value);
        }
    }
    best
}
