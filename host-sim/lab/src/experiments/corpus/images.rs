//! CIFAR-10 images as a JPEG encoder leaves them, for MLPerf Tiny's ResNet-8, which knows them without.

use super::{Corpus, head_of, latents};
use crate::experiments::task::Task;
use anyhow::{Context, Result};
use flatmin_model::model::Model;
use flatmin_sim::subject::Labelled;
use std::fs;
use std::path::Path;

const PIXELS: usize = 32 * 32;
/// Test images of a subject: every inference of the front layers is twelve million multiply-adds.
const TESTED: usize = 250;
const POOL: usize = 1_000;

/// Subjects 1 and 2 are other images of the same kind: one chooses for the other.
pub fn compressed(folder: &Path, subject: usize) -> Result<Corpus> {
    let model = Model::open(&Task::Images.network_path(folder).context("ResNet-8 is missing")?)?;
    Ok(Corpus {
        network: model.network,
        known: Vec::new(),
        pool: part(folder, "train4k_jpeg75.bin", subject, POOL)?,
        test: part(folder, "test5k_jpeg75.bin", subject, TESTED)?,
        classes: 10,
    })
}

/// The images as the last layer of ResNet-8 reads them. The factory knows other images, uncompressed ones.
pub fn last_layer(folder: &Path, subject: usize) -> Result<Corpus> {
    let model = Model::open(&Task::Images.network_path(folder).context("ResNet-8 is missing")?)?;
    let (head, _) = head_of(&model)?;
    let behind = |samples: Vec<Labelled>| -> Result<Vec<Labelled>> {
        let inputs: Vec<&[i8]> = samples.iter().map(|(image, _)| image.as_slice()).collect();
        let (_, features) = latents(&model, &inputs)?;
        Ok(features.into_iter().zip(samples).map(|(own, (_, label))| (own, label)).collect())
    };
    Ok(Corpus {
        network: head,
        known: behind(part(folder, "train4k_clean.bin", 2, 2 * POOL)?)?,
        pool: behind(part(folder, "train4k_jpeg75.bin", subject, POOL)?)?,
        test: behind(part(folder, "test5k_jpeg75.bin", subject, 4 * TESTED)?)?,
        classes: 10,
    })
}

fn part(folder: &Path, file: &str, subject: usize, count: usize) -> Result<Vec<Labelled>> {
    let path = folder.join("cifar10").join(file);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let images = bytes.chunks_exact(1 + 3 * PIXELS).skip((subject - 1) * count).take(count);
    Ok(images.map(image).collect())
}

/// Planes of red, green and blue become pixels; the network's input has scale 1 and zero point -128.
fn image(record: &[u8]) -> Labelled {
    let planes = &record[1..];
    let pixel = |at: usize| [0, 1, 2].map(|plane| (i16::from(planes[plane * PIXELS + at]) - 128) as i8);
    ((0..PIXELS).flat_map(pixel).collect(), usize::from(record[0]))
}
