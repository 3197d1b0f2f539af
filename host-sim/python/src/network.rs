//! A model: what is in it, what it answers, what its tail can be tuned to.

use crate::errors::raised;
use crate::recipe::{method, parsed};
use crate::tuned::Tuned;
use crate::watching::{Caller, stoppable};
use anyhow::{Result, anyhow, bail, ensure};
use flatmin::{Loss, Recipe};
use flatmin_model::inspect;
use flatmin_model::model::Model;
use flatmin_model::packer::{Repeated, TailPlan};
use flatmin_model::recipe_file::RecipeFile;
use flatmin_sim::calibration::calibrated;
use flatmin_sim::inference::{self, Rows, Values};
use flatmin_sim::planning::{self, Budget, Tails};
use flatmin_sim::samples::{Labels, Samples};
use flatmin_sim::subject::{self, Labelled, Origin, Subject, check_outputs, expected_labels, sample_shape};
use flatmin_sim::tuning::{Start, Tail, Training};
use flatmin_sim::watch::Watch;
use numpy::{Element, IntoPyArray, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use serde_json::json;
use std::path::PathBuf;

/// Layers that a plan looks back where nothing else is asked for.
const DEPTH: usize = 8;

/// A model file, read.
#[pyclass(frozen, module = "flatmin._native")]
#[derive(Debug, Clone)]
pub struct Network {
    /// The model.
    pub model: Model,
    names: Vec<String>,
}

/// Two NumPy arrays: samples and labels, or labels and outputs.
pub type Pair = (Py<PyAny>, Py<PyAny>);

/// Values of this shape as a NumPy array.
pub fn array<'py, T: Element>(
    py: Python<'py>,
    values: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    Ok(values.into_pyarray(py).reshape(shape.to_vec())?.into_any())
}

/// One output of a network for all samples, as a NumPy array.
pub fn output(py: Python<'_>, values: Values, shape: &[usize]) -> PyResult<Py<PyAny>> {
    let array = match values {
        Values::I8(values) => array(py, values, shape),
        Values::U8(values) => array(py, values, shape),
        Values::F32(values) => array(py, values, shape),
    };
    Ok(array?.unbind())
}

fn loss(name: Option<&str>) -> Result<Option<Loss>> {
    Ok(match name {
        None => None,
        Some("cross-entropy") => Some(Loss::CrossEntropy),
        Some("bce") => Some(Loss::BinaryCrossEntropy),
        Some("mse") => Some(Loss::SquaredError),
        Some(other) => bail!("there is no loss `{other}`; there are cross-entropy, bce and mse"),
    })
}

fn loss_name(loss: Loss) -> &'static str {
    match loss {
        Loss::CrossEntropy => "cross-entropy",
        Loss::BinaryCrossEntropy => "bce",
        Loss::SquaredError => "mse",
    }
}

/// Samples, and labels where there are some, each the bytes of an `.npy`.
pub type Batch = (PyBackedBytes, Option<PyBackedBytes>);

impl Network {
    /// These classes' names with another model.
    pub(crate) fn with_model(&self, model: Model) -> Self {
        Self { model, names: self.names.clone() }
    }

    /// Samples as the network takes them, with their labels.
    pub(crate) fn labelled(&self, x: &[u8], y: Option<&[u8]>) -> Result<Vec<Labelled>> {
        subject::labelled(&self.model, &self.samples(x, y)?, &mut Origin::default())
    }

    pub(crate) fn with_loss(&self, loss: Option<Loss>) -> Self {
        match loss {
            None => self.clone(),
            loss => Self { model: self.model.clone().with_loss(loss), names: self.names.clone() },
        }
    }

    pub(crate) fn subject(
        self,
        (x, y): Batch,
        test: Option<Batch>,
        label_noise: f64,
        groups: Vec<String>,
        seed: u64,
    ) -> Result<Subject> {
        ensure!((0.0..=1.0).contains(&label_noise), "label_noise is {label_noise}, must be from 0 to 1");
        let mut samples = self.samples(&x, y.as_deref())?;
        let test = test.map(|(x, y)| self.samples(&x, y.as_deref())).transpose()?;
        if !groups.is_empty() {
            let (found, expected) = (groups.len(), samples.count);
            ensure!(found == expected, "groups: {found} groups for {expected} samples");
            samples.groups = groups;
        }
        Subject::user(self.model, &samples, test.as_ref(), label_noise, seed)
    }

