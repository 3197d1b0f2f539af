//! What a model makes of calibration samples: statistics of the last layer's input, for heads in closed form.

use anyhow::{Context, Result, bail};
use flatmin::{Recipe, Tuner, Version};
use flatmin_model::model::Model;
use flatmin_model::packer::statistics::statistics;
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
    let file = model.pack(1)?;
    let sizes = file.pack().sizes();
    if sizes.last_features == 0 || sizes.last_features != sizes.feature_length {
        bail!("calibration is for models that end in a fully connected layer of classes");
    }
    let classes = file.pack().known_classes();
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
                let label = match labels {
                    Some(labels) => *labels.get(PART * part + index).context("a sample has no label")?,
                    None => tuner.classify_latent(&latent, Version::Factory)?.label,
                };
                anyhow::Ok((latent.iter().map(|&q| i16::from(q) - zero).collect(), label))
            };
            inputs.iter().enumerate().map(one).collect::<Result<_>>()
        })
        .collect::<Result<_>>()?;
    statistics(&parts.concat(), classes).with_context(|| {
        format!("calibration needs samples of each of the model's {classes} classes, with labels below that")
    })
}
