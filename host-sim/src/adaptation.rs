//! What is tuned on: a user's model and samples, or a bundled wearer's.

use crate::tune_options::{LossArgument, TuneOptions};
use anyhow::{Result, bail};
use clap::{Args, value_parser};
use flatmin::tail::Loss;
use host_sim::model::Model;
use host_sim::objective;
use host_sim::samples::Samples;
use host_sim::tuning::{Subject, inputs_of};
use host_sim::wearers::WEARERS;
use std::path::{Path, PathBuf};

/// Samples beside an argument named `model`, which may be missing.
#[derive(Debug, Clone, Args)]
pub struct Adaptation {
    /// X.npy Y.npy (int8 or float32, batch first; integer labels) or one CSV of label and values a row
    #[arg(long, num_args = 1..=2, value_names = ["X.npy", "Y.npy"], requires = "model")]
    data: Vec<PathBuf>,
    /// With --method closed-form, samples that the model knows, X.npy [Y.npy]: whose class means and covariance the factory
    /// would keep. Of a held-out wearer, the others' windows are taken
    #[arg(long, num_args = 1..=2, value_names = ["X.npy", "Y.npy"], requires = "model")]
    calibration: Vec<PathBuf>,
    /// The held-out wearer, 1 to 10
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=WEARERS as i64), conflicts_with = "model")]
    wearer: u16,
}

impl Adaptation {
    /// The model with what is adapted to; without one, a bundled wearer's.
    pub fn subject(&self, model: Option<&Path>, options: &TuneOptions) -> Result<Subject> {
        match model {
            Some(path) => user_subject(path, &self.data, &self.calibration, options),
            None => options.wearer(self.wearer.into()),
        }
    }
}

/// The model, with what it makes of X.npy, and Y.npy if given; as it is without files.
pub fn calibrated(model: Model, files: &[PathBuf]) -> Result<Model> {
    let shape = sample_shape(&model);
    let classes = model.output_shape().iter().product();
    let samples = match files {
        [] => return Ok(model),
        [x] => Samples::inputs_from_npy(x, &shape)?,
        [x, y, ..] => Samples::from_npy(x, y, &shape, classes)?,
    };
    let inputs = inputs_of(&model, &samples)?;
    let labels = (files.len() > 1).then_some(samples.labels.as_slice());
    model.calibrated(&inputs, labels)
}

fn user_subject(path: &Path, data: &[PathBuf], calibration: &[PathBuf], options: &TuneOptions) -> Result<Subject> {
    let model = Model::open(path)?.with_loss(options.loss.map(LossArgument::loss));
    let model = calibrated(model, calibration)?.with_spare_classes(options.spare_classes.into())?;
    // What the model lacks comes before what the data lacks.
    model.tail_plan(options.layers.map(usize::from), &options.train)?;
    let shape = sample_shape(&model);
    let loss = model.network.loss();
    let [inputs, outputs] = [model.input_shape(), model.output_shape()].map(|s| s.iter().product::<usize>());
    anyhow::ensure!(
        loss != Loss::SquaredError || inputs == outputs,
        "{}: gives {outputs} values for {inputs}; with --loss mse samples are their own targets",
        path.display()
    );
    let classes = objective::labels(loss, outputs)?;
    let samples = match data {
        [x, y] => Samples::from_npy(x, y, &shape, classes)?,
        [x] if loss == Loss::SquaredError && x.extension().is_some_and(|extension| extension == "npy") => {
            Samples::inputs_from_npy(x, &shape)?
        }
        [x] if x.extension().is_some_and(|extension| extension == "npy") => {
            bail!("{}: labels are needed, too: --data X.npy Y.npy (or --loss mse)", x.display())
        }
        [csv] => Samples::from_csv(csv, &shape, classes)?,
        // Clap sees to it.
        _ => bail!("{}: --data X.npy Y.npy or --data windows.csv is needed to tune it", path.display()),
    };
    Subject::user(model, &samples, options.label_noise, options.seed)
}

/// Shape of one sample: the input's without the batch.
fn sample_shape(model: &Model) -> Vec<usize> {
    model.network.inputs.first().map_or(Vec::new(), |border| border.sample_shape().to_vec())
}
