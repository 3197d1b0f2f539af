//! The last layer solved in closed form, in place of a run.

use super::arithmetic::Numbers;
use super::{Tuner, TunerError};
use crate::closed_form::{ClosedForm, Next, Settings};
use crate::pack::format::operator;
use crate::pack::{Function, Pack, TrainedLayer};
use crate::requant::fold;
use crate::label::Loss;
use crate::tail::Tail;

/// The last layer's solution under way: [`Tuner::solve`].
#[derive(Debug)]
pub struct Solve<'t, 'a> {
    tuner: &'t mut Tuner<'a>,
    solver: ClosedForm<'t>,
    layer: TrainedLayer,
}

impl<'a> Tuner<'a> {
    /// Begins to solve the last layer in closed form ([`crate::closed_form`]), of the samples that a run with the
    /// current recipe would train on, in front of it the factory's layers. It takes the place of [`Self::start`], without
    /// a rate and without epochs: after [`Solve::slice`] has returned `true`, [`Self::accept`] or [`Self::requantize`]
    /// takes the head, and [`Self::start`] goes on from it. Until then the factory's weights are in place.
    ///
    /// `scratch` needs [`crate::Sizes::solve_words`]. The factory's statistics are those of the pack
    /// ([`Pack::statistics`]); without any, the head is solved of the samples and of the factory's answers to them.
    ///
    /// # Errors
    /// [`TunerError::NoHead`], [`TunerError::NoSamples`], [`TunerError::SolveRoom`], with the tuner as it was.
    ///
    /// ```no_run
    /// # fn adapt(tuner: &mut flatmin::Tuner, scratch: &mut [i32]) -> Result<(), flatmin::TunerError> {
    /// let mut solve = tuner.solve(scratch)?;
    /// while !solve.slice() {} // others are served in between
    /// tuner.requantize()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn solve<'t>(&'t mut self, scratch: &'t mut [i32]) -> Result<Solve<'t, 'a>, TunerError> {
        let layer = solvable(&self.pack).ok_or(TunerError::NoHead)?;
        let samples = self.replay.len();
        let (needed, found) = (self.pack.sizes().solve_words(), scratch.len());
        let room = TunerError::SolveRoom { needed, found, samples };
        if samples == 0 {
            return Err(TunerError::NoSamples);
        }
        if samples > ClosedForm::MOST_SAMPLES {
            return Err(room);
        }
        let classes = self.classes();
        let scratch = scratch.get_mut(..needed).ok_or(room)?;
        let (head, scratch) = scratch.split_at_mut_checked(classes * (layer.taps + 1)).ok_or(room)?;
        let head: &mut [f32] = bytemuck::cast_slice_mut(head);
        self.abandon();
        self.divide();
        self.arithmetic.load(&self.pack, None);
        // Of those that were added the factory knows nothing.
        self.arithmetic.tail.set_classes(classes);
        let step = step(&self.pack, &layer);
        let parameters = self.arithmetic.weights.get(layer.parameters..).unwrap_or(&[]);
        let (weights, biases) = parameters.split_at(layer.weights().min(parameters.len()));
        let rows = weights.iter().map(|w| w * step).take(classes * layer.taps);
        head.iter_mut().zip(rows.chain(biases.iter().copied())).for_each(|(to, from)| *to = from);
        let (shape, trained) = ((classes, layer.taps), self.division.trained);
        let solver =
            ClosedForm::new(Settings::DEFAULT, self.pack.statistics(), trained, shape, head, scratch);
        Ok(Solve { tuner: self, solver: solver.ok_or(room)?, layer })
    }
}

/// The last layer, if it gives the classes and is trained whole.
fn solvable(pack: &Pack) -> Option<TrainedLayer> {
    let layer = pack.trained_layers().last()?;
    let result = pack.head().map_or(pack.output(), |head| pack.tensor(head.input));
    let last = layer.operator.kind == operator::FULLY_CONNECTED
        && pack.tensor(layer.operator.output) == result
        && layer.outputs == pack.sizes().output_length
        && layer.taps == pack.sizes().last_features;
    let whole =
        layer.trains_weights && layer.trains_biases && !layer.trains_scales && layer.chosen.is_none();
    let classes = pack.loss() == Loss::CrossEntropy && layer.function == Function::Identity;
    Some(layer).filter(|_| last && whole && classes)
}

/// What one quantization step of the last layer's input is in the f32 tail.
fn step(pack: &Pack, layer: &TrainedLayer) -> f32 {
    layer.input.scale / fold(pack, layer)
}

impl Solve<'_, '_> {
    /// Does the next slice: one sample's forward pass and its sums, or one row of the covariance, or one class. True
    /// when the head is in place.
    pub fn slice(&mut self) -> bool {
        match self.solver.next() {
            Next::Sample(index) => self.sample(index),
            Next::Compute => self.solver.compute(),
            Next::Done => {}
        }
        let done = self.solver.next() == Next::Done;
        if done {
            self.put();
        }
        done
    }

    fn sample(&mut self, index: usize) {
        let tuner = &mut *self.tuner;
        let slot = tuner.division.trained_slot(index, tuner.replay.len());
        let label = tuner.replay.label(slot).map_or(usize::MAX, usize::from);
        tuner.forward(slot, label);
        tuner.macs = tuner.macs.saturating_add(tuner.arithmetic.tail.forward_macs());
        let per_step = 1.0 / step(&tuner.pack, &self.layer);
        let zero = self.layer.input.zero_point;
        let (low, high) = ((-128 - zero) as f32, (127 - zero) as f32);
        let features = tuner.arithmetic.tail.last_input(tuner.scratch).iter();
        let steps = features.map(|x| crate::math::round(x * per_step).max(low).min(high) as i16);
        self.solver.add(steps, label);
    }

    /// The head, in the units of the f32 tail.
    fn put(&mut self) {
        let layer = &self.layer;
        let per_step = 1.0 / step(&self.tuner.pack, layer);
        let own = self.tuner.arithmetic.weights.get_mut(layer.parameters..).unwrap_or(&mut []);
        let (weights, biases) = own.split_at_mut(layer.weights().min(own.len()));
        let head = self.solver.head();
        let (rows, own) = head.split_at(head.len() / (layer.taps + 1) * layer.taps);
        weights.iter_mut().zip(rows).for_each(|(to, w)| *to = w * per_step);
        biases.iter_mut().zip(own).for_each(|(to, b)| *to = *b);
    }
}
