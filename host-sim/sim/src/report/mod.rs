//! What a tuning run came to: one table in the terminal, one page of HTML, one [`Summary`] for `--json`.
//!
//! The commands fill a [`Report`] with one [`TuningRun`] a subject and method. Everything that is shown of
//! several subjects comes from [`Report::summary`], so that table, page and JSON cannot disagree:
//!
//! - `summary`: means, standard errors and paired differences over the subjects;
//! - `terminal`: the tables that the terminal shows;
//! - `html`: the page, with `tables`, `figures` and `plots` for its parts;
//! - `format`: one way to write a number; colours and markers are those of [`crate::chart::palette`].
//!
//! Accuracies are fractions of one in every struct, and percent only in what is shown.

mod changes;
pub(crate) mod coverage;
mod depth;
mod figures;
mod format;
mod html;
mod overview;
mod plots;
#[cfg(test)]
mod samples;
mod summary;
mod terminal;

use std::fmt;
use std::path::Path;

use crate::subject::Subject;
use anyhow::Context;
use flatmin::{Acceptance, Evidence};
use serde::Serialize;

pub use changes::Changes;
pub use overview::{Overview, Part};
pub use summary::{Estimate, MethodSummary, Summary};

/// One point of a learning curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Passes over the adaptation set so far; 0 is the factory model.
    pub epoch: u32,
    /// Mean loss on the (possibly mislabelled) adaptation set, without label smoothing.
    pub adaptation_loss: f64,
    /// Accuracy on the subject's test set, a fraction of one, where it was measured on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
}

/// One subject (a held-out wearer, or a user's own model) tuned by one method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TuningRun {
    /// Whose data it was: `wearer 1`, or a file's name.
    pub subject: String,
    /// `sgd`, `sam` or `asam`; `sgd` is the baseline of the paired differences.
    pub method: String,
    /// Radius of the perturbation; 0 for SGD.
    pub rho: f32,
    /// What the radius is measured in: `nats` or `weights`; left out for SGD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho_unit: Option<&'static str>,
    /// Test accuracy of the int8 model as shipped, a fraction of one.
    pub factory_accuracy: f64,
    /// Test accuracy with the tuned tail in f32.
    pub accuracy_f32: f64,
    /// Test accuracy with the tuned tail requantized to int8, as the device classifies.
    pub accuracy_int8: f64,
    /// Mean loss on the test set, anomalies left out.
    pub loss: f64,
    /// Mean rise of a sample's loss at its own worst step, over the samples tuned on.
    pub sharpness: f64,
    /// Largest eigenvalue of the Hessian of the mean loss over the samples tuned on, at the tuned weights in f32, where it was asked
    /// for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda_max: Option<f64>,
    /// RAM by purpose, in bytes, in the order in which it is shown.
    #[serde(serialize_with = "flatmin_model::json::serialize_parts")]
    pub memory: Vec<(String, usize)>,
    /// RAM that training takes in all, in bytes.
    pub train_ram_bytes: usize,
    /// All RAM of a firmware by purpose, in bytes: the linker's figures and the stack as measured. Empty on the
    /// desktop.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "flatmin_model::json::serialize_parts")]
    pub ram: Vec<(String, usize)>,
    /// All RAM of a firmware as `flatmin inspect` announces it, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_announced_bytes: Option<usize>,
    /// Trainable parameters.
    pub tail_parameters: usize,
    /// Multiply-accumulates of the whole run.
    pub macs: u64,
    /// Seconds that solving and stepping took, where it was measured: no two runs take the same.
    #[serde(skip)]
    pub train_seconds: f64,
    /// CRC-32 of the tuned weights: the same on every target.
    pub weights_crc32: u32,
    /// Instructions of the whole run, where a target counted them.
    pub instructions: Option<u64>,
    /// Instructions of the trunk on one sample, its latent stored; mean over the samples tuned on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions_trunk: Option<u64>,
    /// Instructions of one step on a full minibatch, mean over the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions_step: Option<u64>,
    /// Loss and accuracy by epoch; empty if no epoch was run.
    pub curve: Vec<CurvePoint>,
    /// Test set by true class (row) and predicted class (column), before tuning.
    pub confusion_factory: Vec<Vec<u32>>,
    /// The same after tuning, int8.
    pub confusion_tuned: Vec<Vec<u32>>,
    /// How sure the factory's int8 answers to the test samples are, and whether each is right; empty where that is not known.
    #[serde(skip)]
    pub sureness_factory: coverage::Answers,
    /// That of the tail that came into force.
    #[serde(skip)]
    pub sureness_tuned: coverage::Answers,
    /// How many test samples became right, and how many wrong; `None` without classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
    /// What the held-out samples said, where there were some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Of an autoencoder, whose accuracies are NaN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomalies: Option<Anomalies>,
    /// What a user should know of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How well an autoencoder copies what is normal, and tells anomalies from it: int8, on the test set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Anomalies {
    /// Mean squared error of the normal samples before tuning, in the output's units, squared.
    pub factory_error: f64,
    /// After it.
    pub tuned_error: f64,
    /// Area under the ROC curve of the samples' errors before tuning, where there are samples of both kinds.
    pub factory_auc: Option<f64>,
    /// After it.
    pub tuned_auc: Option<f64>,
}

