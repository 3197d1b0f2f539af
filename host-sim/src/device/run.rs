//! A tuning run on a device: the desktop sends samples and asks for steps, the device computes.

use super::Device;
use crate::link::Answer;
use crate::packer::PackFile;
use crate::report::{CurvePoint, TuningRun};
use crate::tuning::{SHARPNESS_RHO, Subject, accuracy, method_name};
use anyhow::{Result, bail, ensure};
use flatmin::wire::Request;
use flatmin::{MemoryPlan, Method, Recipe};

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

/// Tunes `subject` on a device that holds `pack`, from its factory tail: samples that it held are forgotten. The
/// recipe's replay capacity is the device's.
///
/// # Errors
/// Another pack, too many samples for the device's arena, and what the device refuses.
pub fn tune(
    device: &mut Device,
    pack: &PackFile,
    subject: &Subject,
    recipe: Recipe,
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
        "{samples} samples to tune on, the device's arena holds {}: fewer windows, or firmware built with a \
         larger FLATMIN_REPLAY_CAPACITY",
        identity.capacity
    );
    let recipe = Recipe { replay_capacity: identity.capacity, ..recipe };
    let plan = MemoryPlan::new(&sizes, &recipe);
    done(device.ask(&Request::Forget)?)?;
    let (mut trunk, mut ticks) = (Mean::default(), 0);
    for (input, label) in &subject.adaptation {
        let label = u16::try_from(*label)?;
        let own = done(device.ask(&Request::Observe { label, input: bytemuck::cast_slice(input) })?)?;
        trunk.add(own);
        ticks += own;
        progress(Progress::Observed);
    }
    ticks += done(device.ask(&Request::Start(recipe))?)?;
    let (mut losses, mut curve, mut step) = (Vec::new(), Vec::new(), Mean::default());
    let minibatch = usize::from(recipe.minibatch);
    loop {
        let Answer::Stepped { epoch, loss, epoch_finished, finished, ticks: own } =
            device.ask(&Request::Step)?
        else {
            bail!("the device did not answer with a step");
        };
        ticks += own;
        losses.push(loss);
        // The last minibatch of an epoch has the samples that are left.
        if losses.len() * minibatch <= samples {
            step.add(own);
        }
        if epoch_finished {
            let adaptation_loss = f64::from(losses.iter().sum::<f32>() / losses.len() as f32);
            // The test set stays on the desktop until the run is over.
            curve.push(CurvePoint { epoch: u32::from(epoch) + 1, adaptation_loss, test_accuracy: None });
            losses.clear();
            progress(Progress::Epoch);
        }
        if finished {
            break;
        }
    }
    ticks += done(device.ask(&Request::Requantize)?)?;
    let classes = subject.classes.len();
    let (mut factory, mut tuned) = (vec![vec![0; classes]; classes], vec![vec![0; classes]; classes]);
    let (mut right_f32, mut loss_sum) = (0usize, 0.0);
    for (input, label) in &subject.test {
        let request = Request::Judge { label: u16::try_from(*label)?, input: bytemuck::cast_slice(input) };
        let Answer::Judged { factory: f, tuned_f32, tuned_int8: Some(int8), loss } = device.ask(&request)?
        else {
            bail!("the device did not answer with a judgement");
        };
        factory[*label][usize::from(f)] += 1;
        tuned[*label][usize::from(int8)] += 1;
        right_f32 += usize::from(usize::from(tuned_f32) == *label);
        loss_sum += f64::from(loss);
        progress(Progress::Judged);
    }
    let Answer::Summary { weights_crc32, macs, sharpness, stack_bytes } =
        device.ask(&Request::Summarize { rho: SHARPNESS_RHO })?
    else {
        bail!("the device did not answer with a summary");
    };
    let tests = subject.test.len().max(1) as f64;
    let run = TuningRun {
        subject: subject.name.clone(),
        method: method_name(recipe.method).to_owned(),
        rho: if recipe.method == Method::Sgd { 0.0 } else { recipe.rho },
        factory_accuracy: accuracy(&factory),
        accuracy_f32: right_f32 as f64 / tests,
        accuracy_int8: accuracy(&tuned),
        loss: loss_sum / tests,
        sharpness: f64::from(sharpness),
        memory: plan.by_purpose().map(|(purpose, bytes)| (purpose.to_owned(), bytes)).into(),
        train_ram_bytes: plan.total_bytes(),
        ram: Vec::new(),
        ram_announced_bytes: None,
        tail_parameters: sizes.tail_parameters,
        macs,
        weights_crc32,
        instructions: None,
        instructions_trunk: None,
        instructions_step: None,
        curve,
        confusion_factory: factory,
        confusion_tuned: tuned,
        verdict: None,
        anomalies: None,
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

fn done(answer: Answer) -> Result<u64> {
    match answer {
        Answer::Done(ticks) => Ok(ticks),
        other => bail!("the device answers {other:?} instead of being done"),
    }
}
