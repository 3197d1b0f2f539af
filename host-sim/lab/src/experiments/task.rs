//! The data that experiments run on.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which data.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, clap::ValueEnum,
)]
pub enum Task {
    /// Ten wearers of a wrist sensor, bundled.
    #[default]
    Wearers,
    /// A new speaker's digits, the other five in the factory's head (Free Spoken Digit Dataset).
    Digits,
    /// Digits as new keywords: a new head, five speakers' clips, tested on the sixth.
    Keywords,
    /// A later batch of a drifting gas-sensor array (UCI), the first two in the factory.
    GasDrift,
    /// A new user of the magic wand, the other two in the factory.
    Gestures,
    /// JPEG artefacts for ResNet-8 (CIFAR-10), last three layers with weights.
    Images,
    /// A new speaker of the keywords that MLPerf Tiny's network knows: the speakers whom it understands worst.
    Speakers,
    /// The speakers whom it understands worst but for those.
    FurtherSpeakers,
    /// JPEG artefacts for ResNet-8, its last layer alone.
    ImageHead,
    /// MNIST-1D, all layers of a convolutional network from random weights; subjects are tenths of its samples.
    Mnist1d,
}

impl Task {
    /// Held-out wearers, speakers, users or batches.
    pub fn subjects(self) -> usize {
        match self {
            Self::Wearers | Self::Mnist1d => 10,
            Self::Digits | Self::Keywords | Self::GasDrift => 6,
            Self::Gestures => 3,
            Self::Images | Self::ImageHead => 2,
            Self::Speakers | Self::FurtherSpeakers => 12,
        }
    }

    /// Whether it is part of the program.
    pub fn is_bundled(self) -> bool {
        self == Self::Wearers
    }

    /// For tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Wearers => "new wearer, exercises",
            Self::Digits => "new speaker, spoken digits",
            Self::Keywords => "new keywords, new head",
            Self::GasDrift => "gas sensors, months later",
            Self::Gestures => "new user, gestures",
            Self::Images => "JPEG images, ResNet-8",
            Self::Speakers => "new speaker, keywords",
            Self::FurtherSpeakers => "further speakers, keywords",
            Self::ImageHead => "JPEG images, last layer",
            Self::Mnist1d => "MNIST-1D",
        }
    }

    /// The file that must lie in the data folder.
    fn file(self) -> &'static str {
        match self {
            Self::Wearers => "",
            Self::Digits | Self::Keywords => "fsdd/fsdd3000_mfcc_i8.bin",
            Self::GasDrift => "gas_drift/batch1.dat",
            Self::Mnist1d => "mnist1d/samples.bin",
            Self::Gestures => "gesture_magic_wand/gestures.csv",
            Self::Images | Self::ImageHead => "cifar10/train4k_jpeg75.bin",
            Self::Speakers | Self::FurtherSpeakers => "kws_speech_commands/test4890_mfcc_i8.bin",
        }
    }

    /// The published network that its data run through: file name, and the folder it is published in.
    fn network(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Digits | Self::Keywords | Self::Speakers | Self::FurtherSpeakers => {
                Some(("kws_ref_model.tflite", "keyword_spotting"))
            }
            Self::Images | Self::ImageHead => Some(("pretrainedResnet_quant.tflite", "image_classification")),
            _ => None,
        }
    }

    /// What is missing in the data folder, if anything is.
    pub fn missing(self, folder: &Path) -> Option<PathBuf> {
        if self.is_bundled() {
            return None;
        }
        let data = folder.join(self.file());
        if !data.exists() {
            return Some(data);
        }
        let (name, _) = self.network()?;
        self.network_path(folder).is_none().then(|| folder.join(name))
    }

    /// Where the network lies: in the data folder, or in MLPerf Tiny's folders beside it.
    pub fn network_path(self, folder: &Path) -> Option<PathBuf> {
        let (name, published) = self.network()?;
        [folder.join(name), folder.join("../models/mlperf-tiny").join(published).join(name)]
            .into_iter()
            .find(|path| path.exists())
    }
}
