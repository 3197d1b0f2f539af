//! One minibatch step of SGD, SAM or ASAM: where tail and optimizer meet in flat buffers. It is cut into slices of
//! bounded work: [`minibatch`] runs them all, [`crate::Tuner::poll`] one at a time.

mod machine;

use crate::recipe::Recipe;
use crate::tail::{Tail, Target};
pub use machine::Phase;
pub(crate) use machine::{Minibatch, Step};

/// Why a step was not taken. The weights are what they were before it.
/// [`crate::Tuner::poll`] gives it.
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
        /// Its name: weights, velocity, gradient or workspace.
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
/// used, and may be empty, where [`stores_perturbation`] says no. The velocity of another optimizer than SGD is longer
/// ([`Recipe::velocity_floats`]).
#[derive(Debug)]
pub struct Buffers<'a> {
    /// Parameters w.
    pub weights: &'a mut [f32],
    /// Velocity v; of Adam the gradient's sum and the moments. All zero before a run's first step.
    pub velocity: &'a mut [f32],
    /// Gradient g.
    pub gradient: &'a mut [f32],
    /// One sample's activations, of [`Tail::workspace_floats`] or longer. Where it has room for several samples, up to
    /// eight, x86-64 processors take as many at once of a chain without an ascent for each: the same bits, sooner.
    pub workspace: &'a mut [f32],
}

impl Buffers<'_> {
    fn check(&self, tail: &impl Tail, recipe: &Recipe) -> Result<(), StepError> {
        let parameters = tail.parameters();
        let stored = stores_perturbation(tail, recipe);
        let gradient = if stored { parameters } else { self.gradient.len() };
        let velocity = recipe.velocity_floats(parameters);
        for (buffer, expected, found) in [
            ("weights", parameters, self.weights.len()),
            ("velocity", velocity, self.velocity.len()),
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
    let always = !tail.ascends_unstored() && recipe.ascent().is_some();
    always || recipe.needs_gradient_buffer()
}

/// One step on `count` samples: `load(i, features)` writes sample i's features and returns its label, or its
/// [`Target`]; it is called once or twice a sample.
///
/// # Errors
/// [`StepError`], with the weights unchanged.
///
/// ```
/// use flatmin::{internals::{pack::Activation, step::{self, Buffers}, tail::{DenseChain, dense::DenseShape}}, Method, Recipe};
/// let tail = DenseChain::new(&[DenseShape { inputs: 2, outputs: 2, activation: Activation::None }])?;
/// let (mut w, mut v, mut workspace) = ([0.0; 6], [0.0; 6], [0.0; 10]);
/// let recipe = Recipe { method: Method::Sgd, weight_decay: 0.0, label_smoothing: 0.0, ..Recipe::DEFAULT };
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
    mut load: impl FnMut(usize, &mut [f32]) -> R,
) -> Result<Outcome, StepError> {
    buffers.check(tail, recipe)?;
    let expected = tail.workspace_floats();
    let found = buffers.workspace.len();
    if found < expected {
        return Err(StepError::BufferLength { buffer: "workspace", expected, found });
    }
    let batch = Minibatch::new(tail, recipe, buffers, |i, features: &mut [f32]| load(i, features).into());
    let mut batch = batch.in_groups();
    let mut step = Step::new(learning_rate, count);
    loop {
        if let Some(outcome) = step.slice(&mut batch)? {
            return Ok(outcome);
        }
    }
}
