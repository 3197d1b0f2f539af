//! What a model makes of calibration samples: statistics of the last layer's input, for heads in closed form.

use anyhow::{Context, Result, bail, ensure};
use flatmin::{Recipe, Tuner, Version};
use flatmin_model::model::Model;
use flatmin_model::packer::PackFile;
use flatmin_model::packer::statistics::{Sums, statistics};
use rayon::prelude::*;

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
    Ok(model)
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
