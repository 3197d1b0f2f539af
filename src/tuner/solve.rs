//! The last layer solved in closed form, in place of a run or in front of one.

use super::arithmetic::{Arithmetic, Numbers};
use super::{Tuner, TunerError};
use crate::closed_form::{ClosedForm, LEAST_SMOOTHING, Next, Settings};
use crate::cpu;
use crate::label::Loss;
use crate::pack::format::operator;
use crate::pack::{Function, Pack, TrainedLayer};
use crate::part::Part;
use crate::recipe::Recipe;
use crate::requant::fold;
use crate::tail::{Tail, Target};

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Solves the last layer in closed form, by linear discriminant analysis, from the samples that a run with `recipe` would
    /// train on; the layers in front of it are the factory's. There is no rate and there are no epochs: of the recipe only
    /// the share that is held out and the label smoothing count. Afterwards
    /// [`Self::accept`] or [`Self::requantize`] takes the head, or [`Self::start`] goes on from it
    /// ([`crate::Recipe::FROM_CLOSED_FORM`]), without the samples whose label is not the head's answer, until another one is
    /// observed: such labels are mostly wrong, and steps would unlearn what the head got right.
    ///
    /// The factory's statistics are those of the pack (`flatmin pack --calibration`); without any, the head is solved from the
    /// samples and from the factory's answers to them. Firmware links the solver for packs with statistics alone, unless
    /// [`crate::Operators::with_solver`] says otherwise.
    ///
    /// A run of an [`crate::IntegerTuner`] takes from the head only which samples it leaves out: its steps begin with the
    /// factory's weights.
    ///
    /// What it works in is the memory of the velocity, where that is large enough; else `scratch`, of
    /// [`crate::Sizes::solve_bytes`], or for an [`crate::IntegerTuner`] of [`crate::Sizes::integer_solve_bytes`]. `between` is called after each slice: a sample's forward pass and its sums, a row
    /// of the covariance, or a class. Feed the watchdog there.
    ///
    /// # Errors
    /// [`TunerError::NoSolver`], also of a [`crate::CompactTuner`]; [`TunerError::NoHead`], [`TunerError::NoSamples`],
    /// [`TunerError::SolveRoom`], [`TunerError::FlushesToZero`], and the recipe's as in [`Self::start`]: with the tuner as it
    /// was. [`TunerError::Diverged`] for a head outside the range of weights, with the factory's weights.
    ///
    /// ```no_run
    /// # fn adapt(tuner: &mut flatmin::Tuner, scratch: &mut [u32]) -> Result<(), flatmin::TunerError> {
    /// tuner.solve(*tuner.recipe(), scratch, &mut || {})?;
    /// tuner.accept()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn solve(
        &mut self,
        recipe: Recipe,
        scratch: &mut [u32],
        between: &mut dyn FnMut(),
    ) -> Result<(), TunerError> {
        A::solve(self, &recipe, scratch, between)
    }

    /// Lets the next run train only on samples whose label is the head's answer.
    pub(crate) fn trust(&mut self) {
        let passes = self.division.trained as u64;
        self.macs = self.macs.saturating_add(self.arithmetic.forward_macs().saturating_mul(passes));
        let Self { division, arithmetic, tuned, replay, pack, scratch, .. } = self;
        division.trust(replay.len(), |slot| {
            let Some((latent, label)) = replay.get(slot) else { return false };
            arithmetic.write_features(pack, latent, scratch);
            let (_, answer) = arithmetic.loss(None, tuned, Target::from(usize::from(label)), scratch);
            answer == usize::from(label)
        });
    }
}

/// [`Tuner::solve`], where the solver is linked.
#[inline(never)] // What it has on the stack is not there for as long as the caller lasts.
pub(super) fn solve(
    tuner: &mut Tuner,
    recipe: &Recipe,
    scratch: &mut [u32],
    between: &mut dyn FnMut(),
) -> Result<(), TunerError> {
    tuner.solve_head(recipe, scratch, between)
}

