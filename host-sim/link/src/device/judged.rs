//! What a device makes of test samples, which stay on the desktop until they are asked about.

use super::Device;
use crate::link::Answer;
use anyhow::{Result, bail};
use flatmin::wire::Request;
use flatmin_sim::objective;
use flatmin_sim::report::{Anomalies, Changes};
use flatmin_sim::subject::Labelled;

/// Of all samples; confusion matrices by label and answer, which count samples of classes alone.
pub(super) struct Judged {
    /// Of the factory tail.
    pub factory: Vec<Vec<u32>>,
    /// Of the tail in force.
    pub tuned: Vec<Vec<u32>>,
    /// From one to the other, sample by sample.
    pub changes: Option<Changes>,
    /// NaN without classes.
    pub accuracy_f32: f64,
    /// Mean, of the f32 tail; of normal samples where there are anomalies.
    pub loss: f64,
    /// Of samples that are their own targets.
    pub anomalies: Option<Anomalies>,
}

/// Samples of so many classes.
pub(super) fn classes(
    device: &mut Device,
    test: &[Labelled],
    classes: usize,
    mut done: impl FnMut(),
) -> Result<Judged> {
    let (mut factory, mut tuned) = (vec![vec![0; classes]; classes], vec![vec![0; classes]; classes]);
    let (mut right, mut loss_sum, mut moved) = (0usize, 0.0, Vec::new());
    for (input, label) in test {
        let request = Request::Judge { label: u16::try_from(*label)?, input: bytemuck::cast_slice(input) };
        let Answer::Judged { factory: before, tuned_f32, tuned_int8, loss } = device.ask(&request)? else {
            bail!("the device did not answer with a judgement");
        };
        // Without a tuned tail, after one that was not taken, the factory's is in force.
        let after = tuned_int8.unwrap_or(before);
        factory[*label][usize::from(before)] += 1;
        tuned[*label][usize::from(after)] += 1;
        moved.push((*label, usize::from(before), usize::from(after)));
        right += usize::from(usize::from(tuned_f32) == *label);
        loss_sum += f64::from(loss);
        done();
    }
    let count = test.len().max(1) as f64;
    let accuracy_f32 = right as f64 / count;
    let (loss, changes) = (loss_sum / count, Changes::of(moved));
    Ok(Judged { factory, tuned, changes, accuracy_f32, loss, anomalies: None })
}

/// How well an autoencoder on a device copies normal samples, label 0, and tells anomalies, label 1, from them: the factory
/// tail, and the tail in force.
///
/// # Errors
/// What the device refuses.
pub fn anomalies(device: &mut Device, test: &[Labelled]) -> Result<Anomalies> {
    errors(device, test, || ()).map(|(_, anomalies)| anomalies)
}

/// Samples that are their own targets, with so many labels.
pub(super) fn copies(
    device: &mut Device,
    test: &[Labelled],
    labels: usize,
    done: impl FnMut(),
) -> Result<Judged> {
    let (loss, anomalies) = errors(device, test, done)?;
    let nothing = vec![vec![0; labels]; labels];
    let (factory, tuned) = (nothing.clone(), nothing);
    Ok(Judged { factory, tuned, changes: None, accuracy_f32: f64::NAN, loss, anomalies: Some(anomalies) })
}

/// Mean f32 loss of the normal samples, and the int8 tails' errors.
fn errors(device: &mut Device, test: &[Labelled], mut done: impl FnMut()) -> Result<(f64, Anomalies)> {
    let [mut before, mut after] = [(); 2].map(|()| [Vec::new(), Vec::new()]);
    let mut loss_sum = 0.0;
    for (input, label) in test {
        let request = Request::JudgeTarget { target: None, input: bytemuck::cast_slice(input) };
        let Answer::Compared { factory, tuned_f32, tuned_int8 } = device.ask(&request)? else {
            bail!("the device did not answer with errors");
        };
        let kind = usize::from(*label != 0);
        before[kind].push(factory);
        after[kind].push(tuned_int8.unwrap_or(factory));
        loss_sum += if kind == 0 { f64::from(tuned_f32) } else { 0.0 };
        done();
    }
    Ok((loss_sum / before[0].len().max(1) as f64, objective::anomalies(&before, &after)))
}
