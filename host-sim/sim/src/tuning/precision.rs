//! Where int8 answers worse than f32: which layer loses it.

use super::tuner_arena;
use crate::subject::{Labelled, Subject};
use crate::watch::Watch;
use anyhow::Result;
use flatmin::{Arithmetic, Recipe, Tuner};
use flatmin_model::model::Model;
use flatmin_model::packer::Step;
use flatmin_model::tflite;

/// Test samples that are looked at, spread over all.
const MOST_SAMPLES: usize = 256;

/// A warning that names the layer, and what it keeps of the factory, if anything.
pub(super) fn what_loses<'p, A: Arithmetic<'p>>(
    tuner: &Tuner<'p, A>,
    subject: &Subject,
    [f32, int8]: [f64; 2],
    watch: &impl Watch,
) -> Result<String> {
    let network = &subject.model.network;
    let mut reasons = Vec::new();
    if let Some(tuned) = tuned_model(tuner, &subject.model) {
        let cut = network.steps.len().min(usize::from(tuner.pack().trunk_operators()));
        let layers = network.steps[cut..].iter().filter(|step| step.has_weights()).count();
        let lost = lost_by_layer(&tuned, layers, &subject.test, watch)?;
        let most = lost.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        // What no layer's outputs lose is lost by the weights of all.
        if let Some((place, most)) = most.filter(|(_, most)| 2.0 * **most >= f32 - int8) {
            let layer = network.steps.iter().rev().filter(|step| step.has_weights()).nth(place);
            reasons.extend(layer.map(|layer| {
                let points = 100.0 * most;
                format!("operator {} ({}) loses {points:.1} points of it", layer.index, layer.name)
            }));
        } else {
            reasons.push("no layer alone loses most of it".into());
        }
    }
    reasons.extend(tuner.tuned_layers().filter(|tuned| !tuned.layer.refit).filter_map(|tuned| {
        let layer = network.steps.get(usize::from(tuned.layer.index))?;
        let storage = network.tensors[layer.output].storage;
        let reads = |step: &&Step| step.inputs().any(|tensor| network.tensors[tensor].storage == storage);
        let reader = network.steps.iter().find(reads)?;
        Some(format!(
            "operator {} ({}) keeps the factory's output range, since operator {} ({}) reads it",
            layer.index, layer.name, reader.index, reader.name
        ))
    }));
    reasons.push("tune fewer layers, or take a lower learning rate".into());
    Ok(format!(
        "{}: int8 answers {:.1} % right, f32 {:.1} %: {}",
        subject.name,
        100.0 * int8,
        100.0 * f32,
        reasons.join("; ")
    ))
}

/// The tuned network as a file of its own; `None` of what cannot be one.
fn tuned_model<'p, A: Arithmetic<'p>>(tuner: &Tuner<'p, A>, model: &Model) -> Option<Model> {
    if !model.is_tflite() || tuner.pack().spare_classes() > 0 {
        return None;
    }
    let steps = &model.network.steps;
    let places: Vec<usize> =
        tuner.tuned_layers().map(|tuned| steps[usize::from(tuned.layer.index)].index).collect();
    let replaced = model.with_file(|bytes| tflite::replace_layers(bytes, &places, tuner.tuned_layers()));
    let tuned = Model::parse("the tuned model".into(), &replaced.ok()?.ok()?).ok()?;
    Some(tuned.with_loss(model.network.loss))
}

/// Share of right answers that each of the last `layers` layers loses in int8, the last one first: all in front of it is in
/// int8, and what follows it in f32 with the weights that int8 has.
fn lost_by_layer(tuned: &Model, layers: usize, test: &[Labelled], watch: &impl Watch) -> Result<Vec<f64>> {
    let samples: Vec<&Labelled> = test.iter().step_by(test.len().div_ceil(MOST_SAMPLES).max(1)).collect();
    let mut accuracies = Vec::new();
    for in_f32 in 0..=layers {
        let file = tuned.pack(in_f32.max(1))?;
        let recipe = Recipe { replay_capacity: 1, ..Recipe::DEFAULT };
        let mut words = tuner_arena(&file, &recipe);
        let mut tuner: Tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
        let mut right = 0;
        for (input, label) in &samples {
            watch.pause()?;
            let answer = if in_f32 == 0 {
                let output = tuner.infer(input, flatmin::Version::Factory)?.to_vec();
                tuner.answer(&output, flatmin::Version::Factory)
            } else {
                tuner.score(input, *label)?.class
            };
            right += usize::from(answer == *label);
        }
        accuracies.push(f64::from(u32::try_from(right)?) / samples.len().max(1) as f64);
    }
    Ok(accuracies.windows(2).map(|pair| pair[1] - pair[0]).collect())
}
