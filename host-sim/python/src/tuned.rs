//! What a run leaves: its figures, and a network that answers by the tail in force.

use crate::errors::raised;
use crate::network::{Pair, inputs, output};
use crate::recipe::{described, start_name};
use crate::watching::Caller;
use anyhow::{Context, Result};
use flatmin::Affine;
use flatmin_link::device::Measured;
use flatmin_model::output::{ensure_apart, write_file};
use flatmin_model::packer::TailPlan;
use flatmin_model::recipe_file::NamedMethod;
use flatmin_sim::delta;
use flatmin_sim::report::TuningRun;
use flatmin_sim::subject::{Labelled, Subject};
use flatmin_sim::tuned::TunedNetwork;
use flatmin_sim::tuning::{Training, train_and_keep};
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A tuned network.
#[pyclass(frozen, module = "flatmin._native")]
#[derive(Debug, Clone)]
pub struct Tuned {
    network: TunedNetwork,
    test: Vec<Labelled>,
    answers: Vec<usize>,
    report: String,
}

impl Tuned {
    /// Tunes the subject, with what the run was as JSON.
    pub fn new(
        subject: Subject,
        plan: TailPlan,
        training: &Training,
        method: NamedMethod,
        caller: Caller,
    ) -> Result<Self> {
        let trained = train_and_keep(&subject, &plan, training, caller)
            .with_context(|| format!("tuning with {}", training.name()))?;
        let recipe = training.sized(&subject)?;
        let asked = Asked { plan, training: Training { recipe, ..*training }, method };
        let report =
            asked.report(&trained.run, &subject, trained.run.train_seconds, trained.tail.is_some())?;
        let network = TunedNetwork { model: subject.model, plan: asked.plan, tail: trained.tail };
        Ok(Self { network, test: subject.test, answers: trained.answers, report })
    }

    /// The network that a device's run has left, with what the run was.
    pub fn of_device(
        asked: Asked,
        subject: Subject,
        measured: &Measured,
        tail: Option<Vec<u8>>,
    ) -> Result<Self> {
        let seconds = measured.ticks as f64 / f64::from(measured.hertz.max(1));
        let report = asked.report(&measured.run, &subject, seconds, tail.is_some())?;
        let network = TunedNetwork { model: subject.model, plan: asked.plan, tail };
        let inputs: Vec<Vec<i8>> = subject.test.iter().map(|(input, _)| input.clone()).collect();
        let answers = match measured.run.anomalies {
            Some(_) => Vec::new(),
            None => network.answer(&inputs, &Caller::new(None, 0))?.labels,
        };
        Ok(Self { network, test: subject.test, answers, report })
    }
}

/// What a run was asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What was tuned.
    pub plan: TailPlan,
    /// How, with the replay that there was.
    pub training: Training,
    /// Finds it by its name.
    pub method: NamedMethod,
}

impl Asked {
    fn report(&self, run: &TuningRun, subject: &Subject, seconds: f64, tuned: bool) -> Result<String> {
        let Self { plan, training, method } = self;
        let trains: Vec<String> = (0..plan.layers).map(|layer| plan.trains(layer).to_string()).collect();
        let report = json!({
            // By way of a text, in which numbers of single precision stay short.
            "run": serde_json::from_str::<Value>(&serde_json::to_string(run)?)?,
            "seconds": seconds,
            "recipe": described(&training.recipe, *method)?, "layers": plan.layers, "train": trains,
            "start": start_name(training.start),
            "classes": subject.classes, "split": subject.origin.split, "warnings": subject.origin.warnings,
            "tuned_samples": subject.adaptation.len(), "tested_samples": subject.test.len(),
            "tuned": tuned,
        });
        Ok(report.to_string())
    }
}

#[pymethods]
impl Tuned {
    /// The run's figures as JSON.
    #[getter]
    fn report(&self) -> &str {
        &self.report
    }

    /// What the tail in force answers to each test sample.
    #[getter]
    fn predictions(&self, py: Python<'_>) -> Py<PyAny> {
        let answers: Vec<i64> = self.answers.iter().map(|&answer| answer as i64).collect();
        answers.into_pyarray(py).into_any().unbind()
    }

    /// Labels, outputs, and their scale and zero point, for a batch.
    fn answer(&self, py: Python<'_>, x: PyBackedBytes) -> PyResult<(Pair, (f32, i32))> {
        let answer = || {
            let inputs = inputs(&self.network.model, &x)?;
            anyhow::Ok((inputs.len(), self.network.answer(&inputs, &Caller::new(None, 0))?))
        };
        let (count, answers) = py.detach(answer).map_err(raised)?;
        let mut shape = vec![count];
        let border = self.network.model.network.outputs.first();
        shape.extend(border.map_or(&[][..], |border| border.sample_shape()));
        let labels: Vec<i64> = answers.labels.iter().map(|&label| label as i64).collect();
        let Affine { scale, zero_point } = answers.affine;
        let outputs = output(py, answers.outputs, &shape)?;
        Ok(((labels.into_pyarray(py).into_any().unbind(), outputs), (scale, zero_point)))
    }

    /// Writes the `.tflite` with the tuned layers; returns its bytes and how many test samples it was compared on.
    fn export(&self, py: Python<'_>, path: PathBuf) -> PyResult<(usize, usize)> {
        let export = || {
            // A bundled model's name is no file's.
            ensure_apart(&path, [Path::new(&self.network.model.name)])?;
            let bytes = self.network.export(&self.test, &Caller::new(None, 0))?;
            write_file(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok((bytes.len(), self.test.len()))
        };
        py.detach(export).map_err(raised)
    }

    /// What of the tail differs from the factory's, as `flatmin export --delta` writes it.
    fn delta<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let encode = || {
            let tail =
                self.network.tail.as_ref().context("the factory's tail is in force: there is no delta")?;
            delta::encode(&self.network.model.pack(&self.network.plan)?, tail)
        };
        Ok(PyBytes::new(py, &py.detach(encode).map_err(raised)?))
    }
}
