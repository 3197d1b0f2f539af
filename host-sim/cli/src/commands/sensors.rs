//! `flatmin sensors`: the sensors' applications, fed from recordings.

use super::tune::tuned;
use crate::answer::{bar, json, print, print_json, show};
use crate::arguments::{
    BasisArguments, CompactArguments, FurtherArguments, JudgementArguments, PageArguments, PartsArguments,
    StepArguments, TuneOptions,
};
use anyhow::{Result, ensure};
use clap::{Args, Subcommand, value_parser};
use flatmin::Recipe;
use flatmin::mfcc::Mfcc;
use flatmin_model::json::parts;
use flatmin_model::model::Model;
use flatmin_sim::sensors::keywords::{self, WORDS};
use flatmin_sim::sensors::motion::{Replay, Way, Wearer, replay};
use flatmin_sim::wearers::WEARERS;
use std::path::PathBuf;

/// Run the sensors' applications on recordings, as the device does on what it measures
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  flatmin sensors motion --wearer 3\n  \
    flatmin sensors keywords kws_ref_model.tflite --wavs clips --speaker 893705bb")]
pub struct Arguments {
    #[command(subcommand)]
    sensor: Sensor,
}

#[derive(Debug, Subcommand)]
enum Sensor {
    /// Exercises from a motion sensor: a wearer's recordings through a simulated LSM6DSO on I2C and the device's application
    #[command(after_help = "Examples:\n  flatmin sensors motion --wearer 3\n  \
        flatmin sensors motion --wearer 5 --method asam --label-noise 0.2 --json")]
    Motion {
        /// The held-out wearer, 1 to 10
        #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=WEARERS as i64))]
        wearer: u16,
        #[command(flatten)]
        tuning: Tuning,
    },
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
        tuning: Tuning,
        #[command(flatten)]
        compact: CompactArguments,
        #[command(flatten)]
        page: PageArguments,
    },
}

/// How both tune.
#[derive(Debug, Args)]
struct Tuning {
    #[command(flatten)]
    basis: BasisArguments,
    #[command(flatten)]
    parts: PartsArguments,
    #[command(flatten)]
    steps: StepArguments,
    #[command(flatten)]
    judgement: JudgementArguments,
}

impl Tuning {
    fn read(self, compact: CompactArguments, page: PageArguments) -> Result<TuneOptions> {
        let Self { basis, parts, steps, judgement } = self;
        basis.read(FurtherArguments { parts, steps, judgement, compact, page, ..Default::default() })
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.sensor {
        Sensor::Motion { wearer, tuning } => {
            motion(wearer.into(), &tuning.read(CompactArguments::default(), PageArguments::default())?)
        }
        Sensor::Keywords { model, wavs, speaker, classes, tuning, compact, page } => {
            let mut options = tuning.read(compact, page)?;
            ensure!(options.recipe_file.loss.is_none(), "words are classes: leave out --loss");
            let model = Model::open(&model)?;
            let clips = keywords::clips(&wavs, &classes, speaker.as_deref())?;
            let subject = keywords::subject(model, &clips, &classes, options.label_noise(), options.seed())?;
            let title = format!("{}, {}", subject.name, speaker.as_deref().unwrap_or("all speakers"));
            // A keyword network's last layer stands behind a pool: it alone is tuned unless more is asked for.
            options.recipe_file.layers.get_or_insert(1);
            let report = tuned(&[subject], &title, &options, false)?;
            if options.json {
                let mut object = json(&report);
                object["front_end"] =
                    serde_json::json!({ "bytes": Mfcc::BYTES, "by_purpose": parts(&Mfcc::BYTES_BY_PURPOSE) });
                if let Some(page) = &options.report {
                    report.write_html(page)?;
                }
                return print_json(&object);
            }
            show(report, &options, options.report.as_deref())?;
            let purposes = Mfcc::BYTES_BY_PURPOSE.map(|(purpose, bytes)| format!("{purpose} {bytes}"));
            print(format_args!("front end, bytes of RAM: {} ({})", Mfcc::BYTES, purposes.join(", ")))
        }
    }
}

fn motion(wearer: usize, options: &TuneOptions) -> Result<()> {
    ensure!(options.recipe_file.loss.is_none(), "exercises are classes: leave out --loss");
    options.without_closed_form()?;
    options.without_compact()?;
    options.without_spare_classes()?;
    let worn = Wearer::new(wearer, options.windows_per_class.into(), options.label_noise(), options.seed())?;
    let tail = worn.model.tail_plan(options.layers(), options.train())?;
    // As the device ships, by the recipe that its arena is made for; then by every method's steps.
    let mut ways = Vec::new();
    if options.one_method().is_none() {
        ways.push(Way::Shipped(options.recipe(Recipe::DEFAULT.method)));
    }
    ways.extend(options.methods().into_iter().map(|method| Way::Steps(options.recipe(method))));
    let windows = ways.len() * (worn.adaptation.len() + 2 * worn.test.len());
    let bar = bar(windows as u64, "windows, {eta} left")?;
    let replays = (ways.into_iter())
        .map(|way| replay(&worn, &tail, way, &|| bar.inc(1)))
        .collect::<Result<Vec<Replay>>>()?;
    bar.finish_and_clear();
    if options.json {
        return print_json(serde_json::json!({ "runs": replays }));
    }
    print(format_args!(
        "wearer {wearer}: {} labelled windows, {} to test on, through a simulated LSM6DSO",
        worn.adaptation.len(),
        worn.test.len()
    ))?;
    replays.iter().try_for_each(|own| {
        print(format_args!(
            "{:11}  before {:.1} %, after {:.1} %, {}, weights {:#010x}: those of tuning without sensor and application",
            if own.start == "closed-form" { "as it ships" } else { own.method },
            100.0 * own.accuracy_before,
            100.0 * own.accuracy_after,
            match (own.accepted, own.sequence) {
                (false, _) => "factory tail kept".to_owned(),
                (true, None) => "not in flash".to_owned(),
                (true, Some(sequence)) => format!("record {sequence} in flash"),
            },
            own.weights_crc32
        ))
    })
}
