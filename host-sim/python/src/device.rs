//! A device: simulated in this process, emulated, on a TCP socket or on a serial port.

use crate::errors::raised;
use crate::network::{Batch, Network, inputs};
use crate::recipe::{method, parsed};
use crate::tuned::{Asked, Tuned};
use crate::watching::interruptible;
use anyhow::{Context, Result, bail, ensure};
use flatmin::wire::Request;
use flatmin::{Method, Recipe};
use flatmin_link::device::{self, Device as Linked, Measured, Progress};
use flatmin_link::emulate::{Firmware, Kind, LogSink, Options};
use flatmin_link::key;
use flatmin_link::link::Answer;
use flatmin_model::packer::{PackFile, TailPlan};
use flatmin_model::recipe_file::RecipeFile;
use flatmin_sim::delta;
use flatmin_sim::objective;
use flatmin_sim::report::evidence_name;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, Tail, Training};
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The model that a device has, and what of it is tuned.
#[derive(Debug, Clone)]
struct Known {
    network: Network,
    plan: TailPlan,
    pack: PackFile,
}

impl Known {
    fn new(network: &Network, layers: Option<usize>, trains: &[String]) -> Result<Self> {
        let plan = network.tail(layers, trains)?;
        Ok(Self { network: network.clone(), pack: network.model.pack(&plan)?, plan })
    }
}

/// A device that answers.
#[pyclass(frozen, module = "flatmin._native")]
#[derive(Debug)]
pub struct Device {
    /// None once it is closed.
    line: Mutex<Option<Linked>>,
    stop: Arc<AtomicBool>,
    known: Option<Known>,
}

/// The recipe that an arena is made for, and its tuner.
fn arena(known: &Known, recipe: &str) -> Result<(RecipeFile, Recipe, Tail)> {
    let mut file = parsed(recipe)?;
    if file.compact == Some(true) {
        file.any_layers = !known.pack.pack().sizes().tail_is_chain;
    }
    // A chain's arena has one size for all methods; elsewhere ASAM takes most.
    let recipe = file.recipe(Method::Asam, Start::Factory);
    let tuner = file.tuner();
    Ok((file, recipe, tuner))
}

impl Device {
    fn over(
        py: Python<'_>,
        key: Option<PathBuf>,
        known: Option<Known>,
        connect: impl FnOnce(Option<&Known>) -> Result<Linked> + Send,
    ) -> PyResult<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let reach = || {
            let key = key.as_deref().map(key::read).transpose()?;
            let device = connect(known.as_ref())?.stopped_by(stop.clone());
            Ok(match key {
                Some(key) => device.with_key(key),
                None => device,
            })
        };
        let line = py.detach(|| interruptible(&AtomicBool::new(false), reach)).map_err(raised)?;
        Ok(Self { line: Mutex::new(Some(line)), stop, known })
    }

    /// Asks with the interpreter free for others; Ctrl-C ends it between two requests.
    fn asking<T: Send>(
        &self,
        py: Python<'_>,
        ask: impl FnOnce(&mut Linked) -> Result<T> + Send,
    ) -> PyResult<T> {
        let work = || {
            let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            self.stop.store(false, Ordering::Relaxed);
            let device = line.as_mut().context("the device is closed")?;
            interruptible(&self.stop, || ask(device))
        };
        py.detach(work).map_err(raised)
    }

    fn known(&self) -> Result<&Known> {
        self.known.as_ref().context("what the device holds is not known here: name its model, model=")
    }
}

/// What a run is asked for, on a device with this tuner.
fn asked(known: &Known, file: &RecipeFile, tuner: Tail, capacity: u16) -> Result<Asked> {
    let own = usize::from(file.layers.unwrap_or(known.plan.layers as _));
    ensure!(
        own == known.plan.layers && file.train.is_none(),
        "layers and train are the device's: name them where it is opened"
    );
    let file = RecipeFile {
        compact: (tuner != Tail::Full).then_some(true),
        any_layers: tuner == Tail::Integer,
        ..file.clone()
    };
    let model = &known.network.model;
    let start = match (file.start, tuner) {
        (Some(start), _) => start,
        (None, Tail::Full) => Start::usual(model, &known.plan)?,
        (None, Tail::Compact) => Start::Factory,
        (None, Tail::Integer) => Start::usual_in_integers(model, &known.plan)?,
    };
    let training = Training::of(&file, method(&file), start);
    let recipe = Recipe { replay_capacity: capacity, ..training.recipe };
    let training = Training { recipe, replay_capacity: Some(capacity), tuner, ..training };
    Ok(Asked { plan: known.plan.clone(), training, method: method(&file) })
}

/// Tunes there, and takes the tail along.
fn tuned(
    device: &mut Linked,
    known: &Known,
    asked: &Asked,
    subject: &Subject,
    progress: impl FnMut(Progress),
) -> Result<(Measured, Option<Vec<u8>>)> {
    let measured = device::train(device, &known.pack, subject, &asked.training, false, progress)?;
    let tail = match device.identify()?.tuned {
        true => Some(device::pull_tail(device, Some(&known.pack))?),
        false => None,
    };
    Ok((measured, tail))
}

