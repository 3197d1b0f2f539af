//! What a subject's labels are to the tail's loss: classes, sets of bits, or 0 for a sample that an autoencoder is to copy
//! and 1 for an anomaly, which it is to copy badly.

use crate::report::Anomalies;
use crate::tuning::Labelled;
use anyhow::{Result, ensure};
use flatmin::tail::Loss;
use flatmin::wire::Request;
use flatmin::{Arithmetic, Pack, Tuner, TunerError, Version, metrics};

/// Most yes-or-no outputs whose sets of answers are counted against one another.
const MOST_QUESTIONS: usize = 6;

/// Number of labels of a network with so many outputs.
///
/// # Errors
/// More yes-or-no outputs than a table of right and wrong answers can show.
pub fn labels(loss: Loss, outputs: usize) -> Result<usize> {
    let most = loss != Loss::BinaryCrossEntropy || outputs <= MOST_QUESTIONS;
    ensure!(most, "{outputs} yes-or-no outputs; up to {MOST_QUESTIONS} can be tuned on the desktop");
    Ok(match loss {
        Loss::CrossEntropy => outputs,
        Loss::BinaryCrossEntropy => 1 << outputs,
        Loss::SquaredError => 2,
    })
}

/// Whether samples are their own targets.
pub fn copies(pack: &Pack) -> bool {
    pack.loss() == Loss::SquaredError
}

/// Keeps a sample to tune on, or an anomaly.
///
/// # Errors
/// What the tuner refuses.
pub fn observe<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    input: &[i8],
    label: usize,
) -> Result<(), TunerError> {
    let copies = copies(tuner.pack());
    match label {
        0 if copies => tuner.observe_itself(input),
        _ if copies => tuner.observe_anomaly(input),
        _ => tuner.observe(input, label),
    }
}

/// The request that has a device keep it, whose tail has this loss.
///
/// # Errors
/// A label above 65,535.
pub fn observation(loss: Loss, input: &[i8], label: usize) -> Result<Request<'_>> {
    let input = bytemuck::cast_slice(input);
    Ok(match loss {
        Loss::SquaredError => Request::ObserveTarget { target: None, anomalous: label != 0, input },
        _ => Request::Observe { label: u16::try_from(label)?, input },
    })
}

/// Mean f32 loss of the normal samples.
pub(crate) fn loss_f32<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, test: &[Labelled]) -> Result<f64> {
    let normal: Vec<&Labelled> = test.iter().filter(|(_, label)| *label == 0).collect();
    let mut sum = 0.0;
    for (input, _) in &normal {
        sum += f64::from(tuner.score_target(input, None)?.loss);
    }
    Ok(sum / normal.len().max(1) as f64)
}

/// Errors of an int8 tail on the test samples, normal and anomalous.
pub(crate) fn errors<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    test: &[Labelled],
    version: Version,
) -> Result<[Vec<f32>; 2]> {
    let mut errors = [Vec::new(), Vec::new()];
    for (input, label) in test {
        errors[usize::from(*label != 0)].push(tuner.error(input, None, version)?);
    }
    Ok(errors)
}

/// What came of it.
pub(crate) fn anomalies(before: &[Vec<f32>; 2], after: &[Vec<f32>; 2]) -> Anomalies {
    let mean =
        |errors: &[f32]| errors.iter().copied().map(f64::from).sum::<f64>() / errors.len().max(1) as f64;
    let auc = |[normal, anomalous]: &[Vec<f32>; 2]| metrics::auc(anomalous, normal).map(f64::from);
    Anomalies {
        factory_error: mean(&before[0]),
        tuned_error: mean(&after[0]),
        factory_auc: auc(before),
        tuned_auc: auc(after),
    }
}
