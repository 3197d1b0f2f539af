//! Builds the firmware, runs it in QEMU and tunes there: the same data and seed as on the desktop, over the
//! emulated serial line.
//!
//! Instructions come from the firmware's own clock under QEMU's `-icount`, where time passes by instructions
//! alone. The firmware reads its clock around the work that a request asks for: waiting for the serial line,
//! decoding and answering are not in the figures.

pub use crate::device::Device;
pub use crate::firmware::{BOARDS, Board, Image, Kind, LogSink, Machine, Options};
pub use crate::link::Answer;

use crate::device::{self, Progress};
use anyhow::{Context, Result, ensure};
use flatmin::{CompactTuner, IntegerTuner, Recipe};
use flatmin_app::{RamBudget, SOLVING};
use flatmin_model::model::Model;
use flatmin_model::packer::{PackFile, TailPlan};
use flatmin_sim::report::TuningRun;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, Tail, Training};

/// A firmware with a model in it.
#[derive(Debug)]
pub struct Firmware {
    image: Image,
    kind: Kind,
    budget: RamBudget,
    pack: PackFile,
    replay_capacity: u16,
    log: LogSink,
}

impl Firmware {
    /// Builds the firmware of the board called `board` around `model`, with an arena for `recipe`. Its log lines go
    /// to `log`.
    ///
    /// # Errors
    /// An unknown board, one with too little RAM, a missing target, or what the compiler says.
    pub fn build(
        board: &str,
        model: &Model,
        tail: impl Into<TailPlan>,
        recipe: &Recipe,
        log: LogSink,
    ) -> Result<Self> {
        Self::build_as(Tail::Full, board, model, tail, recipe, log)
    }

    /// Builds a firmware of the kind asked for.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_as(
        kind: impl Into<Kind>,
        board: &str,
        model: &Model,
        tail: impl Into<TailPlan>,
        recipe: &Recipe,
        log: LogSink,
    ) -> Result<Self> {
        let (board, kind) = (Board::named(board)?, kind.into());
        ensure!(
            !kind.signed || board.flash_bytes > 0,
            "{} has no flash for a key: take riscv32-virt, or leave --key out",
            board.name
        );
        let pack = model.pack(tail)?;
        // What a tuner in integers refuses of a pack comes before minutes of building.
        let mut words = kind.tail.arena(&pack, recipe);
        let arena = bytemuck::cast_slice_mut(&mut words);
        match kind.tail {
            Tail::Full => Ok(()),
            Tail::Compact => CompactTuner::in_arena(pack.pack(), *recipe, arena).map(|_| ()),
            Tail::Integer => IntegerTuner::in_arena(pack.pack(), *recipe, arena).map(|_| ()),
        }
        .with_context(|| model.name.clone())?;
        let sizes = pack.pack().sizes();
        let mut budget = board.budget(kind.tail, &sizes, recipe);
        if kind.tail == Tail::Full && (kind.solver || pack.pack().statistics().is_some()) {
            budget = budget.with_solver(&sizes, recipe);
        }
        let needed = budget.total_bytes() - if board.stack_apart { budget.stack } else { 0 };
        ensure!(
            needed <= board.ram_bytes,
            "{} samples take {needed} bytes of RAM, {} has {}: take fewer samples or layers, or --integer",
            recipe.replay_capacity,
            board.name,
            board.ram_bytes
        );
        let image = Image::build_as(kind, board, pack.bytes(), recipe)?;
        Ok(Self { image, kind, budget, pack, replay_capacity: recipe.replay_capacity, log })
    }

    /// The executable.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The model as it lies in it.
    pub fn pack(&self) -> &PackFile {
        &self.pack
    }

    /// Takes gradient steps on `subject`, from the factory's tail, on the emulated board.
    ///
    /// # Errors
    /// As [`Self::train`].
    pub fn tune(&self, subject: &Subject, recipe: Recipe, epoch_done: impl Fn()) -> Result<TuningRun> {
        self.train(subject, &Training::steps(self.kind.tail, recipe), epoch_done)
    }

    /// Trains the tail as asked for on the emulated board.
    ///
    /// # Errors
    /// QEMU missing, a firmware that stops, or what the device refuses.
    pub fn train(&self, subject: &Subject, training: &Training, epoch_done: impl Fn()) -> Result<TuningRun> {
        let recipe = Recipe { replay_capacity: self.replay_capacity, ..training.recipe };
        let training = Training { recipe, ..*training };
        let mut device = Device::start(&self.image, self.log.clone())?;
        let measured = device::train(&mut device, &self.pack, subject, &training, false, |progress| {
            if progress == Progress::Epoch {
                epoch_done();
            }
        })?;
        let (sizes, tail) = (self.pack.pack().sizes(), self.kind.tail);
        let mut memory = tail.memory(&sizes, &recipe);
        let solves = training.start == Start::ClosedForm && self.budget.solving > 0;
        memory.extend(solves.then(|| (SOLVING.to_owned(), self.budget.solving)));
        let hertz = self.image.board.hertz.unwrap_or(measured.hertz);
        let instructions = |ticks: Option<u64>| ticks.map(|ticks| Board::instructions(ticks, hertz));
        Ok(TuningRun {
            train_ram_bytes: memory.iter().map(|(_, bytes)| bytes).sum(),
            memory,
            ram: self.ram(measured.stack_bytes)?,
            ram_announced_bytes: Some(self.budget.total_bytes()),
            instructions: instructions(Some(measured.ticks)),
            instructions_trunk: instructions(measured.trunk_ticks),
            instructions_step: instructions(measured.step_ticks),
            ..measured.run
        })
    }

    /// The board's RAM by purpose: the linker's figure, divided, and the stack as measured.
    fn ram(&self, stack: usize) -> Result<Vec<(String, usize)>> {
        let (budget, linked) = (&self.budget, self.image.static_ram_bytes()?);
        let statics = (linked.checked_sub(budget.arena.total_bytes() + budget.solving + budget.link))
            .with_context(|| format!("the firmware has {linked} bytes of statics, fewer than its buffers"))?;
        let own = [
            (SOLVING, budget.solving),
            ("link frames", budget.link),
            ("stack, measured", stack),
            ("other statics", statics),
        ];
        let all = budget.arena.by_purpose().chain(own).filter(|&(name, bytes)| name != SOLVING || bytes > 0);
        Ok(all.map(|(purpose, bytes)| (purpose.to_owned(), bytes)).collect())
    }
}