impl Tuner<'_> {
    fn solve_head(
        &mut self,
        recipe: &Recipe,
        scratch: &mut [u32],
        between: &mut dyn FnMut(),
    ) -> Result<(), TunerError> {
        if !cpu::keeps_subnormals() {
            return Err(TunerError::FlushesToZero);
        }
        let fits = self.fitting(recipe)?;
        let layer = solvable(&self.pack).ok_or(TunerError::NoHead)?;
        let samples = self.replay.len();
        if (0..samples).all(|slot| self.is_left_out(slot)) {
            return Err(TunerError::NoSamples);
        }
        let needed = self.pack.sizes().solve_words();
        let own = self.arithmetic.velocity.len() >= needed;
        let found = if own { needed } else { scratch.len() };
        if found < needed || samples > ClosedForm::MOST_SAMPLES {
            return Err(TunerError::SolveRoom { needed, found, samples });
        }
        let classes = self.classes();
        self.abandon();
        self.recipe = fits;
        self.divide();
        self.arithmetic.load(&self.pack, None);
        // The factory knows nothing of classes that were added.
        self.arithmetic.tail.set_classes(classes);
        self.arithmetic.forget(false);
        if own {
            // Nothing lives in it between runs.
            let velocity = core::mem::take(&mut self.arithmetic.velocity);
            self.solve_in(&layer, bytemuck::cast_slice_mut(velocity), between);
            self.arithmetic.velocity = velocity;
        } else {
            self.solve_in(&layer, bytemuck::cast_slice_mut(scratch), between);
        }
        if !self.arithmetic.are_sound() {
            self.arithmetic.load(&self.pack, None);
            return Err(TunerError::Diverged);
        }
        self.trust();
        Ok(())
    }

    /// Whether [`Self::solve`] knows how to solve this pack's head.
    pub fn can_solve(pack: &Pack) -> bool {
        solvable(pack).is_some()
    }

    fn solve_in(&mut self, layer: &TrainedLayer, memory: &mut [i32], between: &mut dyn FnMut()) {
        let (classes, step) = (self.classes(), input_scale(&self.pack, layer));
        let memory = memory.split_at_mut_checked(classes * (layer.taps + 1));
        debug_assert!(memory.is_some());
        let Some((head, scratch)) = memory else { return };
        let head: &mut [f32] = bytemuck::cast_slice_mut(head);
        let parameters = self.arithmetic.weights.part(layer.parameters..);
        let (weights, biases) = parameters.split_at(layer.weights().min(parameters.len()));
        let rows = weights.iter().map(|w| w * step).take(classes * layer.taps);
        head.iter_mut().zip(rows.chain(biases.iter().copied())).for_each(|(to, from)| *to = from);
        let (shape, trained) = ((classes, layer.taps), self.division.trained);
        let statistics = self.pack.statistics();
        let smoothing = self.recipe.label_smoothing.max(LEAST_SMOOTHING);
        let settings = Settings { smoothing, ..Settings::DEFAULT };
        let solver = ClosedForm::new(settings, statistics, trained, shape, head, scratch);
        debug_assert!(solver.is_some());
        let Some(mut solver) = solver else { return };
        loop {
            match solver.next() {
                Next::Sample(index) => self.add_sample(&mut solver, index, layer),
                Next::Compute => solver.compute(),
                Next::Done => break,
            }
            between();
        }
        // In the units of the f32 tail.
        let own = self.arithmetic.weights.part_mut(layer.parameters..);
        let (weights, biases) = own.split_at_mut(layer.weights().min(own.len()));
        let (rows, own) = solver.head().split_at((classes * layer.taps).min(solver.head().len()));
        weights.iter_mut().zip(rows).for_each(|(to, w)| *to = w / step);
        biases.iter_mut().zip(own).for_each(|(to, b)| *to = *b);
    }

    fn add_sample(&mut self, solver: &mut ClosedForm, index: usize, layer: &TrainedLayer) {
        let slot = self.division.trained_slot(index, self.replay.len());
        let label = self.replay.label(slot).map_or(usize::MAX, usize::from);
        self.forward(slot, label);
        self.macs = self.macs.saturating_add(self.arithmetic.tail.forward_macs());
        let (step, zero) = (input_scale(&self.pack, layer), layer.input.zero_point);
        let (low, high) = ((-128 - zero) as f32, (127 - zero) as f32);
        let features = self.arithmetic.tail.last_input(self.scratch).iter();
        solver.add(features.map(|x| crate::math::round(x / step).max(low).min(high) as i16), label);
    }
}

/// The last layer, if it gives the classes and is trained whole.
pub(crate) fn solvable(pack: &Pack) -> Option<TrainedLayer> {
    let layer = pack.trained_layers().last()?;
    let result = pack.head().map_or(pack.output(), |head| pack.tensor(head.input));
    let last = layer.operator.kind == operator::FULLY_CONNECTED
        && pack.tensor(layer.operator.output) == result
        && layer.outputs == pack.sizes().output_length
        && layer.taps == pack.sizes().last_features;
    let whole = layer.trains_weights
        && layer.trains_biases
        && !layer.trains_scales
        && layer.chosen.is_none()
        && layer.inputs.is_none();
    let classes = pack.loss() == Loss::CrossEntropy && layer.function == Function::Identity;
    Some(layer).filter(|_| last && whole && classes)
}

/// One quantization step of the last layer's input, in the units of the f32 tail.
pub(super) fn input_scale(pack: &Pack, layer: &TrainedLayer) -> f32 {
    layer.input.scale / fold(pack, layer)
}
