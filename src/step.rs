//! One minibatch step of SGD, SAM or ASAM: where tail and optimizer meet in flat buffers.

use crate::lanes::norm_squared;
use crate::optim::sgd::{self, Descent};
use crate::optim::{Geometry, Recipe, sam};
use crate::tail::{Loss, Tail, TailShape, Target, Workspace};

/// Why a step was not taken. The weights are what they were before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StepError {
    /// A loss or a gradient was NaN or infinite. The velocity is not to be used further.
    #[error("loss or gradient of sample {sample} of the minibatch is not finite; the weights are unchanged")]
    NonFinite {
        /// Position in the minibatch, from 0.
        sample: usize,
    },
    /// A label that the tail has no output for. The velocity is not to be used further.
    #[error("sample {sample} of the minibatch has label {label}, the tail has {classes} outputs")]
    Label {
        /// Position in the minibatch, from 0.
        sample: usize,
        /// The label.
        label: usize,
        /// Classes of the tail.
        classes: usize,
    },
    /// A target that is no label, of a loss that takes labels, or the other way round, or of another length than the
    /// output. The velocity is not to be used further.
    #[error("sample {sample} of the minibatch has a target of {found} values, the loss takes {expected}")]
    Target {
        /// Position in the minibatch, from 0.
        sample: usize,
        /// Values that the loss takes; 0 for one that takes labels.
        expected: usize,
        /// Values given; 0 for a label.
        found: usize,
    },
    /// A buffer of the wrong length; nothing was written.
    #[error("{buffer} buffer has {found} floats, the tail and the recipe take {expected}")]
    BufferLength {
        /// The field of [`Buffers`].
        buffer: &'static str,
        /// Floats needed.
        expected: usize,
        /// Floats given.
        found: usize,
    },
}

/// What a step saw.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Outcome {
    /// Mean loss of the minibatch at `w`, before the step, with the recipe's label smoothing.
    pub loss: f32,
    /// Mean of `L(w + e) - L(w)` over the samples that were perturbed: the sharpness, for free. 0 for SGD.
    pub rise: f32,
}

/// The flat buffers of a tail. Weights, velocity and gradient have [`Tail::parameters`] floats; the gradient is not
/// used, and may be empty, where [`stores_perturbation`] says no.
#[derive(Debug)]
pub struct Buffers<'a> {
    /// Parameters w.
    pub weights: &'a mut [f32],
    /// Velocity v.
    pub velocity: &'a mut [f32],
    /// Gradient g.
    pub gradient: &'a mut [f32],
    /// One sample's activations, of [`Tail::workspace_floats`] or longer.
    pub workspace: &'a mut [f32],
}

impl Buffers<'_> {
    fn check(&self, tail: &impl Tail, recipe: &Recipe) -> Result<(), StepError> {
        let parameters = tail.parameters();
        let stored = stores_perturbation(tail, recipe);
        let gradient = if stored { parameters } else { self.gradient.len() };
        for (buffer, expected, found) in [
            ("weights", parameters, self.weights.len()),
            ("velocity", parameters, self.velocity.len()),
            ("gradient", gradient, self.gradient.len()),
        ] {
            if expected != found {
                return Err(StepError::BufferLength { buffer, expected, found });
            }
        }
        Ok(())
    }
}

/// Whether steps of `recipe` write their ascent into the weights, which takes a gradient buffer: all of a tail that
/// is no chain.
pub fn stores_perturbation(tail: &impl Tail, recipe: &Recipe) -> bool {
    let graph = tail.chain().is_none() && recipe.geometry().is_some() && recipe.rho > 0.0;
    graph || recipe.needs_gradient_buffer()
}