/// Whether a tuned tail was taken, and why: the int8 tails on the samples that were held out from tuning.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Verdict {
    /// The tuned tail was better; else the factory's was kept, and every figure of the run is the factory tail's.
    pub accepted: bool,
    /// Samples held out.
    pub samples: u32,
    /// Accuracy of the factory tail on them.
    pub factory_accuracy: f32,
    /// Its loss as it is trained.
    pub factory_loss: f32,
    /// Accuracy of the tuned tail.
    pub tuned_accuracy: f32,
    /// Its loss as it is trained.
    pub tuned_loss: f32,
    /// What the samples show: `better`, `worse`, `too-few` where they say too little and the smallest gain decides,
    /// `unmoved` where no weight has moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<&'static str>,
    /// Share of the labels that the factory's tail gives, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_agreed: Option<f32>,
    /// Epochs after which the run's best weights were seen, where they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_epochs: Option<u16>,
}

impl Verdict {
    /// The better tail on the test samples, where those to tune on cannot tell; losses are NaN.
    pub(crate) fn on_test(factory: &[Vec<u32>], tuned: &[Vec<u32>]) -> Self {
        let [before, after] = [factory, tuned].map(|c| crate::tuning::accuracy(c) as f32);
        Self {
            accepted: after > before,
            samples: factory.iter().flatten().sum(),
            factory_accuracy: before,
            factory_loss: f32::NAN,
            tuned_accuracy: after,
            tuned_loss: f32::NAN,
            evidence: None,
            labels_agreed: None,
            best_epochs: None,
        }
    }

    /// What a tuner decided.
    pub fn new(acceptance: &Acceptance, best_epochs: Option<u16>) -> Self {
        let Acceptance { factory, candidate, accepted, evidence, labels, .. } = *acceptance;
        Self {
            accepted,
            samples: factory.samples,
            factory_accuracy: factory.accuracy(),
            factory_loss: factory.loss,
            tuned_accuracy: candidate.accuracy(),
            tuned_loss: candidate.loss,
            evidence: Some(evidence_name(evidence)),
            labels_agreed: (labels.samples > 0).then(|| labels.agreed as f32 / labels.samples as f32),
            best_epochs,
        }
    }

    /// Why the tuned tail was taken, or was not.
    fn reason(&self) -> &'static str {
        match self.evidence {
            Some("better") => "the samples show it to be better",
            Some("worse") => "the samples show it to be worse",
            Some("unmoved") => "no weight has moved",
            Some(_) => "the samples do not show it to be better",
            None => "on the test samples",
        }
    }
}

/// As tables and JSON have it.
pub fn evidence_name(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Better => "better",
        Evidence::Worse => "worse",
        Evidence::Unmoved => "unmoved",
        _ => "too-few",
    }
}

/// A count of each subject: the least and the most where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub least: usize,
    /// The largest.
    pub most: usize,
}

impl Spread {
    fn of(counts: impl Iterator<Item = usize> + Clone) -> Self {
        Self { least: counts.clone().min().unwrap_or(0), most: counts.max().unwrap_or(0) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { least, most } if least == most => write!(f, "{least}"),
            Self { least, most } => write!(f, "{least} to {most}"),
        }
    }
}

/// How a subject's samples were split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Split {
    /// In words.
    pub how: String,
    /// Samples tuned on.
    pub tuned: Spread,
    /// Samples tested.
    pub tested: Spread,
}

impl Split {
    /// Of subjects whose samples were split in the same way.
    pub fn of(subjects: &[Subject]) -> Option<Self> {
        let how = subjects.first()?.origin.split.clone();
        let [tuned, tested] = [|s: &Subject| s.adaptation.len(), |s: &Subject| s.test.len()]
            .map(|count| Spread::of(subjects.iter().map(count)));
        let split = Self { how, tuned, tested };
        (!split.how.is_empty()).then_some(split)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples = if self.tuned.most == 1 { "sample" } else { "samples" };
        write!(f, "{} {samples} tuned on, {} tested: {}", self.tuned, self.tested, self.how)
    }
}

