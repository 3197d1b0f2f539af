//! Spoken digits through the front layers of MLPerf Tiny's keyword network.

use super::{Corpus, ReadOnce, factory, latents};
use crate::experiments::dense;
use crate::experiments::start::Pretraining;
use crate::experiments::task::Task;
use anyhow::{Context, Result, ensure};
use flatmin::Affine;
use flatmin_model::model::Model;
use flatmin_sim::subject::Labelled;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Values of a clip: 49 frames of 10 coefficients.
const CLIP: usize = 490;
const DIGITS: usize = 10;
const HIDDEN: usize = 32;
/// Takes of a digit up to this one are tested on, as the data set's authors split it and some more.
const TEST_TAKES: usize = 20;

/// A clip's latent.
struct Clip {
    latent: Labelled,
    speaker: usize,
    take: usize,
}

/// The clips of all speakers.
struct Clips {
    affine: Affine,
    all: Vec<Clip>,
}

fn clips(folder: &Path) -> Result<Arc<Clips>> {
    static CLIPS: ReadOnce<Clips> = ReadOnce::new();
    CLIPS.get(folder, Clips::read)
}

impl Clips {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("fsdd/fsdd3000_mfcc_i8.bin");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let inputs: Vec<&[i8]> = bytemuck::cast_slice(&bytes).chunks_exact(CLIP).collect();
        let model =
            Model::open(&Task::Digits.network_path(folder).context("the keyword network is missing")?)?;
        let (affine, latents) = latents(&model, &inputs)?;
        let path = folder.join("fsdd/fsdd.csv");
        let mut table =
            csv::Reader::from_path(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (mut all, mut speakers): (_, Vec<String>) = (Vec::new(), Vec::new());
        for (row, latent) in table.records().zip(latents) {
            let row = row.with_context(|| path.display().to_string())?;
            let field = |index: usize| row.get(index).context("fsdd.csv: a field is missing");
            let name = field(3)?;
            let speaker = speakers.iter().position(|known| known == name).unwrap_or_else(|| {
                speakers.push(name.to_owned());
                speakers.len() - 1
            });
            all.push(Clip {
                latent: (latent, field(2)?.parse()?),
                speaker: speaker + 1,
                take: field(4)?.parse()?,
            });
        }
        ensure!(speakers.len() == Task::Digits.subjects(), "fsdd.csv has {} speakers", speakers.len());
        Ok(Self { affine, all })
    }

    fn of(&self, wanted: impl Fn(&Clip) -> bool) -> Vec<Labelled> {
        self.all.iter().filter(|clip| wanted(clip)).map(|clip| clip.latent.clone()).collect()
    }
}

/// The factory's head knows the other five speakers.
pub fn new_speaker(folder: &Path, subject: usize, pretraining: Option<Pretraining>) -> Result<Corpus> {
    let clips = clips(folder)?;
    let others = clips.of(|clip| clip.speaker != subject);
    let network = factory(clips.affine, &[64, HIDDEN, DIGITS], &others, 30, pretraining)?;
    Ok(Corpus {
        network,
        known: others,
        pool: clips.of(|clip| clip.speaker == subject && clip.take >= TEST_TAKES),
        test: clips.of(|clip| clip.speaker == subject && clip.take < TEST_TAKES),
        classes: DIGITS,
    })
}

/// No digit is known; the samples are the other five speakers'.
pub fn new_keywords(folder: &Path, subject: usize) -> Result<Corpus> {
    let clips = clips(folder)?;
    Ok(Corpus {
        network: dense::network(clips.affine, &[64, HIDDEN, DIGITS]),
        known: Vec::new(),
        pool: clips.of(|clip| clip.speaker != subject),
        test: clips.of(|clip| clip.speaker == subject),
        classes: DIGITS,
    })
}