/// One step on `count` samples: `load(i, features)` writes sample i's features and returns its label, or its
/// [`Target`]; it is called once or twice a sample.
///
/// # Errors
/// [`StepError`], with the weights unchanged.
///
/// ```
/// use flatmin::{Activation, Recipe, step::{self, Buffers}, tail::{TailShape, dense::DenseShape}};
/// let tail = TailShape::new(&[DenseShape { inputs: 2, outputs: 2, activation: Activation::None }])?;
/// let (mut w, mut v, mut workspace) = ([0.0; 6], [0.0; 6], [0.0; 10]);
/// let recipe = Recipe { rho: 0.0, weight_decay: 0.0, ..Recipe::DEFAULT };
/// let buffers = Buffers { weights: &mut w, velocity: &mut v, gradient: &mut [], workspace: &mut workspace };
/// let outcome = step::minibatch(&tail, &recipe, 0.1, buffers, 1, |_, features| {
///     features.copy_from_slice(&[1.0, 2.0]);
///     0_usize // the label
/// })?;
/// assert!((outcome.loss - 2f32.ln()).abs() < 1e-6);
/// assert_eq!(w, [0.05, 0.1, -0.05, -0.1, 0.05, -0.05]); // -0.1 * (p - y) (x, 1), p = 1/2
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub fn minibatch<'t, T: Tail, R: Into<Target<'t>>>(
    tail: &T,
    recipe: &Recipe,
    learning_rate: f32,
    buffers: Buffers,
    count: usize,
    load: impl FnMut(usize, &mut [f32]) -> R,
) -> Result<Outcome, StepError> {
    buffers.check(tail, recipe)?;
    let Buffers { weights, velocity, gradient, workspace } = buffers;
    let expected = tail.workspace_floats();
    if workspace.len() < expected {
        return Err(StepError::BufferLength { buffer: "workspace", expected, found: workspace.len() });
    }
    let scale = 1.0 / count.max(1) as f32;
    let stored = stores_perturbation(tail, recipe);
    // Where a chain has seen its only sample, which checks the gradient, it goes over both buffers once.
    let alone = tail.chain().filter(|_| count == 1 && recipe.weight_decay == 0.0 && !stored);
    let Recipe { momentum, weight_decay, bias, .. } = *recipe;
    let alone = alone.map(|_| Descent { momentum, scale, bias, learning_rate });
    if alone.is_none() {
        sgd::prepare(velocity, weights, momentum, weight_decay, bias, tail.segments());
    }
    // rho = 0 is the base optimizer, in every bit.
    let geometry = recipe.geometry().filter(|_| recipe.rho > 0.0);
    let mut batch =
        Minibatch { tail, recipe, workspace, load, scale, alone, loss: 0.0, rise: 0.0, perturbed: 0 };
    match geometry {
        Some(geometry) if stored => {
            let group = usize::from(recipe.sharpness_batch).max(1);
            let mut start = 0;
            while start < count {
                let end = (start + group).min(count);
                batch.stored(&geometry, start, end, weights, velocity, gradient)?;
                start = end;
            }
        }
        _ => {
            for sample in 0..count {
                match tail.chain() {
                    Some(chain) => batch.unstored(chain, geometry.as_ref(), sample, weights, velocity)?,
                    None => batch.loss += batch.descent(sample, sample + 1, weights, velocity)?,
                }
            }
        }
    }
    // A chain's gradients were checked one by one.
    if tail.chain().is_none() && !norm_squared(velocity).is_finite() {
        return Err(StepError::NonFinite { sample: count.saturating_sub(1) });
    }
    let outcome =
        Outcome { loss: batch.loss * batch.scale, rise: batch.rise / batch.perturbed.max(1) as f32 };
    if alone.is_none() {
        sgd::descend(weights, velocity, learning_rate);
    }
    Ok(outcome)
}

struct Minibatch<'a, T, L> {
    tail: &'a T,
    recipe: &'a Recipe,
    workspace: &'a mut [f32],
    load: L,
    /// One over the minibatch.
    scale: f32,
    /// The rest of the step, if it is one with the only sample's gradient.
    alone: Option<Descent>,
    loss: f32,
    rise: f32,
    perturbed: u32,
}