/// Log lines into a file, or nowhere.
fn log_sink(path: Option<&Path>) -> Result<LogSink> {
    let Some(path) = path else { return Ok(LogSink::new(|_| ())) };
    let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let file = Mutex::new(file);
    Ok(LogSink::new(move |line| {
        // A log that cannot be written is no reason to stop the run.
        if let Ok(mut file) = file.lock() {
            let _ = writeln!(file, "{line}");
        }
    }))
}

#[pymethods]
impl Device {
    /// A device in this process.
    #[staticmethod]
    #[pyo3(signature = (network, layers, trains, recipe))]
    fn simulated(
        py: Python<'_>,
        network: &Network,
        layers: Option<usize>,
        trains: Vec<String>,
        recipe: &str,
    ) -> PyResult<Self> {
        let known = Known::new(network, layers, &trains).map_err(raised)?;
        Self::over(py, None, Some(known), |known| {
            let known = known.context("a simulated device has a model")?;
            let (_, recipe, tuner) = arena(known, recipe)?;
            Linked::simulated(tuner, &known.pack, &recipe)
        })
    }

    /// Firmware that is built and started in QEMU.
    #[staticmethod]
    #[pyo3(signature = (network, layers, trains, recipe, board, flash, log, key))]
    #[expect(clippy::too_many_arguments, reason = "named where it is called, in one place")]
    fn emulated(
        py: Python<'_>,
        network: &Network,
        layers: Option<usize>,
        trains: Vec<String>,
        recipe: &str,
        board: &str,
        flash: Option<PathBuf>,
        log: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> PyResult<Self> {
        let known = Known::new(network, layers, &trains).map_err(raised)?;
        let signed = key.is_some();
        Self::over(py, key, Some(known), |known| {
            let known = known.context("an emulated device has a model")?;
            let (file, recipe, tail) = arena(known, recipe)?;
            let solver = file.is_closed_form() || file.start == Some(Start::ClosedForm);
            let (kind, sink) = (Kind { tail, solver, signed }, log_sink(log.as_deref())?);
            let model = &known.network.model;
            let firmware = Firmware::build_as(kind, board, model, &known.plan, &recipe, sink.clone())?;
            let options = Options { flash: flash.as_deref(), count_instructions: false };
            Linked::emulated(firmware.image(), options, sink)
        })
    }

    /// A device on a TCP socket, `host:port`.
    #[staticmethod]
    #[pyo3(signature = (address, network, layers, trains, key))]
    fn tcp(
        py: Python<'_>,
        address: &str,
        network: Option<&Network>,
        layers: Option<usize>,
        trains: Vec<String>,
        key: Option<PathBuf>,
    ) -> PyResult<Self> {
        let known = network.map(|own| Known::new(own, layers, &trains)).transpose().map_err(raised)?;
        Self::over(py, key, known, |_| Linked::tcp(address))
    }

    /// A device on a serial port.
    #[staticmethod]
    #[pyo3(signature = (port, baud, network, layers, trains, key))]
    fn serial(
        py: Python<'_>,
        port: &str,
        baud: u32,
        network: Option<&Network>,
        layers: Option<usize>,
        trains: Vec<String>,
        key: Option<PathBuf>,
    ) -> PyResult<Self> {
        let known = network.map(|own| Known::new(own, layers, &trains)).transpose().map_err(raised)?;
        Self::over(py, key, known, |_| Linked::serial(port, baud))
    }

    /// Ends the session; an emulator ends, too.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.line.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }

    /// Who it is, as JSON.
    fn info(&self, py: Python<'_>) -> PyResult<String> {
        self.asking(py, |device| Ok(serde_json::to_string(&device.identify()?)?))
    }

    /// Forgets all samples, with the factory's tail in force.
    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        self.asking(py, |device| device.ask(&Request::Forget).map(drop))
    }

    /// Has it keep labelled samples.
    #[pyo3(signature = (data, labels = None))]
    fn observe(&self, py: Python<'_>, data: PyBackedBytes, labels: Option<PyBackedBytes>) -> PyResult<()> {
        let known = self.known().map_err(raised)?;
        self.asking(py, |device| {
            let loss = known.pack.pack().loss();
            for (input, label) in &known.network.labelled(&data, labels.as_deref())? {
                device.ask(&objective::observation(loss, input, *label)?)?;
            }
            Ok(())
        })
    }

