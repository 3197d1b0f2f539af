//! Keywords from wav files: the front end's features against the benchmark's own, and what is refused of a folder.

use crate::skipping::{shared, slowly};
use flatmin::mfcc::{FEATURES, Mfcc};
use flatmin::{Affine, Version};
use flatmin_model::model::Model;
use flatmin_sim::sensors::keywords::{WORDS, clips, pcm, subject};
use std::fs;
use std::path::{Path, PathBuf};

fn classes() -> Vec<String> {
    WORDS.map(String::from).into()
}

fn write_wav(path: &Path, channels: u16, sample_rate: u32, samples: &[i16]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let spec = hound::WavSpec {
        channels,
        sample_rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|&sample| wav.write_sample(sample).unwrap());
    wav.finalize().unwrap();
}

#[test]
fn clips_are_found_by_class_and_speaker() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["up/a1_0.wav", "_silence_/a1.WAV", "up/b2_0.wav", "go/a1_0.wav", "go/readme.txt"];
    for name in names {
        write_wav(&folder.path().join(name), 1, 16_000, &[1, -2, 3]);
    }
    let found = |speaker| {
        let clips = clips(folder.path(), &classes(), speaker).unwrap();
        let name = |path: &Path| path.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned();
        clips.iter().map(|clip| (name(&clip.path), clip.label)).collect::<Vec<_>>()
    };
    let expected = [("go/a1_0.wav", 1), ("up/a1_0.wav", 8), ("up/b2_0.wav", 8), ("_silence_/a1.WAV", 10)];
    let expected: Vec<_> = expected.map(|(name, label)| (name.to_owned(), label)).into();
    assert_eq!(found(None), expected);
    assert_eq!(found(Some("b2")), expected[2..3]);
    assert_eq!(pcm(&folder.path().join("up/b2_0.wav")).unwrap(), [1, -2, 3]);
}

#[test]
fn what_cannot_be_heard_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |speaker| format!("{:#}", clips(folder.path(), &classes(), speaker).unwrap_err());
    assert!(refusal(None).contains("FOLDER/CLASS/NAME.wav"), "{}", refusal(None));
    let (stereo, slow) = (folder.path().join("up/stereo.wav"), folder.path().join("up/slow.wav"));
    write_wav(&stereo, 2, 16_000, &[1, 2]);
    write_wav(&slow, 1, 8_000, &[1, 2]);
    for (path, what) in [(&stereo, "2 channel(s)"), (&slow, "8000 Hz")] {
        let refusal = format!("{:#}", pcm(path).unwrap_err());
        assert!(refusal.contains(what) && refusal.contains("ffmpeg"), "{refusal}");
    }
    fs::write(&slow, b"not a wav file").unwrap();
    assert!(format!("{:#}", pcm(&slow).unwrap_err()).contains("slow.wav"));
    assert!(refusal(Some("nobody")).contains("speaker nobody"));
    write_wav(&folder.path().join("maybe/a.wav"), 1, 16_000, &[1]);
    assert!(refusal(None).contains("no class is called maybe"), "{}", refusal(None));
    // A network for another sensor.
    let model = Model::bundled("wearer".into(), flatmin_sim::wearers::model_bytes(1).unwrap()).unwrap();
    let refusal = format!("{:#}", subject(model, &[], &classes(), 0.0, 1).unwrap_err());
    assert!(refusal.contains("600 values") && refusal.contains("490"), "{refusal}");
}

/// Where the benchmark's features and the recordings that they were made of lie.
fn speech_commands() -> Option<PathBuf> {
    shared("data/kws_speech_commands").filter(|_| slowly("hundreds of recordings"))
}

/// The features that TensorFlow made of 617 recordings for the benchmark.
#[test]
fn features_are_the_benchmarks() {
    let Some(folder) = speech_commands() else { return };
    let rows = fs::read(folder.join("test4890_mfcc_i8.bin")).unwrap();
    let list = fs::read_to_string(folder.join("test4890.csv")).unwrap();
    let input = Affine { scale: 0.584_702_9, zero_point: 83 };
    let (mut mfcc, mut files, mut exact, mut furthest) = (Mfcc::new(), 0, 0, 0);
    for (line, row) in list.lines().skip(1).zip(rows.chunks_exact(FEATURES)) {
        let path = folder.join("wav").join(line.split(',').nth(1).unwrap().replace(".wav.wav", ".wav"));
        if !path.exists() {
            continue;
        }
        mfcc.clip(&pcm(&path).unwrap());
        let mut features = [0; FEATURES];
        mfcc.features(input, &mut features);
        for (&found, &expected) in features.iter().zip(row) {
            let steps = (i16::from(found) - i16::from(expected.cast_signed())).abs();
            exact += usize::from(steps == 0);
            furthest = furthest.max(steps);
        }
        files += 1;
    }
    let values = files * FEATURES;
    println!("{files} recordings: {exact} of {values} features exact, the furthest {furthest} step(s) off");
    assert_eq!(files, 617);
    assert!(furthest <= 1 && (values - exact) * 1000 <= values);
}

/// A new speaker, with the network that the benchmark ships: tuned on every second clip, tested on the others.
#[test]
fn a_new_speaker_is_understood_better_after_tuning() {
    let Some(folder) = speech_commands() else { return };
    let model = folder.join("../../models/mlperf-tiny/keyword_spotting/kws_ref_model.tflite");
    let clips = clips(&folder.join("wav"), &classes(), Some("893705bb")).unwrap();
    assert_eq!(clips.len(), 127);
    let subject = subject(Model::open(&model).unwrap(), &clips, &classes(), 0.0, 1).unwrap();
    // The list has the network's answers to the benchmark's features.
    let file = subject.model.pack(1).unwrap();
    let mut words = vec![0u128; file.pack().sizes().train_bytes(&flatmin::Recipe::DEFAULT).div_ceil(16)];
    let mut tuner =
        flatmin::Tuner::new(file.pack(), flatmin::Recipe::DEFAULT, bytemuck::cast_slice_mut(&mut words))
            .unwrap();
    let right = (subject.adaptation.iter().chain(&subject.test))
        .filter(|(input, label)| {
            let output = tuner.infer(input, Version::Factory).unwrap();
            output.iter().zip(0..).max_by_key(|&(value, class)| (value, -class)).unwrap().1 as usize == *label
        })
        .count();
    let list = fs::read_to_string(folder.join("test4890.csv")).unwrap();
    let listed = list.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let listed = listed.filter(|row| row[4] == "893705bb" && row[3] == row[5]).count();
    assert_eq!(right, listed, "the benchmark's own predictions");
    let recipe = flatmin::Recipe {
        method: flatmin::Method::Asam,
        rho: 0.5,
        learning_rate: 0.2,
        label_smoothing: 0.0,
        ..flatmin::Recipe::DEFAULT
    };
    let run = flatmin_sim::tuning::tune(&subject, 1, recipe, || ()).unwrap();
    let [before, after] = [run.factory_accuracy, run.accuracy_int8];
    println!("factory {before:.3}, tuned {after:.3} of {} clips", subject.test.len());
    assert!(after > before + 0.15, "{before} {after}");
}