impl<'t, T, L, R> Minibatch<'_, T, L>
where
    T: Tail,
    L: FnMut(usize, &mut [f32]) -> R,
    R: Into<Target<'t>>,
{
    /// Loads a sample and runs the first pass at `weights`. Returns the loss and what it was taken against.
    fn pass(&mut self, sample: usize, weights: &[f32]) -> Result<(f32, Target<'t>), StepError> {
        let features = self.workspace.get_mut(..self.tail.features()).unwrap_or(&mut []);
        let target = (self.load)(sample, features).into().smoothed(self.recipe.label_smoothing);
        admit(self.tail, &target, sample)?;
        let loss = self.tail.loss(weights, target, self.workspace);
        if let Some(chain) = self.tail.chain() {
            let workspace = Workspace::new(chain, self.workspace);
            check(chain, workspace.as_ref(), sample, loss, false)?;
        } else if !loss.is_finite() {
            return Err(StepError::NonFinite { sample });
        }
        Ok((loss, target))
    }

    /// One sample without a written weight: SGD, or an ascent of its own by the rank-one identity.
    fn unstored(
        &mut self,
        chain: &TailShape,
        geometry: Option<&Geometry>,
        sample: usize,
        weights: &mut [f32],
        velocity: &mut [f32],
    ) -> Result<(), StepError> {
        let (loss, target) = self.pass(sample, weights)?;
        self.loss += loss;
        let Some(mut workspace) = Workspace::new(chain, self.workspace) else { return Ok(()) };
        let step = geometry.and_then(|geometry| {
            let norm = chain.ascent_norm_squared(weights, geometry, &mut workspace);
            Some((geometry, geometry.step_length(self.recipe.rho, norm)?))
        });
        if let Some((geometry, c)) = step {
            let risen = chain.perturbed_pass(weights, geometry, c, target, &mut workspace);
            check(chain, Some(&workspace), sample, risen, true)?;
            self.rise += risen - loss;
            self.perturbed += 1;
        }
        match &self.alone {
            Some(descent) => chain.descend_alone(descent, &workspace, step.is_some(), velocity, weights),
            None => chain.accumulate(self.scale, self.recipe.bias, &workspace, step.is_some(), velocity),
        }
        Ok(())
    }

    /// A group of samples that share one ascent, with the weights moved to `w + e` and back.
    fn stored(
        &mut self,
        geometry: &Geometry,
        start: usize,
        end: usize,
        weights: &mut [f32],
        velocity: &mut [f32],
        gradient: &mut [f32],
    ) -> Result<(), StepError> {
        let tail = self.tail;
        gradient.fill(0.0);
        let mean = 1.0 / (end - start).max(1) as f32;
        let mut loss_at_w = 0.0;
        for sample in start..end {
            let (loss, _) = self.pass(sample, weights)?;
            loss_at_w += loss;
            tail.backward(weights, mean, self.recipe.bias, self.workspace, gradient);
        }
        self.loss += loss_at_w;
        let norm = sam::ascent_norm_squared(weights, gradient, geometry, tail.segments());
        let c = geometry.step_length(self.recipe.rho, norm);
        if let Some(c) = c {
            sam::perturb(weights, gradient, c, geometry, tail.segments());
        }
        let descent = self.descent(start, end, weights, velocity);
        if c.is_some() {
            sam::restore(weights, gradient);
            self.rise += descent? - loss_at_w;
            self.perturbed += (end - start) as u32;
        }
        descent.map(|_| ())
    }

    /// Adds the group's gradient at `weights` to the velocity; returns the sum of the losses there.
    fn descent(
        &mut self,
        start: usize,
        end: usize,
        weights: &[f32],
        velocity: &mut [f32],
    ) -> Result<f32, StepError> {
        let mut sum = 0.0;
        for sample in start..end {
            sum += self.pass(sample, weights)?.0;
            self.tail.backward(weights, self.scale, self.recipe.bias, self.workspace, velocity);
        }
        Ok(sum)
    }
}

/// Refuses a target that the loss cannot be taken against.
fn admit(tail: &impl Tail, target: &Target, sample: usize) -> Result<(), StepError> {
    let classes = tail.classes();
    let expected = tail.objective().target_length(classes);
    match *target {
        Target::Label { label, .. } if tail.objective() != Loss::SquaredError => {
            let known = tail.objective().has_label(label, classes);
            if known { Ok(()) } else { Err(StepError::Label { sample, label, classes }) }
        }
        Target::Values { values, .. } if values.len() == expected => Ok(()),
        Target::Values { values, .. } => Err(StepError::Target { sample, expected, found: values.len() }),
        Target::Label { .. } => Err(StepError::Target { sample, expected, found: 0 }),
    }
}

/// Whether a chain's loss and gradient are safe to go on with.
fn check(
    chain: &TailShape,
    workspace: Option<&Workspace>,
    sample: usize,
    loss: f32,
    second: bool,
) -> Result<(), StepError> {
    let norm = workspace.map_or(f32::NAN, |workspace| chain.gradient_norm_squared(workspace, second));
    if loss.is_finite() && norm.is_finite() { Ok(()) } else { Err(StepError::NonFinite { sample }) }
}