    /// Tunes from the factory's tail: `flatmin device tune`.
    #[pyo3(signature = (data, labels, test, recipe, label_noise, groups, progress))]
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
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Tuned> {
        let known = self.known().map_err(raised)?;
        let failure = Mutex::new(None);
        let outcome = self.asking(py, |device| {
            let file = parsed(recipe)?;
            let identity = device.identify()?;
            let asked = asked(known, &file, Tail::of(identity.contents), identity.capacity)?;
            let seed = asked.training.recipe.seed;
            let network = known.network.clone();
            let subject = network.subject((data, labels), test, label_noise, groups, seed)?;
            let subject = subject.labelled("device")?.of_single_hops("device")?;
            let epochs = if asked.training.steps { asked.training.recipe.epochs } else { 0 };
            let mut epoch = 0u32;
            let (measured, tail) = tuned(device, known, &asked, &subject, |news| {
                let Some(progress) = progress.as_ref().filter(|_| news == Progress::Epoch) else { return };
                epoch += 1;
                let news = (epoch, epochs, None::<f64>, None::<f64>);
                if let Err(error) = Python::attach(|py| progress.call1(py, news)) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    self.stop.store(true, Ordering::Relaxed);
                }
            })?;
            Tuned::of_device(asked, subject, &measured, tail)
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => outcome,
        }
    }

    /// Tunes on the samples that it keeps, from the tail in force; what came of it as JSON.
    fn adapt(&self, py: Python<'_>, recipe: &str) -> PyResult<String> {
        let known = self.known().map_err(raised)?;
        self.asking(py, |device| {
            let mut file = parsed(recipe)?;
            let identity = device.identify()?;
            if !file.is_closed_form() {
                // Not from the factory's head, unless that is asked for.
                file.start = Some(file.start.unwrap_or(Start::Factory));
            }
            let asked = asked(known, &file, Tail::of(identity.contents), identity.capacity)?;
            let own = device::adapt(device, &asked.training)?;
            let verdict = own.acceptance.map(|own| {
                json!({
                    "accepted": own.accepted, "samples": own.candidate.samples,
                    "evidence": evidence_name(own.evidence),
                })
            });
            let seconds = own.ticks as f64 / f64::from(identity.hertz.max(1));
            let loss = Some(own.loss).filter(|loss| loss.is_finite());
            Ok(json!({
                "samples": own.samples, "steps": own.steps, "loss": loss, "verdict": verdict,
                "weights_crc32": own.weights_crc32, "seconds": seconds,
            })
            .to_string())
        })
    }

    /// Classes of samples by the tail in force.
    fn classify(&self, py: Python<'_>, x: PyBackedBytes) -> PyResult<Py<PyAny>> {
        let known = self.known().map_err(raised)?;
        let classes: Vec<i64> = self.asking(py, |device| {
            let mut classes = Vec::new();
            for input in inputs(&known.network.model, &x)? {
                let input: Vec<u8> = input.iter().map(|q| q.cast_unsigned()).collect();
                match device.ask(&Request::Classify { input: &input })? {
                    Answer::Classified { class, .. } => classes.push(class.into()),
                    other => bail!("the device answers {other:?} instead of a class"),
                }
            }
            Ok(classes)
        })?;
        Ok(classes.into_pyarray(py).into_any().unbind())
    }

    /// `commit`, `roll-back` or `factory-reset`; what is in force then, as JSON.
    fn change(&self, py: Python<'_>, what: &str) -> PyResult<String> {
        self.asking(py, |device| {
            let request = match what {
                "commit" => Request::Commit,
                "roll-back" => Request::RollBack,
                "factory-reset" => Request::FactoryReset,
                other => bail!("there is no change `{other}`"),
            };
            match device.ask(&request)? {
                Answer::InForce { sequence, weights_crc32, .. } => {
                    Ok(json!({ "sequence": sequence, "weights_crc32": weights_crc32 }).to_string())
                }
                other => bail!("the device answers {other:?} instead of what is in force"),
            }
        })
    }

    /// The tuned tail's difference from the factory's: `flatmin device backup --delta`.
    fn delta<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let known = self.known().map_err(raised)?;
        let file = self.asking(py, |device| device::backup_delta(device, &known.pack, |_, _| ()))?;
        Ok(PyBytes::new(py, &file))
    }

    /// The tuned tail with its weights as a file: `flatmin device backup`.
    fn pull<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let file = self.asking(py, |device| device::backup(device, |_, _| ()))?;
        Ok(PyBytes::new(py, &file))
    }

    /// Puts what either gave in force; the CRC-32 of its weights.
    fn push(&self, py: Python<'_>, file: PyBackedBytes) -> PyResult<u32> {
        self.asking(py, |device| match delta::is_delta(&file) {
            true => device::restore_delta(device, &self.known()?.pack, &file, |_, _| ()),
            false => device::restore(device, &file, |_, _| ()),
        })
    }

    /// The tail's bytes alone, those of int8 or all.
    fn pull_tail<'py>(&self, py: Python<'py>, int8: bool) -> PyResult<Bound<'py, PyBytes>> {
        let known = self.known().map_err(raised)?;
        let tail = self.asking(py, |device| device::pull_tail(device, int8.then_some(&known.pack)))?;
        Ok(PyBytes::new(py, &tail))
    }

    /// Puts a tail's bytes in force; the CRC-32 of its weights.
    fn push_tail(&self, py: Python<'_>, tail: PyBackedBytes) -> PyResult<u32> {
        self.asking(py, |device| device::push_tail(device, &tail))
    }
}
