//! Evidence: what SAM and ASAM do for a device that fine-tunes, measured with the crate's own tuner.
//!
//! An experiment is a list of trials, tables of what came of them, and figures. Trials lie as JSON lines in the
//! output folder ([`ledger`]): what is there is not computed again, and shards merge by sharing the folder.

pub mod bench;
mod calibration;
pub mod closed_form;
pub mod comparison;
pub mod contenders;
pub mod corpus;
mod cost;
pub mod dense;
mod early_stopping;
mod features;
pub mod figure;
mod finetune;
mod gate;
mod images;
mod landscape;
mod last_layer;
mod late;
mod learning_rate;
pub mod ledger;
mod minima;
mod noisy_labels;
mod plane;
pub mod result;
mod rho;
mod scale;
mod scales;
mod scratch;
mod sharpness_batch;
mod shipped;
pub mod soft_targets;
pub mod start;
pub mod statistics;
mod surface;
pub mod task;
mod trajectory;
pub mod trial;
mod width;

use anyhow::{Context, Result, ensure};
use contenders::Protocol;
use flatmin_model::json::document;
use flatmin_model::output::write_file;
use ledger::{Ledger, Shard};
use result::{CSV_HEADER, Findings, Progress};
use std::fs;
use std::path::{Path, PathBuf};

/// The experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Experiment {
    /// 0 to 80 % of the labels flipped: SGD, label smoothing, SAM and ASAM
    NoisyLabels,
    /// Samples that share one ascent, from 1 to the minibatch
    SharpnessBatch,
    /// rho over two decades
    Rho,
    /// Accuracy against multiply-adds: SGD for more epochs, or SAM?
    Cost,
    /// Every learning rate with fixed strengths: what happens when nobody tunes
    LearningRate,
    /// The last layer alone
    LastLayer,
    /// SGD's and SAM's ways on a surface of two parameters
    Trajectory,
    /// How flat the solutions are: random directions, worst case, noise on the weights, few bits
    Minima,
    /// Early stopping on held-out samples
    EarlyStopping,
    /// Tails that begin with random weights
    Scratch,
    /// Hidden units from 16 to 1,024, and up to six layers of them
    Width,
    /// Ascents in the last fifth of the steps alone
    Late,
    /// Pretrained networks on other data: speakers, keywords, drifting gas sensors, gestures
    Finetune,
    /// The last layers of ResNet-8 on images that JPEG has touched; minutes for a few runs
    Images,
    /// Recipes fixed for all tasks, the one that ships among them
    Shipped,
    /// The head in closed form, alone and as the start of gradient steps
    ClosedForm,
    /// SGD, SAM and ASAM as they ship: accuracy and calibration
    Calibration,
    /// What carries a rho over: latents' scale, rescaled channels, the same rho in pretraining
    Scales,
    /// What held-out samples can tell of a tuned tail
    Gate,
    /// Features and labels of three experiments for host-sim/evidence/repeat_in_torch.py
    Features,
}

impl Experiment {
    /// Whether it reads data that are not bundled.
    fn reads_data(self) -> bool {
        matches!(
            self,
            Self::Calibration
                | Self::ClosedForm
                | Self::Finetune
                | Self::Images
                | Self::Shipped
                | Self::Scales
        )
    }
}

/// What to run it with.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Few wearers, draws and trials: for directions, not for digits.
    pub quick: bool,
    /// Everything random derives from it.
    pub seed: u64,
    /// This part alone.
    pub shard: Option<Shard>,
    /// Where results lie and go.
    pub folder: PathBuf,
    /// Where the data lie that are not bundled.
    pub data: Option<PathBuf>,
}

/// Runs an experiment and writes its CSV, JSON and figures into the folder. `Err` of the inner result is how many
/// runs other shards have still to do.
///
/// # Errors
/// What the runtime refuses; files that cannot be read or written.
pub fn run(experiment: Experiment, options: &Options) -> Result<Result<Findings, usize>> {
    ensure!(
        options.data.is_some() || !experiment.reads_data(),
        "this experiment reads data that are not bundled: name their folder with --data-folder; what is not there is \
         skipped"
    );
    let data = options.data.as_deref().unwrap_or(Path::new(""));
    let mut ledger = Ledger::open(&options.folder, data, options.shard)?;
    let protocol = Protocol::new(options.seed, options.quick);
    let progress = match experiment {
        Experiment::NoisyLabels => noisy_labels::run(&mut ledger, &protocol)?,
        Experiment::SharpnessBatch => sharpness_batch::run(&mut ledger, &protocol)?,
        Experiment::Rho => rho::run(&mut ledger, &protocol)?,
        Experiment::Cost => cost::run(&mut ledger, &protocol)?,
        Experiment::LearningRate => learning_rate::run(&mut ledger, &protocol)?,
        Experiment::LastLayer => last_layer::run(&mut ledger, &protocol)?,
        Experiment::Trajectory => trajectory::run()?,
        Experiment::Minima => minima::run(&mut ledger, &protocol)?,
        Experiment::EarlyStopping => early_stopping::run(&mut ledger, &protocol)?,
        Experiment::Scratch => scratch::run(&mut ledger, &protocol, options.seed, data)?,
        Experiment::Width => width::run(&mut ledger, &protocol, options.seed, data)?,
        Experiment::Late => late::run(ledger.bench(), options.seed, options.quick, data)?,
        Experiment::Finetune => finetune::run(&mut ledger, &protocol, options.seed, data)?,
        Experiment::Images => images::run(&mut ledger, &protocol, options.seed, data)?,
        Experiment::Shipped => shipped::run(&mut ledger, &protocol, options.seed, data)?,
        Experiment::ClosedForm => closed_form::run(&protocol, options.seed, data)?,
        Experiment::Calibration => calibration::run(options.seed, options.quick, data)?,
        Experiment::Scales => scales::run(&mut ledger, &protocol, options.seed, data)?,
        Experiment::Gate => gate::run(options.seed, options.quick, &options.folder, data)?,
        Experiment::Features => features::run(&mut ledger, &protocol, &options.folder)?,
    };
    Ok(match progress {
        Progress::Missing(runs) => Err(runs),
        Progress::Done(findings) => {
            write(&options.folder, &findings, options)?;
            Ok(findings)
        }
    })
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    write_file(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn write(folder: &Path, findings: &Findings, options: &Options) -> Result<()> {
    let figures = folder.join("evidence");
    fs::create_dir_all(&figures).with_context(|| format!("cannot make the folder {}", figures.display()))?;
    for figure in &findings.figures {
        put(&figures.join(format!("{}.svg", figure.name)), figure.svg.as_bytes())?;
    }
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(CSV_HEADER.split(','))?;
    for row in &findings.rows {
        csv.write_record(row.csv())?;
    }
    put(&folder.join(format!("{}.csv", findings.name)), &csv.into_inner()?)?;
    let object = document(json(findings, options))?;
    put(&folder.join(format!("{}.json", findings.name)), object.as_bytes())
}

/// The findings as one JSON object.
pub fn json(findings: &Findings, options: &Options) -> serde_json::Value {
    let experiments = serde_json::json!({ (findings.name): findings.rows });
    serde_json::json!({ "seed": options.seed, "quick": options.quick, "missing_runs": 0, "experiments": experiments })
}
