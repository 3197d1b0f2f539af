//! A tuning run on a device: the desktop sends samples and asks for steps, the device computes.

use super::{Device, judged};
use crate::link::Answer;
use anyhow::{Result, bail, ensure};
use flatmin::wire::Request;
use flatmin::{Method, Recipe, Work};
use flatmin_model::packer::PackFile;
use flatmin_sim::objective;
use flatmin_sim::report::{CurvePoint, TuningRun, Verdict};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{SHARPNESS_RHO, Start, Tail, Training, accuracy, rho_unit};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A sample was sent to tune on.
    Observed,
    /// An epoch is over.
    Epoch,
    /// A test sample was classified.
    Judged,
}

/// A run, and what a device's clock and stack say of it.
#[derive(Debug)]
pub struct Measured {
    /// The run; without RAM of the firmware and instructions.
    pub run: TuningRun,
    /// Largest stack, in bytes; 0 if the board cannot tell.
    pub stack_bytes: usize,
    /// Ticks a second of the board's clock.
    pub hertz: u32,
    /// Ticks of the work: observing, stepping, requantizing.
    pub ticks: u64,
    /// Of one sample's trunk, mean.
    pub trunk_ticks: Option<u64>,
    /// Of a step on a full minibatch, mean.
    pub step_ticks: Option<u64>,
}

/// Sum of figures, and how many.
#[derive(Debug, Default)]
struct Mean(u64, u64);

impl Mean {
    fn add(&mut self, value: u64) {
        *self = Self(self.0 + value, self.1 + 1);
    }

    fn get(&self) -> Option<u64> {
        self.0.checked_div(self.1)
    }
}

/// Takes gradient steps from the factory's tail: [`train`].
///
/// # Errors
/// As [`train`].
pub fn tune(
    device: &mut Device,
    pack: &PackFile,
    subject: &Subject,
    recipe: Recipe,
    sliced: bool,
    progress: impl FnMut(Progress),
) -> Result<Measured> {
    train(device, pack, subject, &Training::steps(Tail::Full, recipe), sliced, progress)
}

