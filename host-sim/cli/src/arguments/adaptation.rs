//! What is tuned on: a user's model and samples, or a bundled wearer's.

use super::{TuneOptions, misused};
use crate::notes::note as tell;
use anyhow::{Context, Result, bail};
use clap::{Args, value_parser};
use flatmin::Loss;
use flatmin_model::model::Model;
use flatmin_sim::calibration::calibrated;
use flatmin_sim::samples::{self, Labels, Samples, Table};
use flatmin_sim::subject::{
    self, Origin, Subject, check_outputs, expected_labels, sample_shape, sample_shape_in,
};
use flatmin_sim::wearers::WEARERS;
use std::path::{Path, PathBuf};

/// Samples beside an argument named `model`, which may be missing.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Samples")]
pub struct Adaptation {
    /// X.npy Y.npy, one .npz with arrays x and y, or one CSV with a label and the values in each row
    #[arg(long, num_args = 1..=2, value_names = ["X.npy", "Y.npy"])]
    data: Vec<PathBuf>,
    /// Samples to test on, in the same forms: then all of --data is tuned on
    #[arg(long, num_args = 1..=2, value_names = ["X.npy", "Y.npy"], requires = "data", conflicts_with = "groups")]
    test_data: Vec<PathBuf>,
    /// Samples that the model knows, in the same forms, or X.npy without labels: their class means and covariance are what
    /// --method closed-form has of the factory (default: the model's answers to --data stand in; for a held-out
    /// wearer the others' windows are there)
    #[arg(long, num_args = 1..=2, value_names = ["X.npy", "Y.npy"], requires = "data")]
    calibration: Vec<PathBuf>,
    /// Groups (people, recordings) that are never split between tuning and test: an .npy or a text with one per
    /// sample, or the heading of a CSV's column
    #[arg(long, value_name = "FILE|COLUMN", requires = "data")]
    groups: Option<String>,
    /// Names of the classes in the order of the model's outputs, one per line: labels may then be names
    #[arg(long, value_name = "names.txt", requires = "data")]
    classes: Option<PathBuf>,
    /// What separates a CSV's columns: `,`, `;`, `tab` (default: as found)
    #[arg(long, value_name = "CHARACTER", requires = "data", value_parser = parse_delimiter)]
    delimiter: Option<u8>,
    /// A CSV's column to leave out, by its heading or its number from 1; may be given again
    #[arg(long, value_name = "COLUMN", requires = "data")]
    skip_column: Vec<String>,
    /// The CSV's column with the label (default: the first that is not left out)
    #[arg(long, value_name = "COLUMN", requires = "data")]
    label_column: Option<String>,
    /// The held-out wearer, 1 to 10 (default: 1)
    #[arg(long, value_parser = value_parser!(u16).range(1..=WEARERS as i64), conflicts_with = "model")]
    wearer: Option<u16>,
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        &[one] if one.is_ascii() && !one.is_ascii_alphanumeric() => Ok(one),
        _ => Err("must be one character, or tab".into()),
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension))
}

