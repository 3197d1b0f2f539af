//! What a subject's labels are to the tail's loss: classes, sets of bits, or 0 for a sample that an autoencoder is to copy
//! and 1 for an anomaly, which it is to copy badly.

use crate::report::Anomalies;
use crate::subject::{Labelled, Subject};
use anyhow::Result;
use flatmin::Loss;
use flatmin::wire::Request;
use flatmin::{Arithmetic, Pack, Tuner, TunerError, Version, internals::metrics};

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
pub fn loss_f32<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, subject: &Subject) -> Result<f64> {
    let regression = !subject.origin.targets.is_empty();
    let normal: Vec<&Labelled> = subject.test.iter().filter(|(_, label)| regression || *label == 0).collect();
    let mut sum = 0.0;
    for (input, label) in &normal {
        let target = subject.origin.targets.get(*label).map(Vec::as_slice);
        sum += f64::from(tuner.score_target(input, target)?.loss);
    }
    Ok(sum / normal.len().max(1) as f64)
}

/// Errors of an int8 tail on the test samples, normal and anomalous; those of a regression are all normal.
pub fn errors<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    subject: &Subject,
    version: Version,
) -> Result<[Vec<f32>; 2]> {
    let mut errors = [Vec::new(), Vec::new()];
    for (input, label) in &subject.test {
        match subject.origin.targets.get(*label) {
            Some(target) => errors[0].push(tuner.error(input, Some(target), version)?),
            None => errors[usize::from(*label != 0)].push(tuner.error(input, None, version)?),
        }
    }
    Ok(errors)
}

/// What came of it.
pub fn anomalies(before: &[Vec<f32>; 2], after: &[Vec<f32>; 2]) -> Anomalies {
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
