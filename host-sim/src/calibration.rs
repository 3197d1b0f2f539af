//! What a model makes of calibration samples: statistics of the last layer's input, for heads in closed form.

use crate::model::Model;
use crate::packer::statistics::statistics as of_features;
use crate::tuning::tuner_arena;
use anyhow::{Context, Result, bail};
use flatmin::{Recipe, Tuner, Version};
use rayon::prelude::*;

/// Samples that one worker takes at once.
const PART: usize = 250;

/// The statistics' bytes.
///
/// # Errors
/// A model whose last layer is no dense classifier's; a class without a sample.
pub fn statistics(model: &Model, inputs: &[Vec<i8>], labels: Option<&[usize]>) -> Result<Vec<u8>> {
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
            let mut words = tuner_arena(&file, &recipe);
            let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
            let one = |(index, input): (usize, &Vec<i8>)| {
                let latent = tuner.latent(input)?.to_vec();
                let label = match labels {
                    Some(labels) => *labels.get(PART * part + index).context("a sample has no label")?,
                    None => {
                        let output = tuner.classify_latent(&latent, Version::Factory)?.to_vec();
                        tuner.answer(&output, Version::Factory)
                    }
                };
                anyhow::Ok((latent.iter().map(|&q| i16::from(q) - zero).collect(), label))
            };
            inputs.iter().enumerate().map(one).collect::<Result<_>>()
        })
        .collect::<Result<_>>()?;
    of_features(&parts.concat(), classes).with_context(|| {
        format!("calibration needs samples of each of the model's {classes} classes, with labels below that")
    })
}