/// Tunes `subject` on a device that holds `pack`, with its factory tail in force: samples that it held are forgotten. The
/// recipe's replay capacity is the device's, and so is the tuner. `sliced`: steps slice by slice, with other work in between.
///
/// # Errors
/// Another pack, too many samples for the device's arena, and what the device refuses.
pub fn train(
    device: &mut Device,
    pack: &PackFile,
    subject: &Subject,
    training: &Training,
    sliced: bool,
    mut progress: impl FnMut(Progress),
) -> Result<Measured> {
    let identity = device.identify()?;
    let sizes = pack.pack().sizes();
    let found = pack.pack().crc32();
    ensure!(
        identity.pack_crc32 == found,
        "the device holds another pack ({:#010x}) than this model makes ({found:#010x}): give the model and \
         --layers that its firmware was built with",
        identity.pack_crc32
    );
    let samples = subject.adaptation.len();
    ensure!(
        samples <= identity.capacity.into(),
        "{samples} samples to tune on, the device's arena holds {}: give it fewer, or build its firmware for more (the \
         recipe's `replay_capacity`)",
        identity.capacity
    );
    let recipe = Recipe { replay_capacity: identity.capacity, ..training.recipe };
    let memory = training.tuner.memory(&sizes, &recipe);
    done(device.ask(&Request::Forget)?)?;
    let (mut trunk, mut ticks) = (Mean::default(), 0);
    for (input, label) in &subject.adaptation {
        let own = done(device.ask(&objective::observation(pack.pack().loss(), input, *label)?)?)?;
        trunk.add(own);
        ticks += own;
        progress(Progress::Observed);
    }
    for _ in 0..subject.added_classes()? {
        let Answer::ClassAdded { ticks: own, .. } = device.ask(&Request::AddClass)? else {
            bail!("the device did not answer that a class was added");
        };
        ticks += own;
    }
    let mut curve = Vec::new();
    if training.start == Start::ClosedForm {
        ticks += done(device.ask(&Request::Solve(recipe))?)?;
    }
    if training.steps {
        ticks += done(device.ask(&Request::Start(recipe))?)?;
    } else {
        curve.push(CurvePoint { epoch: 1, adaptation_loss: loss_of(device)?, test_accuracy: None });
        progress(Progress::Epoch);
    }
    let (mut steps, mut step) = (0, Mean::default());
    let minibatch = usize::from(recipe.minibatch);
    let mut running = training.steps;
    while running {
        let answer = if sliced { step_in_slices(device, subject)? } else { device.ask(&Request::Step)? };
        let Answer::Stepped { epoch, epoch_finished, finished, ticks: own, .. } = answer else {
            bail!("the device did not answer with a step");
        };
        ticks += own;
        steps += 1;
        // The last minibatch of an epoch has the samples that are left.
        if steps * minibatch <= samples {
            step.add(own);
        }
        if epoch_finished {
            let adaptation_loss = loss_of(device)?;
            // The test set stays on the desktop until the run is over.
            curve.push(CurvePoint { epoch: u32::from(epoch) + 1, adaptation_loss, test_accuracy: None });
            steps = 0;
            progress(Progress::Epoch);
        }
        running = !finished;
    }
    let verdict = if recipe.held_out > 0.0 {
        let Answer::Accepted { acceptance, ticks: own } = device.ask(&Request::Accept)? else {
            bail!("the device did not answer whether it takes the tail");
        };
        ticks += own;
        Some(Verdict::new(&acceptance, None))
    } else {
        ticks += done(device.ask(&Request::Requantize)?)?;
        None
    };
    let (classes, judged) = (subject.classes.len(), || progress(Progress::Judged));
    let judged = if objective::copies(&pack.pack()) {
        judged::copies(device, &subject.test, classes, judged)?
    } else {
        judged::classes(device, &subject.test, classes, judged)?
    };
    let Answer::Summary { weights_crc32, macs, sharpness, stack_bytes } =
        device.ask(&Request::Summarize { rho: SHARPNESS_RHO })?
    else {
        bail!("the device did not answer with a summary");
    };
    let run = TuningRun {
        subject: subject.name.clone(),
        method: training.name().to_owned(),
        rho: if recipe.method == Method::Sgd { 0.0 } else { recipe.rho },
        rho_unit: rho_unit(&recipe),
        factory_accuracy: accuracy(&judged.factory),
        accuracy_f32: judged.accuracy_f32,
        accuracy_int8: accuracy(&judged.tuned),
        loss: judged.loss,
        sharpness: f64::from(sharpness),
        lambda_max: None,
        train_ram_bytes: training.tuner.arena_bytes(&sizes, &recipe),
        memory,
        ram: Vec::new(),
        ram_announced_bytes: None,
        tail_parameters: sizes.tail_parameters,
        macs,
        train_seconds: 0.0,
        weights_crc32,
        instructions: None,
        instructions_trunk: None,
        instructions_step: None,
        curve,
        confusion_factory: judged.factory,
        confusion_tuned: judged.tuned,
        // The link tells classes, not outputs.
        sureness_factory: Vec::new(),
        sureness_tuned: Vec::new(),
        changes: judged.changes,
        verdict,
        anomalies: judged.anomalies,
        warnings: Vec::new(),
    };
    Ok(Measured {
        run,
        stack_bytes: stack_bytes as usize,
        hertz: identity.hertz,
        ticks,
        trunk_ticks: trunk.get(),
        step_ticks: step.get(),
    })
}

/// Mean loss of the device's samples.
fn loss_of(device: &mut Device) -> Result<f64> {
    match device.ask(&Request::Measure { rho: 0.0 })? {
        Answer::Metrics(means) => Ok(f64::from(means.loss)),
        other => bail!("the device answers {other:?} instead of its loss"),
    }
}

/// One step, slice by slice. In between the device classifies, and its weights are those before the step.
fn step_in_slices(device: &mut Device, subject: &Subject) -> Result<Answer> {
    let before = device.identify()?.weights_crc32;
    let (mut slices, mut ticks, mut class) = (0, 0, None);
    loop {
        let work = match device.ask(&Request::Poll)? {
            Answer::Underway { position, ticks: own } => {
                ticks += own;
                position.work
            }
            Answer::Stepped { epoch, loss, epoch_finished, finished, ticks: own } => {
                return Ok(Answer::Stepped { epoch, loss, epoch_finished, finished, ticks: ticks + own });
            }
            other => bail!("the device answers {other:?} instead of a slice of a step"),
        };
        slices += 1;
        let Some((input, _)) = subject.test.first() else { continue };
        let answer = device.ask(&Request::Classify { input: bytemuck::cast_slice(input) })?;
        let Answer::Classified { class: found, output, .. } = answer else {
            bail!("the device answers {answer:?} instead of a class");
        };
        ensure!(
            *class.get_or_insert((found, output)) == (found, output),
            "after slice {slices} of a step the device classifies by another tail"
        );
        let after = device.identify()?.weights_crc32;
        // An epoch's last step is over before its losses are taken.
        let over = !matches!(work, Work::Step(_));
        ensure!(
            after == before || over,
            "after slice {slices} of a step the weights are {after:#010x}, before it they were {before:#010x}"
        );
    }
}

pub(super) fn done(answer: Answer) -> Result<u64> {
    match answer {
        Answer::Done(ticks) => Ok(ticks),
        other => bail!("the device answers {other:?} instead of being done"),
    }
}
