//! Keywords: a folder of wav files through the microphone's front end ([`flatmin::mfcc`]).

use crate::model::Model;
use crate::tuning::{Labelled, Subject, add_noise, input_affine};
use anyhow::{Context, Result, bail, ensure};
use flatmin::mfcc::{FEATURES, Mfcc, SAMPLE_RATE_HZ};
use std::path::{Path, PathBuf};

/// Classes of MLPerf Tiny's DS-CNN, in its order.
pub const WORDS: [&str; 12] =
    ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown"];

/// A wav file and what is said in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// The file.
    pub path: PathBuf,
    /// Index of the class that its folder is named after.
    pub label: usize,
}

/// The clips of a folder whose subfolders are named after classes; underscores around a name do not count. With a speaker,
/// those alone whose file names contain it. Class after class, then by file name.
///
/// # Errors
/// A folder that cannot be read, a subfolder with wav files and no class, or no clip at all.
pub fn clips(folder: &Path, classes: &[String], speaker: Option<&str>) -> Result<Vec<Clip>> {
    let mut clips = Vec::new();
    for subfolder in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        let name = file_name(&subfolder);
        let label = classes.iter().position(|class| class.trim_matches('_') == name.trim_matches('_'));
        for path in entries(&subfolder)? {
            if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("wav")) {
                continue;
            }
            let Some(label) = label else {
                bail!(
                    "{}: no class is called {name}; name the model's classes in their order with --classes",
                    subfolder.display()
                )
            };
            if speaker.is_none_or(|speaker| file_name(&path).contains(speaker)) {
                clips.push(Clip { path, label });
            }
        }
    }
    clips.sort_by(|a, b| (a.label, &a.path).cmp(&(b.label, &b.path)));
    match speaker {
        _ if !clips.is_empty() => Ok(clips),
        Some(speaker) => bail!("{}: no wav file of speaker {speaker} in its subfolders", folder.display()),
        None => {
            bail!("{}: no wav file in its subfolders; FOLDER/CLASS/NAME.wav is looked for", folder.display())
        }
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let entries: std::io::Result<Vec<PathBuf>> = read();
    entries.with_context(|| format!("cannot read the folder {}", folder.display()))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The samples of a wav file.
///
/// # Errors
/// Anything but 16-bit PCM of one channel and [`SAMPLE_RATE_HZ`].
pub fn pcm(path: &Path) -> Result<Vec<i16>> {
    let read = || -> Result<Vec<i16>> {
        let mut wav = hound::WavReader::open(path)?;
        let hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format } = wav.spec();
        ensure!(
            (channels, sample_rate) == (1, SAMPLE_RATE_HZ as u32)
                && (bits_per_sample, sample_format) == (16, hound::SampleFormat::Int),
            "16-bit PCM of one channel and {SAMPLE_RATE_HZ} Hz is wanted, this has {bits_per_sample} bits \
             ({sample_format:?}), {channels} channel(s) and {sample_rate} Hz; convert it: \
             ffmpeg -i IN.wav -ac 1 -ar 16000 -c:a pcm_s16le OUT.wav"
        );
        Ok(wav.samples::<i16>().collect::<Result<_, _>>()?)
    };
    read().with_context(|| path.display().to_string())
}

/// A network that listens and a speaker's clips: of every class, in the order given, the first, third … adapt, the others
/// test.
///
/// # Errors
/// A network of another input or number of classes, a file that is no such clip, or nothing to test on.
pub fn subject(
    model: Model,
    clips: &[Clip],
    classes: &[String],
    label_noise: f64,
    seed: u64,
) -> Result<Subject> {
    let (values, outputs): (usize, usize) =
        (model.input_shape().iter().product(), model.output_shape().iter().product());
    ensure!(
        values == FEATURES,
        "{}: its input has {values} values; the front end gives {FEATURES}: 49 frames of 10 coefficients",
        model.name
    );
    ensure!(outputs == classes.len(), "{}: {outputs} classes, {} are named", model.name, classes.len());
    let affine = input_affine(&model)?;
    let mut mfcc = Box::new(Mfcc::new());
    let mut halves: [Vec<Labelled>; 2] = Default::default();
    let mut seen = vec![0; classes.len()];
    for clip in clips {
        mfcc.clip(&pcm(&clip.path)?);
        let mut features = [0; FEATURES];
        mfcc.features(affine, &mut features);
        halves[seen[clip.label] % 2].push((features.to_vec(), clip.label));
        seen[clip.label] += 1;
    }
    let [mut adaptation, test] = halves;
    ensure!(
        !test.is_empty(),
        "{}: two clips of a class at least are needed, one to tune on and one to test",
        model.name
    );
    add_noise(&mut adaptation, classes.len(), label_noise, seed);
    Ok(Subject {
        name: model.name.clone(),
        model,
        classes: classes.to_vec(),
        adaptation,
        test,
        origin: crate::tuning::Origin::default(),
    })
}