    /// What is packed: 0 layers for inference alone.
    pub(crate) fn tail(&self, layers: Option<usize>, trains: &[String]) -> Result<TailPlan> {
        if layers == Some(0) {
            return Ok(TailPlan::default());
        }
        let trains = trains.iter().map(|own| own.parse::<Repeated>().map_err(|why| anyhow!("{own}: {why}")));
        self.model.tail_plan(layers, &Repeated::all(&trains.collect::<Result<Vec<_>>>()?))
    }

    /// Samples with labels; without, where they are their own targets.
    fn samples(&self, x: &[u8], y: Option<&[u8]>) -> Result<Samples> {
        let labels = expected_labels(&self.model, self.names.clone())?;
        let shape = sample_shape(&self.model);
        Ok(match y {
            Some(y) => Samples::from_npy_bytes(("x", x), ("y", y), &shape, &labels)?,
            None => {
                let squared = self.model.network.loss() == Loss::SquaredError;
                let hint = if squared { "" } else { " (or loss=\"mse\" of an autoencoder)" };
                let copies = squared && !matches!(labels, Labels::Numbers { .. });
                ensure!(copies, "{}: labels are needed, too{hint}", self.model.name);
                Samples::inputs_from_npy_bytes(("x", x), &shape)?
            }
        })
    }
}

/// A batch as the network takes it.
pub fn inputs(model: &Model, x: &[u8]) -> Result<Vec<Vec<i8>>> {
    let samples = Samples::inputs_from_npy_bytes(("x", x), &sample_shape(model))?;
    let samples = subject::labelled(model, &samples, &mut Origin::default())?;
    Ok(samples.into_iter().map(|(input, _)| input).collect())
}

#[pymethods]
impl Network {
    /// Reads a `.tflite` or a QDQ `.onnx`.
    #[new]
    #[pyo3(signature = (path, loss = None, names = Vec::new()))]
    fn new(path: PathBuf, loss: Option<&str>, names: Vec<String>) -> PyResult<Self> {
        let open = || {
            let model = Model::open(&path)?.with_loss(self::loss(loss)?);
            Ok(Self { model, names })
        };
        open().map_err(raised)
    }

    /// What the command line calls it.
    #[getter]
    fn name(&self) -> &str {
        &self.model.name
    }

