//! Builds the firmware, runs it in QEMU and tunes there: the same data and seed as on the desktop, over the
//! emulated serial line.
//!
//! Instructions come from the firmware's own clock under QEMU's `-icount`, where time passes by instructions
//! alone. The firmware reads its clock around the work that a request asks for: waiting for the serial line,
//! decoding and answering are not in the figures.

pub use crate::device::Device;
pub use crate::firmware::{BOARDS, Board, Image, LogSink, Machine, Options};
pub use crate::link::Answer;

use crate::device::{self, Progress};
use anyhow::{Context, Result, ensure};
use flatmin::{CompactTuner, Recipe};
use flatmin_app::RamBudget;
use flatmin_model::model::Model;
use flatmin_model::packer::{PackFile, TailPlan};
use flatmin_sim::report::TuningRun;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::Tail;

/// A firmware with a model in it.
#[derive(Debug)]
pub struct Firmware {
    image: Image,
    tail: Tail,
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

    /// The same for the tuner asked for.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_as(
        kind: Tail,
        board: &str,
        model: &Model,
        tail: impl Into<TailPlan>,
        recipe: &Recipe,
        log: LogSink,
    ) -> Result<Self> {
        let board = Board::named(board)?;
        let pack = model.pack(tail)?;
        if kind == Tail::Compact {
            // What it refuses of a pack comes before minutes of building.
            let mut words = kind.arena(&pack, recipe);
            CompactTuner::in_arena(pack.pack(), *recipe, bytemuck::cast_slice_mut(&mut words))
                .with_context(|| model.name.clone())?;
        }
        let budget = board.budget(kind, &pack.pack().sizes(), recipe);
        let needed = budget.total_bytes() - if board.stack_apart { budget.stack } else { 0 };
        ensure!(
            needed <= board.ram_bytes,
            "{} samples take {needed} bytes of RAM, {} has {}: take fewer samples or layers, or --compact",
            recipe.replay_capacity,
            board.name,
            board.ram_bytes
        );
        let image = Image::build_as(kind, board, pack.bytes(), recipe)?;
        Ok(Self { image, tail: kind, pack, replay_capacity: recipe.replay_capacity, log })
    }

    /// The executable.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The model as it lies in it.
    pub fn pack(&self) -> &PackFile {
        &self.pack
    }

    /// Tunes `subject` on the emulated board.
    ///
    /// # Errors
    /// QEMU missing, a firmware that stops, or what the device refuses.
    pub fn tune(&self, subject: &Subject, recipe: Recipe, epoch_done: impl Fn()) -> Result<TuningRun> {
        let recipe = Recipe { replay_capacity: self.replay_capacity, ..recipe };
        let mut device = Device::start(&self.image, self.log.clone())?;
        let measured = device::tune(&mut device, &self.pack, subject, recipe, false, |progress| {
            if progress == Progress::Epoch {
                epoch_done();
            }
        })?;
        let sizes = self.pack.pack().sizes();
        let budget = self.image.board.budget(self.tail, &sizes, &recipe);
        let hertz = self.image.board.hertz.unwrap_or(measured.hertz);
        let instructions = |ticks: Option<u64>| ticks.map(|ticks| Board::instructions(ticks, hertz));
        Ok(TuningRun {
            memory: self.tail.memory(&sizes, &recipe),
            train_ram_bytes: budget.arena.total_bytes(),
            ram: self.ram(&budget, measured.stack_bytes)?,
            ram_announced_bytes: Some(budget.total_bytes()),
            instructions: instructions(Some(measured.ticks)),
            instructions_trunk: instructions(measured.trunk_ticks),
            instructions_step: instructions(measured.step_ticks),
            ..measured.run
        })
    }

    /// The board's RAM by purpose: the linker's figure, divided, and the stack as measured.
    fn ram(&self, budget: &RamBudget, stack: usize) -> Result<Vec<(String, usize)>> {
        let linked = self.image.static_ram_bytes()?;
        let statics = (linked.checked_sub(budget.arena.total_bytes() + budget.link))
            .with_context(|| format!("the firmware has {linked} bytes of statics, fewer than its buffers"))?;
        let own = [("link frames", budget.link), ("stack, measured", stack), ("other statics", statics)];
        let all = budget.arena.by_purpose().chain(own);
        Ok(all.map(|(purpose, bytes)| (purpose.to_owned(), bytes)).collect())
    }
}
