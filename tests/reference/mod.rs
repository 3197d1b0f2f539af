//! What the tests of the tail and the optimizers share: networks, data, and one way to run a step.
#![allow(dead_code, reason = "every test file takes its own part")]

pub mod autodiff;
pub mod rounding;

use flatmin::internals::optim::{Kind, Segment};
use flatmin::internals::tail::{DenseChain, Workspace, dense::DenseShape};
use flatmin::{BiasTreatment, Method, Recipe, internals::pack::Activation};
use flatmin::{
    StepError,
    internals::step::{self, Buffers, Outcome},
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// Features and label.
pub type Sample = (Vec<f32>, usize);

/// A stream of numbers that stays the same from release to release.
pub struct Random(Pcg32);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Pcg32::seed_from_u64(seed))
    }

    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// From -limit to limit.
    pub fn uniform(&mut self, limit: f32) -> f32 {
        limit * (self.bits() as f32 / u32::MAX as f32 * 2.0 - 1.0)
    }

    pub fn vector(&mut self, length: usize, limit: f32) -> Vec<f32> {
        (0..length).map(|_| self.uniform(limit)).collect()
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.bits() as usize % limit
    }

    /// Samples with features from -1.5 to 1.5 and labels that have nothing to do with them.
    pub fn samples(&mut self, tail: &DenseChain, count: usize) -> Vec<Sample> {
        (0..count).map(|_| (self.vector(tail.features(), 1.5), self.below(tail.classes()))).collect()
    }

    /// Weights of the usual size for each layer's fan-in, biases up to 0.3; none of them zero.
    pub fn parameters(&mut self, tail: &DenseChain) -> Vec<f32> {
        let mut all = Vec::new();
        for layer in tail.layers() {
            all.extend(self.vector(layer.weights(), 1.5 / (layer.inputs as f32).sqrt()));
            all.extend(self.vector(layer.outputs, 0.3));
        }
        assert!(all.iter().all(|&p| p != 0.0));
        all
    }
}

/// Dense layers of these widths, inputs first, with `hidden` behind all but the last.
pub fn tail(widths: &[usize], hidden: Activation) -> DenseChain {
    let last = widths.len() - 2;
    let activation = |layer| if layer == last { Activation::None } else { hidden };
    let layers: Vec<_> = (widths.windows(2).enumerate())
        .map(|(i, w)| DenseShape { inputs: w[0], outputs: w[1], activation: activation(i) })
        .collect();
    DenseChain::new(&layers).expect("widths make a chain")
}

/// Floats of a workspace for `tail`.
pub fn workspace(tail: &DenseChain) -> Vec<f32> {
    vec![0.0; DenseChain::workspace_length(tail.features(), tail.outputs())]
}

/// The network's function.
pub fn logits(tail: &DenseChain, parameters: &[f32], features: &[f32]) -> Vec<f32> {
    let mut memory = workspace(tail);
    let mut workspace = Workspace::new(tail, &mut memory).expect("workspace");
    workspace.features.copy_from_slice(features);
    tail.forward(parameters, &mut workspace);
    workspace.logits(tail.classes()).to_vec()
}

/// Loss and gradient of one sample at `parameters`.
pub fn gradient(
    tail: &DenseChain,
    parameters: &[f32],
    bias: BiasTreatment,
    (features, label): &Sample,
) -> (f32, Vec<f32>) {
    let (mut memory, mut g) = (workspace(tail), vec![0.0; tail.parameters()]);
    let mut workspace = Workspace::new(tail, &mut memory).expect("workspace");
    workspace.features.copy_from_slice(features);
    let loss = tail.first_pass(parameters, *label, &mut workspace);
    tail.accumulate(1.0, bias, &workspace, false, &mut g);
    (loss, g)
}

/// Every parameter with its segment, in the order of the flat buffers.
pub fn kinds(tail: &DenseChain) -> impl Iterator<Item = bool> {
    tail.segments().flat_map(|Segment { length, kind }| std::iter::repeat_n(kind == Kind::Bias, length))
}

/// Plain SAM or ASAM without momentum or decay, to be changed by `..`.
pub fn plain(method: Method) -> Recipe {
    Recipe { method, momentum: 0.0, weight_decay: 0.0, label_smoothing: 0.0, ..Recipe::DEFAULT }
}

/// The two ways to take the ascent with m = 1.
pub const PATHS: [(&str, bool); 2] = [("rank-one", false), ("stored", true)];

/// A training state: weights and velocity, which is all that lives from step to step.
#[derive(Clone)]
pub struct State {
    pub weights: Vec<f32>,
    pub velocity: Vec<f32>,
}

impl State {
    pub fn new(weights: &[f32]) -> Self {
        Self { weights: weights.to_vec(), velocity: vec![0.0; weights.len()] }
    }

    /// One step on `batch`. What must not matter, the other buffers' contents, is filled with NaN.
    pub fn step(
        &mut self,
        tail: &DenseChain,
        recipe: &Recipe,
        learning_rate: f32,
        batch: &[Sample],
    ) -> Result<Outcome, StepError> {
        recipe.check().expect("a recipe within its ranges");
        let mut gradient =
            if recipe.needs_gradient_buffer() { vec![f32::NAN; self.weights.len()] } else { Vec::new() };
        let mut workspace = vec![f32::NAN; workspace(tail).len()];
        let buffers = Buffers {
            weights: &mut self.weights,
            velocity: &mut self.velocity,
            gradient: &mut gradient,
            workspace: &mut workspace,
        };
        step::minibatch(tail, recipe, learning_rate, buffers, batch.len(), |i, features| {
            features.copy_from_slice(&batch[i].0);
            batch[i].1
        })
    }
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// `||a - b|| / ||b||`, and 0 for equal vectors.
pub fn relative(a: impl IntoIterator<Item = f64>, b: impl IntoIterator<Item = f64>) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    for (a, b) in a.into_iter().zip(b) {
        difference += (a - b) * (a - b);
        size += b * b;
    }
    if difference == 0.0 { 0.0 } else { (difference / size).sqrt() }
}
