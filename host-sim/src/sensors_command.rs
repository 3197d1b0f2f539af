//! `flatmin sensors`: the sensors' applications, fed from recordings.

use crate::arguments::TuneOptions;
use crate::{json, print, show, tuned};
use anyhow::Result;
use clap::{Args, Subcommand};
use flatmin::mfcc::Mfcc;
use host_sim::model::Model;
use host_sim::sensors::keywords::{self, WORDS};
use std::path::PathBuf;

/// Which sensor.
#[derive(Debug, Args)]
pub struct SensorsArguments {
    #[command(subcommand)]
    sensor: Sensor,
}

#[derive(Debug, Subcommand)]
enum Sensor {
    /// Keywords from a microphone: wav files through the front end, the last layers tuned to a new speaker
    #[command(
        after_help = "Examples:\n  flatmin sensors keywords kws_ref_model.tflite --wavs clips --speaker 893705bb\n  \
        flatmin sensors keywords model.tflite --wavs clips --classes on,off,unknown --json"
    )]
    Keywords {
        /// A keyword spotting network that reads MLPerf Tiny's features, 49 frames of 10 coefficients
        model: PathBuf,
        /// FOLDER/CLASS/NAME.wav: 16-bit PCM, one channel, 16 kHz; of each class every second clip adapts, the others test
        #[arg(long, value_name = "FOLDER")]
        wavs: PathBuf,
        /// Only files whose names contain this
        #[arg(long)]
        speaker: Option<String>,
        /// The network's classes in its order
        #[arg(long, value_delimiter = ',', default_values_t = WORDS.map(String::from))]
        classes: Vec<String>,
        #[command(flatten)]
        options: TuneOptions,
    },
}

pub fn run(arguments: SensorsArguments) -> Result<()> {
    match arguments.sensor {
        Sensor::Keywords { model, wavs, speaker, classes, options } => {
            let model = Model::open(&model)?;
            let clips = keywords::clips(&wavs, &classes, speaker.as_deref())?;
            let subject = keywords::subject(model, &clips, &classes, options.label_noise, options.seed)?;
            let title = format!("{}, {}", subject.name, speaker.as_deref().unwrap_or("all speakers"));
            // A keyword network's last layer stands behind a pool: it alone is tuned unless more is asked for.
            let options = TuneOptions { layers: options.layers.or(Some(1)), ..options };
            let report = tuned(&[subject], &title, &options)?;
            if options.json {
                let mut object = json(&report);
                object["front_end"] =
                    serde_json::json!({ "bytes": Mfcc::BYTES, "by_purpose": Mfcc::BYTES_BY_PURPOSE });
                if let Some(page) = &options.report {
                    report.write_html(page)?;
                }
                return print(serde_json::to_string_pretty(&object)?);
            }
            show(report, &options, options.report.as_deref())?;
            let purposes = Mfcc::BYTES_BY_PURPOSE.map(|(purpose, bytes)| format!("{purpose} {bytes}"));
            print(format_args!("front end, bytes of RAM: {} ({})", Mfcc::BYTES, purposes.join(", ")))
        }
    }
}