    /// What its tail is tuned with.
    #[getter]
    fn loss(&self) -> &'static str {
        loss_name(self.model.network.loss())
    }

    /// Names of the classes, if they were given.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// Shapes of the inputs, one sample each.
    #[getter]
    fn input_shapes(&self) -> Vec<Vec<usize>> {
        self.model.network.inputs.iter().map(|border| border.sample_shape().to_vec()).collect()
    }

    /// Shapes of the outputs for one sample.
    #[getter]
    fn output_shapes(&self) -> Vec<Vec<usize>> {
        self.model.network.outputs.iter().map(|border| border.sample_shape().to_vec()).collect()
    }

    /// Scale and zero point of the first input.
    #[getter]
    fn input_quantization(&self) -> PyResult<(f32, i32)> {
        let affine = subject::input_affine(&self.model).map_err(raised)?;
        Ok((affine.scale, affine.zero_point))
    }

    /// The last operator's name.
    #[getter]
    fn ends_in(&self) -> &str {
        self.model.network.steps.last().map_or("", |step| &step.name)
    }

    /// `flatmin inspect --json`, and the text without it.
    fn inspect(&self, replay_capacity: u16, sharpness_batch: u16) -> PyResult<(String, String)> {
        let inspect = || {
            let recipe = Recipe { replay_capacity, sharpness_batch, ..Recipe::DEFAULT };
            let found = inspect::inspect(&self.model, &recipe)?;
            Ok((serde_json::to_string(&found)?, found.to_string()))
        };
        inspect().map_err(raised)
    }

    /// The outputs for one batch per input; of a `stream` each row goes on from the one before it.
    #[pyo3(signature = (inputs, stream = false))]
    fn run(&self, py: Python<'_>, inputs: Vec<PyBackedBytes>, stream: bool) -> PyResult<Vec<Py<PyAny>>> {
        let network = &self.model.network;
        let run = || {
            let expected = network.inputs.len();
            ensure!(
                inputs.len() == expected,
                "{}: takes {expected} input(s), {} given",
                self.model.name,
                inputs.len()
            );
            let batches = inputs
                .iter()
                .zip(&network.inputs)
                .map(|(bytes, border)| Samples::inputs_from_npy_bytes(("x", bytes), border.sample_shape()))
                .collect::<Result<Vec<_>, _>>()?;
            let caller = Caller::new(None, 0);
            let count = batches.first().map_or(0, |batch| batch.count);
            let rows = if stream { Rows::Hops } else { Rows::Samples };
            Ok((count, inference::run_watched(&self.model, &batches, rows, &|| caller.pause())?))
        };
        let (count, outputs) = py.detach(run).map_err(raised)?;
        let outputs = outputs.into_iter().zip(&network.outputs).map(|(values, border)| {
            let mut shape = vec![count];
            shape.extend(border.sample_shape());
            output(py, values, &shape)
        });
        outputs.collect()
    }

    /// A copy with statistics of what its last layer reads for these samples, for heads in closed form.
    #[pyo3(signature = (x, y = None))]
    fn calibrated(&self, py: Python<'_>, x: PyBackedBytes, y: Option<PyBackedBytes>) -> PyResult<Self> {
        let calibrate = || {
            let shape = sample_shape(&self.model);
            let count = self.model.output_shape().iter().product();
            let labels = Labels::Classes { count, names: self.names.clone(), questions: 0 };
            let samples = match &y {
                Some(y) => Samples::from_npy_bytes(("x", &x), ("y", y), &shape, &labels)?,
                None => Samples::inputs_from_npy_bytes(("x", &x), &shape)?,
            };
            let labelled = subject::labelled(&self.model, &samples, &mut Origin::default())?;
            let (inputs, own): (Vec<_>, Vec<_>) = labelled.into_iter().unzip();
            let model = calibrated(self.model.clone(), &inputs, y.is_some().then_some(own.as_slice()))?;
            Ok(Self { model, names: self.names.clone() })
        };
        py.detach(calibrate).map_err(raised)
    }

    /// The device format, and what is known of it as JSON.
    #[pyo3(signature = (layers = None, trains = Vec::new()))]
    fn pack<'py>(
        &self,
        py: Python<'py>,
        layers: Option<usize>,
        trains: Vec<String>,
    ) -> PyResult<(Bound<'py, PyBytes>, String)> {
        let pack = || {
            let plan = self.tail(layers, &trains)?;
            let file = self.model.pack(&plan)?;
            let sizes = file.pack().sizes();
            let known = json!({
                "layers": plan.layers, "pack_crc32": file.pack().crc32(),
                "tail_parameters": sizes.tail_parameters, "feature_length": sizes.feature_length,
                "arena_bytes": sizes.arena_bytes,
            });
            anyhow::Ok((file, known.to_string()))
        };
        let (file, known) = py.detach(pack).map_err(raised)?;
        Ok((PyBytes::new(py, file.bytes()), known))
    }

    /// A Rust file with the constants of the pack that is written as `path`.
    #[pyo3(signature = (path, layers = None, trains = Vec::new()))]
    fn constants(&self, path: PathBuf, layers: Option<usize>, trains: Vec<String>) -> PyResult<String> {
        let constants = || {
            let plan = self.tail(layers, &trains)?;
            inspect::constants(&self.model.pack(&plan)?, &path)
        };
        constants().map_err(raised)
    }

    /// Tunes the last layers: `flatmin tune` with one method.
    #[pyo3(signature = (data, labels, test, recipe, label_noise, groups, curve, progress))]
    #[expect(clippy::too_many_arguments, reason = "named where it is called, in one place")]
    fn tune(
        &self,
        py: Python<'_>,
        data: PyBackedBytes,
        labels: Option<PyBackedBytes>,
        test: Option<Batch>,
        recipe: &str,
        label_noise: f64,
        groups: Vec<String>,
        curve: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Tuned> {
        let tune = || {
            let mut file = parsed(recipe)?;
            ensure!(file.spare_classes.is_none(), "spare_classes is for `flatmin tune`, not for Python yet");
            let own = self.with_loss(file.loss);
            check_outputs(&own.model)?;
            let usual = file.is_closed_form().then_some(1);
            let layers = file.layers.map(usize::from).or(usual);
            let plan = own.model.tail_plan(layers, file.train.as_deref().unwrap_or_default())?;
            if file.compact == Some(true) {
                file.any_layers = !own.model.pack(&plan)?.pack().sizes().tail_is_chain;
            }
            let start = match (file.start, file.tuner()) {
                (Some(start), _) => start,
                (None, Tail::Full) => Start::usual(&own.model, &plan)?,
                (None, Tail::Compact) => Start::Factory,
                (None, Tail::Integer) => Start::usual_in_integers(&own.model, &plan)?,
            };
            let training = Training { curve, ..Training::of(&file, method(&file), start) };
            let subject = own.subject((data, labels), test, label_noise, groups, training.recipe.seed)?;
            let epochs = if training.steps { training.recipe.epochs } else { 0 };
            let caller = Caller::new(progress, epochs);
            Tuned::new(subject, plan, &training, method(&file), caller)
        };
        py.detach(tune).map_err(raised)
    }

    /// Searches what to train and how: `flatmin plan`. As JSON, as a table, and drawn.
    #[pyo3(signature = (data, labels, test, recipe, trials, groups))]
    #[expect(clippy::too_many_arguments, reason = "named where it is called, in one place")]
    fn plan(
        &self,
        py: Python<'_>,
        data: PyBackedBytes,
        labels: Option<PyBackedBytes>,
        test: Option<Batch>,
        recipe: &str,
        trials: usize,
        groups: Vec<String>,
    ) -> PyResult<(String, String, String)> {
        let plan = || {
            let base = parsed(recipe)?;
            ensure!((1..=1_000_000).contains(&trials), "trials is {trials}, must be from 1 to 1000000");
            ensure!(base.train.is_none(), "train is what a plan searches; leave it out");
            ensure!(base.compact != Some(true), "compact is not searched; leave it out");
            let own = self.with_loss(base.loss);
            check_outputs(&own.model)?;
            let seed = base.recipe.seed.unwrap_or(Recipe::DEFAULT.seed);
            let subject = own.subject((data, labels), test, 0.0, groups, seed)?.labelled("plan")?;
            let tails = Tails::Within(base.layers.map_or(DEPTH, usize::from));
            let budget = Budget { ram_bytes: base.budget.ram, step_macs: base.budget.macs };
            let base = RecipeFile { layers: None, ..base };
            let found =
                stoppable(|onlooker| planning::search(&subject, &base, &tails, budget, trials, onlooker))?;
            Ok((serde_json::to_string(&found)?, found.to_string(), found.svg()?))
        };
        py.detach(plan).map_err(raised)
    }
}

/// A bundled wearer: the model that was trained without them, the windows to tune on and to test on, and those of the others,
/// which the model knows.
#[pyfunction]
pub fn wearer(
    py: Python<'_>,
    number: usize,
    windows_per_class: usize,
    label_noise: f64,
    seed: u64,
) -> PyResult<(Network, [Pair; 3])> {
    let load = || {
        let own = Subject::wearer(number, windows_per_class, label_noise, seed)?;
        let others = own.calibration(number)?;
        anyhow::Ok((own, others))
    };
    let (own, others) = load().map_err(raised)?;
    let shape = sample_shape(&own.model);
    let pair = |samples: Vec<Labelled>| -> PyResult<Pair> {
        let mut sizes = vec![samples.len()];
        sizes.extend(&shape);
        let labels: Vec<i64> = samples.iter().map(|(_, label)| *label as i64).collect();
        let values: Vec<i8> = samples.into_iter().flat_map(|(input, _)| input).collect();
        Ok((array(py, values, &sizes)?.unbind(), labels.into_pyarray(py).into_any().unbind()))
    };
    let samples = [pair(own.adaptation)?, pair(own.test)?, pair(others)?];
    Ok((Network { model: own.model, names: own.classes }, samples))
}