impl Adaptation {
    /// The files with the samples.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.data.iter().chain(&self.test_data).chain(&self.calibration).map(PathBuf::as_path)
    }

    /// The model's file: the one that is named, or unless a wearer is the recipe's.
    pub fn model<'a>(&self, named: Option<&'a Path>, options: &'a TuneOptions) -> Option<&'a Path> {
        named.or_else(|| options.recipe_file.model.as_deref().filter(|_| self.wearer.is_none()))
    }

    /// The model with what is adapted to, a held-out wearer's with the other wearers' windows as the factory's statistics.
    pub fn calibrated_subject(&self, model: Option<&Path>, options: &TuneOptions) -> Result<Subject> {
        self.calibrated(self.subject(model, options)?)
    }

    /// The model with what is adapted to; without one, a bundled wearer's. Warnings about the samples go to standard
    /// error.
    pub fn subject(&self, named: Option<&Path>, options: &TuneOptions) -> Result<Subject> {
        let subject = match self.model(named, options) {
            Some(path) if self.data.is_empty() => {
                return Err(misused(format!(
                    "{} is to be tuned on samples: --data X.npy Y.npy",
                    path.display()
                )));
            }
            Some(path) => self.user_subject(path, options)?,
            None if !self.data.is_empty() => {
                return Err(misused(
                    "--data is for a model: give <MODEL>, or a recipe's file that names one".into(),
                ));
            }
            None => options.wearer(self.wearer().into())?,
        };
        subject.origin.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        Ok(subject)
    }

    fn wearer(&self) -> u16 {
        self.wearer.unwrap_or(1)
    }

    /// The subject, a held-out wearer's with the other wearers' windows as the factory's statistics.
    pub fn calibrated(&self, subject: Subject) -> Result<Subject> {
        if self.data.is_empty() { subject.calibrated(self.wearer().into()) } else { Ok(subject) }
    }

    fn user_subject(&self, path: &Path, options: &TuneOptions) -> Result<Subject> {
        let model = Model::open(path)?.with_loss(options.recipe_file.loss);
        check_outputs(&model)?;
        let model = calibrated_by(model, &self.calibration)?.with_spare_classes(options.spare_classes())?;
        // What the model lacks comes before what the data lacks.
        model.tail_plan(options.layers(), options.train())?;
        let labels = expected_labels(&model, self.class_names()?)?;
        let mut samples = self.read(path, &self.data, &model, &labels)?;
        let test = match self.test_data.as_slice() {
            [] => None,
            data => Some(self.read(path, data, &model, &labels)?),
        };
        if let (Some(groups), true) = (&self.groups, samples.groups.is_empty()) {
            samples.groups = samples::groups(Path::new(groups))?;
            let (found, expected) = (samples.groups.len(), samples.count);
            anyhow::ensure!(found == expected, "{groups}: {found} groups for {expected} samples");
        }
        Subject::user(model, &samples, test.as_ref(), options.label_noise(), options.seed())
    }

    fn class_names(&self) -> Result<Vec<String>> {
        let Some(path) = &self.classes else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }

    fn read(&self, model_path: &Path, data: &[PathBuf], model: &Model, labels: &Labels) -> Result<Samples> {
        let shape = shape_in(model, data)?;
        let squared = model.network.loss() == Loss::SquaredError;
        let copies = squared && !matches!(labels, Labels::Numbers { .. });
        let read = match data {
            [x, y] => Samples::from_npy(x, y, &shape, labels)?,
            [both] if has_extension(both, "npz") && !copies => Samples::from_npy(both, both, &shape, labels)?,
            [x] if has_extension(x, "npy") || has_extension(x, "npz") => {
                if !copies {
                    let hint = if squared { "" } else { " (or --loss mse)" };
                    bail!("{}: labels are needed, too: --data X.npy Y.npy{hint}", x.display());
                }
                Samples::inputs_from_npy(x, &shape)?
            }
            [csv] => {
                let group_column = self.groups.clone().filter(|groups| !Path::new(groups).is_file());
                let table = Table {
                    delimiter: self.delimiter,
                    skipped_columns: self.skip_column.clone(),
                    label_column: self.label_column.clone(),
                    group_column,
                };
                Samples::from_csv(csv, &shape, labels, &table)?
            }
            // Clap sees to it.
            _ => bail!("{}: --data X.npy Y.npy or --data windows.csv is needed", model_path.display()),
        };
        if let (Some(note), [first, ..]) = (&read.note, data) {
            tell(format_args!("{}: {} samples, {note}", first.display(), read.count));
        }
        Ok(read)
    }
}

/// Shape of one sample in the first of `files`: of a network that keeps variables an array may hold windows.
fn shape_in(model: &Model, files: &[PathBuf]) -> Result<Vec<usize>> {
    let shape = sample_shape(model);
    match files {
        [x, ..] if has_extension(x, "npy") || has_extension(x, "npz") => sample_shape_in(model, x, &shape),
        _ => Ok(shape),
    }
}

/// The model with statistics of what its last layer reads for these samples; as it is without any.
pub fn calibrated_by(model: Model, files: &[PathBuf]) -> Result<Model> {
    let shape = shape_in(&model, files)?;
    let labels = || {
        let count = model.output_shape().iter().product();
        Labels::Classes { count, names: Vec::new(), questions: 0 }
    };
    let samples = match files {
        [] => return Ok(model),
        [x, y] => Samples::from_npy(x, y, &shape, &labels())?,
        [both] if has_extension(both, "npz") => Samples::from_npy(both, both, &shape, &labels())?,
        [x] if has_extension(x, "npy") => Samples::inputs_from_npy(x, &shape)?,
        [csv, ..] => Samples::from_csv(csv, &shape, &labels(), &Table::default())?,
    };
    let (inputs, own): (Vec<_>, Vec<_>) =
        subject::labelled(&model, &samples, &mut Origin::default())?.into_iter().unzip();
    calibrated(model, &inputs, (!samples.labels.is_empty()).then_some(own.as_slice()))
}
