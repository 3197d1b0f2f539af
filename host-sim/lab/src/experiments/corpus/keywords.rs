//! Keywords through the front layers of MLPerf Tiny's keyword network, for a speaker of the test set.

use super::{Corpus, ReadOnce, head_of, latents};
use crate::experiments::task::Task;
use anyhow::{Context, Result};
use flatmin::Affine;
use flatmin_model::model::Model;
use flatmin_sim::subject::Labelled;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Values of a clip: 49 frames of 10 coefficients.
const CLIP: usize = 490;
/// Speakers with fewer clips are no subjects.
const FEWEST: usize = 30;

struct Clip {
    latent: Labelled,
    speaker: String,
}

struct Clips {
    all: Vec<Clip>,
    /// Speakers with enough clips, the one whom the network understands worst first.
    speakers: Vec<String>,
}

fn clips(folder: &Path) -> Result<Arc<Clips>> {
    static CLIPS: ReadOnce<Clips> = ReadOnce::new();
    CLIPS.get(folder, Clips::read)
}

fn model(folder: &Path) -> Result<Model> {
    Model::open(&Task::Speakers.network_path(folder).context("the keyword network is missing")?)
}

impl Clips {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("kws_speech_commands/test4890_mfcc_i8.bin");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let inputs: Vec<&[i8]> = bytemuck::cast_slice(&bytes).chunks_exact(CLIP).collect();
        let (_, latents): (Affine, _) = latents(&model(folder)?, &inputs)?;
        let path = folder.join("kws_speech_commands/test4890.csv");
        let mut table =
            csv::Reader::from_path(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (mut all, mut counts): (_, BTreeMap<String, (usize, usize)>) = (Vec::new(), BTreeMap::new());
        for (row, latent) in table.records().zip(latents) {
            let row = row.with_context(|| path.display().to_string())?;
            let field = |index: usize| row.get(index).context("test4890.csv: a field is missing");
            let (label, speaker) = (field(3)?, field(4)?);
            let right = label == field(5)?;
            let count = counts.entry(speaker.to_owned()).or_default();
            *count = (count.0 + 1, count.1 + usize::from(right));
            all.push(Clip { latent: (latent, label.parse()?), speaker: speaker.to_owned() });
        }
        let mut speakers: Vec<(f64, String)> = counts
            .into_iter()
            .filter(|(name, (count, _))| name != "-" && *count >= FEWEST)
            .map(|(name, (count, right))| (right as f64 / count as f64, name))
            .collect();
        speakers.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        Ok(Self { all, speakers: speakers.into_iter().map(|(_, name)| name).collect() })
    }
}

/// A speaker as the subject: the first half of the clips of each keyword adapts, the rest tests. The factory knows the other
/// speakers.
pub fn new_speaker(folder: &Path, rank: usize) -> Result<Corpus> {
    let clips = clips(folder)?;
    let (network, classes) = head_of(&model(folder)?)?;
    let subject = clips.speakers.get(rank).context("there is no such speaker")?;
    let (own, others): (Vec<&Clip>, Vec<&Clip>) = clips.all.iter().partition(|clip| clip.speaker == *subject);
    let known = others.into_iter().map(|clip| clip.latent.clone()).collect();
    let (mut pool, mut test) = (Vec::new(), Vec::new());
    for class in 0..classes {
        let own: Vec<&&Clip> = own.iter().filter(|clip| clip.latent.1 == class).collect();
        let (first, second) = own.split_at(own.len().div_ceil(2));
        pool.extend(first.iter().map(|clip| clip.latent.clone()));
        test.extend(second.iter().map(|clip| clip.latent.clone()));
    }
    Ok(Corpus { network, known, pool, test, classes })
}