/// Tuning runs that belong together, and what they have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// Class names, in the order of the confusion matrices.
    pub classes: Vec<String>,
    /// What was set, as name and value, in the order in which it is shown.
    pub settings: Vec<(String, String)>,
    /// How the samples were split, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// What a user should know of the samples.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The runs. Methods and subjects are shown in the order in which they first appear.
    pub runs: Vec<TuningRun>,
}

impl Report {
    /// What became of these subjects.
    pub fn new(
        title: String,
        subjects: &[Subject],
        settings: Vec<(String, String)>,
        runs: Vec<TuningRun>,
    ) -> Self {
        let classes = subjects.first().map(|subject| subject.classes.clone()).unwrap_or_default();
        let of_subjects = subjects.iter().flat_map(|subject| subject.origin.warnings.clone());
        let of_runs = runs.iter().flat_map(|run| {
            run.warnings.iter().map(|warning| format!("{}: {warning}", format::method_name(&run.method)))
        });
        let warnings = of_subjects.chain(of_runs).collect();
        Self { title, classes, settings, split: Split::of(subjects), warnings, runs }
    }

    /// What the terminal shows: the summary's tables, how the samples were split, and the verdict.
    pub fn to_text(&self) -> String {
        let mut text = self.summary().to_table();
        if let Some(split) = &self.split {
            text += &format!("\n\n {split}.");
        }
        for method in self.methods() {
            text.extend(self.verdict(method).map(|verdict| format!("\n {verdict}")));
        }
        text
    }

    /// What a method did to the int8 accuracy, such as `SAM adapted: 87.2 -> 93.9 %, better for 9 of 10, worse for none`;
    /// `None` without accuracies.
    fn verdict(&self, method: &str) -> Option<String> {
        let runs: Vec<&TuningRun> =
            self.runs_of(method).filter(|run| run.accuracy_int8.is_finite()).collect();
        let count = runs.len();
        let mean = |value: fn(&TuningRun) -> f64| {
            100.0 * runs.iter().map(|run| value(run)).sum::<f64>() / count as f64
        };
        let (before, after) = (mean(|run| run.factory_accuracy), mean(|run| run.accuracy_int8));
        let better = runs.iter().filter(|run| run.accuracy_int8 > run.factory_accuracy).count();
        let worse = runs.iter().filter(|run| run.accuracy_int8 < run.factory_accuracy).count();
        let name = format::method_name(method);
        match (count, runs.first().and_then(|run| run.verdict)) {
            (0, _) => None,
            (1, Some(verdict)) if !verdict.accepted => Some(format!(
                "{name}: the factory's tail stays in force; the tuned one had {:.1} % of {} samples right, the factory's \
                 {:.1} %: {}",
                100.0 * verdict.tuned_accuracy,
                verdict.samples,
                100.0 * verdict.factory_accuracy,
                verdict.reason()
            )),
            (1, _) => {
                let word = match (better, worse) {
                    (1, _) => "adapted",
                    (_, 1) => "worse than the factory",
                    _ => "no better than the factory",
                };
                let moved =
                    runs.first().and_then(|run| run.changes).map_or(String::new(), |own| format!(": {own}"));
                Some(format!("{name}: {before:.1} -> {after:.1} %, {word}{moved}"))
            }
            _ => {
                let worse = if worse == 0 { "none".to_owned() } else { worse.to_string() };
                let word = if after > before { "adapted" } else { "no better than the factory" };
                Some(format!(
                    "{name} {word}: {before:.1} -> {after:.1} %, better for {better} of {count}, worse for {worse}"
                ))
            }
        }
    }

    /// Aggregates the runs by method.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.runs)
    }

    /// The report as one HTML page that needs no other file.
    pub fn html(&self) -> anyhow::Result<String> {
        html::page(self, None)
    }

    /// Writes [`Report::html`] to a file.
    pub fn write_html(&self, path: &Path) -> anyhow::Result<()> {
        let page = self.html().context("laying out the report")?;
        flatmin_model::output::write_file(path, page.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Names of the methods, in the order in which they first appear.
    fn methods(&self) -> Vec<&str> {
        summary::distinct(self.runs.iter().map(|run| run.method.as_str()))
    }

    /// The runs of one method.
    fn runs_of<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a TuningRun> {
        self.runs.iter().filter(move |run| run.method == method)
    }

    /// One run of each subject: where what does not depend on the method is taken from.
    fn one_run_a_subject(&self) -> Vec<&TuningRun> {
        let subjects = summary::distinct(self.runs.iter().map(|run| run.subject.as_str()));
        let first = |subject| self.runs.iter().find(|run| run.subject == subject);
        subjects.into_iter().filter_map(first).collect()
    }
}
