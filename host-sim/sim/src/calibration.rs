//! What a model makes of calibration samples: statistics of the last layer's input, for heads in closed form.

use anyhow::{Context, Result, bail, ensure};
use flatmin::internals::pack::MAX_LAYERS;
use flatmin::{IntegerTuner, Recipe, Tuner, Version};
use flatmin_model::model::Model;
use flatmin_model::packer::statistics::{Sums, statistics};
use flatmin_model::packer::{PackFile, TailPlan, Trains};
use flatmin_model::training::Tail;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Samples whose gradients are looked at, spread over all.
const MOST_SAMPLES: usize = 128;
/// Samples that one worker takes at once.
const PART: usize = 250;

/// The model with class means and the covariance within classes of what its last layer reads, for `inputs` that the
/// factory has. Without labels the model's own answers stand in.
///
/// # Errors
/// A model that does not end in a fully connected layer of classes; a class without a sample.
pub fn calibrated(mut model: Model, inputs: &[Vec<i8>], labels: Option<&[usize]>) -> Result<Model> {
    let own = of_features(&model, inputs, labels).with_context(|| model.name.clone())?;
    model.network.statistics = Some(own);
    model.network.energies = energies(&model, inputs, labels);
    Ok(model)
}

/// Mean of the squared gradients of each input channel's weights, for every layer that can be trained, over some of these
/// samples, by step; nothing of a model that integer tails do not take. Without labels the model's own answers stand in.
fn energies(model: &Model, inputs: &[Vec<i8>], labels: Option<&[usize]>) -> BTreeMap<usize, Vec<f64>> {
    // A list of all input channels, so that fully connected layers alone are no chain.
    let layers = model.network.trainable_layers().min(MAX_LAYERS);
    let plan = TailPlan { layers, trains: vec![Trains::Inputs(100); layers] };
    let Ok(file) = model.pack(plan) else { return BTreeMap::new() };
    let recipe = Recipe { replay_capacity: 1, ..Recipe::INTEGER };
    let step = inputs.len().div_ceil(MOST_SAMPLES).max(1);
    let some: Vec<usize> = (0..inputs.len()).step_by(step).collect();
    let of_part = |part: &[usize]| {
        let mut words = Tail::Integer.arena(&file, &recipe);
        let mut tuner =
            IntegerTuner::in_arena(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).ok()?;
        let mut sums = vec![0.0; file.pack().sizes().tail_weights];
        for &index in part {
            let latent = tuner.latent(&inputs[index]).ok()?.to_vec();
            let label = match labels {
                Some(labels) => *labels.get(index)?,
                None => tuner.classify_latent(&latent, Version::Factory).ok()?.label,
            };
            tuner.add_energies(&latent, label, &mut sums);
        }
        Some(sums)
    };
    // Parts of one size whatever the machine: sums have one order.
    let parts: Option<Vec<Vec<f64>>> = some.par_chunks(MOST_SAMPLES / 8).map(of_part).collect();
    let Some(parts) = parts else { return BTreeMap::new() };
    let mut energies = BTreeMap::new();
    let mut first = 0;
    for layer in file.pack().trained_layers().filter(|layer| layer.outputs > 0) {
        let channels = layer.input_channels();
        let own = energies.entry(usize::from(layer.index)).or_insert_with(|| vec![0.0; channels]);
        for part in &parts {
            let weights = &part[first..first + layer.weights()];
            weights.iter().enumerate().for_each(|(at, energy)| own[at % channels] += energy);
        }
        own.iter_mut().for_each(|sum| *sum /= some.len().max(1) as f64);
        first += layer.weights();
    }
    energies
}

fn of_features(model: &Model, inputs: &[Vec<i8>], labels: Option<&[usize]>) -> Result<Vec<u8>> {
    let file = packed(model)?;
    let classes = file.pack().known_classes();
    let label = |index: usize, latent: &[i8], tuner: &mut Tuner| match labels {
        Some(labels) => labels.get(index).copied().context("a sample has no label"),
        None => Ok(tuner.classify_latent(latent, Version::Factory)?.label),
    };
    statistics(&read(&file, inputs, label)?, classes).with_context(|| needed(classes))
}

fn needed(classes: usize) -> String {
    format!("calibration needs samples of each of the model's {classes} classes, with labels below that")
}

/// What the last layer reads for each input, in steps above the zero point.
///
/// # Errors
/// A model that does not end in a fully connected layer of classes.
pub fn features(model: &Model, inputs: &[Vec<i8>]) -> Result<Vec<Vec<i16>>> {
    let rows = || read(&packed(model)?, inputs, |_, _, _| Ok(0));
    Ok(rows().with_context(|| model.name.clone())?.into_iter().map(|(row, _)| row).collect())
}

/// The model with the statistics of these sums of [`features`]: those of [`calibrated`] with the samples that were summed, up to
/// the rounding of f64.
///
/// # Errors
/// As [`calibrated`]; sums of other classes or features than the model's.
pub fn of_sums(mut model: Model, sums: &Sums) -> Result<Model> {
    let own = || {
        let file = packed(&model)?;
        let (classes, features) = (file.pack().known_classes(), file.pack().sizes().last_features);
        let fits = sums.counts.len() == classes && sums.sums.len() == classes * features;
        ensure!(fits, "sums of other classes or features than the model's {classes} and {features}");
        sums.statistics().with_context(|| needed(classes))
    };
    model.network.statistics = Some(own().with_context(|| model.name.clone())?);
    Ok(model)
}

/// The model with its last layer as tail.
fn packed(model: &Model) -> Result<PackFile> {
    let file = model.pack(1)?;
    let sizes = file.pack().sizes();
    if sizes.last_features == 0 || sizes.last_features != sizes.feature_length {
        bail!("calibration is for models that end in a fully connected layer of classes");
    }
    Ok(file)
}

/// Features of each input, with the label that `label` gives.
fn read(
    file: &PackFile,
    inputs: &[Vec<i8>],
    label: impl Fn(usize, &[i8], &mut Tuner) -> Result<usize> + Sync,
) -> Result<Vec<(Vec<i16>, usize)>> {
    let sizes = file.pack().sizes();
    let zero = file.pack().feature().affine.zero_point as i16;
    let recipe = Recipe { replay_capacity: 1, ..Recipe::DEFAULT };
    let parts: Vec<Vec<(Vec<i16>, usize)>> = inputs
        .par_chunks(PART)
        .enumerate()
        .map(|(part, inputs)| {
            let mut words = vec![0_u128; sizes.train_bytes(&recipe).div_ceil(16)];
            let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
            let one = |(index, input): (usize, &Vec<i8>)| {
                let latent = tuner.latent(input)?.to_vec();
                let label = label(PART * part + index, &latent, &mut tuner)?;
                anyhow::Ok((latent.iter().map(|&q| i16::from(q) - zero).collect(), label))
            };
            inputs.iter().enumerate().map(one).collect::<Result<_>>()
        })
        .collect::<Result<_>>()?;
    Ok(parts.concat())
}
