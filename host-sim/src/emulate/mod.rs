//! Builds the firmware, runs it in QEMU and tunes there: the same data and seed as on the desktop, over the
//! emulated serial line.
//!
//! Instructions come from the firmware's own clock under QEMU's `-icount`, where time passes by instructions
//! alone. The firmware reads its clock around the work that a request asks for: waiting for the serial line,
//! decoding and answering are not in the figures.

mod board;
mod device;
mod image;
mod log;

pub use crate::link::Answer;
pub use board::{BOARDS, Board};
pub use device::Device;
pub use image::Image;
pub(crate) use image::toolchain;
pub use log::LogSink;

use crate::model::Model;
use crate::packer::{PackFile, TailPlan};
use crate::report::{CurvePoint, TuningRun};
use crate::tuning::{SHARPNESS_RHO, Subject, accuracy, method_name, sized};
use anyhow::{Context, Result, bail};
use flatmin::wire::Request;
use flatmin::{MemoryPlan, Method, Recipe};
use flatmin_app::RamBudget;

/// A firmware with a model in it.
#[derive(Debug)]
pub struct Firmware {
    image: Image,
    pack: PackFile,
    log: LogSink,
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

impl Firmware {
    /// Builds the firmware of the board that QEMU calls `board` around `model`, with an arena for `recipe`. Its
    /// log lines go to `log`.
    ///
    /// # Errors
    /// An unknown board, a missing target, or what the compiler says.
    pub fn build(
        board: &str,
        model: &Model,
        tail: impl Into<TailPlan>,
        recipe: &Recipe,
        log: LogSink,
    ) -> Result<Self> {
        let board = Board::named(board)?;
        let pack = model.pack(tail)?;
        Ok(Self { image: Image::build(board, pack.bytes(), recipe)?, pack, log })
    }

    /// The executable.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Tunes `subject` on the emulated board.
    ///
    /// # Errors
    /// QEMU missing, a firmware that stops, or what the device refuses.
    pub fn tune(&self, subject: &Subject, recipe: Recipe, epoch_done: impl Fn()) -> Result<TuningRun> {
        let recipe = sized(subject, recipe)?;
        let (pack, sizes) = (self.pack.pack(), self.pack.pack().sizes());
        let plan = MemoryPlan::new(&sizes, &recipe);
        let mut device = Device::start(&self.image, self.log.clone())?;
        match device.ask(&Request::Identify)? {
            Answer::Identity { pack_crc32, arena_bytes }
                if pack_crc32 == pack.crc32() && arena_bytes as usize == plan.total_bytes() => {}
            other => bail!("the device holds another pack or was built for another recipe: {other:?}"),
        }
        let (mut trunk, mut ticks) = (Mean::default(), 0);
        for (input, label) in &subject.adaptation {
            let label = u16::try_from(*label)?;
            let own = done(device.ask(&Request::Observe { label, input: bytemuck::cast_slice(input) })?)?;
            trunk.add(own);
            ticks += own;
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
            if losses.len() * minibatch <= subject.adaptation.len() {
                step.add(own);
            }
            if epoch_finished {
                let adaptation_loss = f64::from(losses.iter().sum::<f32>() / losses.len() as f32);
                // The test set stays on the desktop until the run is over.
                curve.push(CurvePoint { epoch: u32::from(epoch) + 1, adaptation_loss, test_accuracy: None });
                losses.clear();
                epoch_done();
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
            let request =
                Request::Judge { label: u16::try_from(*label)?, input: bytemuck::cast_slice(input) };
            let Answer::Judged { factory: f, tuned_f32, tuned_int8: Some(int8), loss } =
                device.ask(&request)?
            else {
                bail!("the device did not answer with a judgement");
            };
            factory[*label][usize::from(f)] += 1;
            tuned[*label][usize::from(int8)] += 1;
            right_f32 += usize::from(usize::from(tuned_f32) == *label);
            loss_sum += f64::from(loss);
        }
        let Answer::Summary { weights_crc32, macs, sharpness, stack_bytes } =
            device.ask(&Request::Summarize { rho: SHARPNESS_RHO })?
        else {
            bail!("the device did not answer with a summary");
        };
        let tests = subject.test.len().max(1) as f64;
        let board = self.image.board;
        let instructions = |mean: &Mean| mean.get().map(|ticks| board.instructions(ticks));
        let budget = RamBudget::new(&sizes, &recipe);
        Ok(TuningRun {
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
            ram: self.ram(&budget, stack_bytes as usize)?,
            ram_announced_bytes: Some(budget.total_bytes()),
            tail_parameters: sizes.tail_parameters,
            macs,
            weights_crc32,
            instructions: Some(board.instructions(ticks)),
            instructions_trunk: instructions(&trunk),
            instructions_step: instructions(&step),
            curve,
            confusion_factory: factory,
            confusion_tuned: tuned,
        })
    }

    /// The board's RAM by purpose: the linker's figure, divided, and the stack as measured.
    fn ram(&self, budget: &RamBudget, stack: usize) -> Result<Vec<(String, usize)>> {
        let linked = self.image.static_ram_bytes()?;
        let statics = (linked.checked_sub(budget.arena.total_bytes() + budget.link))
            .with_context(|| format!("the firmware has {linked} bytes of statics, fewer than its buffers"))?;
        let own = [("link frames", budget.link), ("stack, measured", stack), ("other statics", statics)];
        let all = budget.arena.by_purpose().into_iter().chain(own);
        Ok(all.map(|(purpose, bytes)| (purpose.to_owned(), bytes)).collect())
    }
}

fn done(answer: Answer) -> Result<u64> {
    match answer {
        Answer::Done(ticks) => Ok(ticks),
        other => bail!("the device answers {other:?} instead of being done"),
    }
}
