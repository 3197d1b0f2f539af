//! A tuned network as a `.tflite` again.

use crate::model::Model;
use crate::objective;
use crate::packer::TailPlan;
use crate::tflite;
use crate::tuning::{Subject, sized, tuner_arena};
use anyhow::{Context, Result, bail};
use flatmin::{Recipe, Tuner, Version};

/// An exported network.
#[derive(Debug)]
pub struct Export {
    /// The `.tflite`.
    pub bytes: Vec<u8>,
    /// The tuned tail, as [`Tuner::read_tail`] gives it.
    pub tail: Vec<u8>,
    /// Samples whose outputs were compared with the device's, all of them equal byte by byte.
    pub checked: usize,
}

/// Tunes the last `layers` layers and writes them into the subject's model file. The result is read back, and its
/// outputs are compared with those of the tuned device.
///
/// # Errors
/// What the runtime refuses; a file that has no room for the layers; outputs that differ.
pub fn export(
    subject: &Subject,
    tail: impl Into<TailPlan>,
    recipe: Recipe,
    epoch_done: impl Fn(),
) -> Result<Export> {
    if !subject.model.is_tflite() {
        bail!("{}: only a .tflite can be exported", subject.model.name);
    }
    let recipe = sized(subject, recipe)?;
    let file = subject.model.pack(tail)?;
    let mut words = tuner_arena(&file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    for (input, label) in &subject.adaptation {
        objective::observe(&mut tuner, input, *label)?;
    }
    tuner.start(recipe)?;
    loop {
        let report = tuner.step()?;
        if report.epoch_finished {
            epoch_done();
        }
        if report.finished {
            break;
        }
    }
    tuner.requantize()?;
    let network = &subject.model.network;
    // Operators lie in the pack as in the network.
    let places: Vec<usize> =
        tuner.tuned_layers().map(|tuned| network.steps[usize::from(tuned.layer.index)].index).collect();
    let replaced =
        subject.model.with_file(|bytes| tflite::replace_layers(bytes, &places, tuner.tuned_layers()))?;
    let bytes = replaced.with_context(|| subject.model.name.clone())?;

    let exported = Model::parse("the exported model".into(), &bytes)?;
    let pack = exported.pack(0)?;
    let mut arena = vec![0; pack.pack().sizes().arena_bytes];
    for (sample, (input, _)) in subject.test.iter().enumerate() {
        if tuner.classify(input, Version::Tuned)? != flatmin::infer(&pack.pack(), input, &mut arena) {
            bail!("{}: the exported model answers test sample {sample} differently", subject.name);
        }
    }
    let mut tail = vec![0; tuner.tail_bytes()];
    tuner.read_tail(0, &mut tail)?;
    Ok(Export { bytes, tail, checked: subject.test.len() })
}
