//! `flatmin tune`, and without a command the same for every bundled wearer.

use super::auto;
use crate::answer::{bar, show};
use crate::arguments::{Adaptation, TuneArguments, TuneOptions};
use anyhow::{Context, Result, ensure};
use clap::{Args, value_parser};
use flatmin_sim::report::{Report, TuningRun};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Tail, train};
use rayon::prelude::*;
use std::path::PathBuf;

/// Tune one model: a held-out wearer's, or your own on your own data
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  flatmin tune --wearer 3 --method asam --label-noise 0.2\n  \
    flatmin tune model.tflite --data x.npy y.npy --layers 2 --json\n  \
    flatmin tune autoencoder.tflite --data x.npy --loss mse --layers 1\n  \
    flatmin tune model.tflite --data windows.csv --auto=200")]
pub struct Arguments {
    /// A full-integer int8 .tflite or QDQ .onnx; without it the bundled model of --wearer
    #[arg(requires = "data")]
    model: Option<PathBuf>,
    #[command(flatten)]
    adaptation: Adaptation,
    /// First search what to train and how, as `flatmin plan` does, in so many trials (120); what other options name is not
    /// searched
    #[arg(long, value_name = "TRIALS", num_args = 0..=1, require_equals = true, default_missing_value = "120",
        help_heading = "How it is trained",
        value_parser = value_parser!(u32).range(1..=1_000_000))]
    auto: Option<u32>,
    /// Also measure how sharply the loss curves at the tuned weights: the largest eigenvalue of its Hessian over the samples tuned on
    /// (λ max; power iteration, up to 120 passes over them); of weights in f32 alone
    #[arg(long, conflicts_with = "auto", help_heading = "Output")]
    curvature: bool,
    #[command(flatten)]
    options: TuneArguments,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { model, adaptation, auto, curvature, options } = arguments;
    let options = options.read()?;
    let model = adaptation.model(model.as_deref(), &options);
    let subject = adaptation.calibrated_subject(model, &options)?;
    if let Some(trials) = auto {
        let subject = subject.labelled("tune --auto")?;
        return auto::run(&subject, trials as usize, &options, options.report.as_deref());
    }
    let bundled = "A held-out wearer, bundled model".to_owned();
    let title = model.map_or(bundled, |path| path.display().to_string());
    ensure!(
        !curvature || options.tuner() == Tail::Full,
        "--curvature is of weights in f32: leave --integer or --compact out"
    );
    show(tuned(&[subject], &title, &options, curvature)?, &options, options.report.as_deref())
}

/// One run for each subject and method, with lambda_max where `curvature` is asked for.
pub fn tuned(subjects: &[Subject], title: &str, options: &TuneOptions, curvature: bool) -> Result<Report> {
    let tails = subjects.iter().map(|s| options.tail(s)).collect::<Result<Vec<_>>>()?;
    // The bundled models are all alike.
    let tail = tails.into_iter().next().unwrap_or_default();
    let options = &match subjects.first() {
        Some(first) => options.for_tail(first, &tail)?,
        None => options.clone(),
    };
    let start = subjects.first().map(|own| options.start(own, &tail)).transpose()?.unwrap_or_default();
    let mut trainings: Vec<_> = options.trainings(start).into_iter().map(|own| (tail.clone(), own)).collect();
    let epochs = (subjects.len() * trainings.len()) as u64 * options.epochs();
    // Beside the methods that take steps, so that people see which head their samples ask for.
    if let Some(subject) = subjects.first()
        && let Some(head) = options.head_beside(subject)?
    {
        trainings.push(head);
    }
    trainings.iter_mut().for_each(|(_, training)| training.curvature = curvature);
    let jobs: Vec<_> =
        subjects.iter().flat_map(|s| trainings.iter().map(move |training| (s, training))).collect();
    let bar = bar(epochs, "epochs, {eta} left")?;
    let runs: Vec<TuningRun> = jobs
        .par_iter()
        .map(|(subject, (tail, training))| {
            train(subject, tail, training, || bar.inc(1))
                .with_context(|| format!("tuning with {}", training.name()))
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    Ok(Report::new(title.to_owned(), subjects, options.settings(&tail, start), runs))
}
