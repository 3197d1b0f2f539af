//! SGD with targets that a device does not offer: mixed latents, and labels mixed with the network's own belief. On a
//! chain of fully connected layers, by the crate's kernels.

use super::start::uniform;
use super::trial::Targets;
use anyhow::{Context, Result};
use flatmin::internals::optim::sgd;
use flatmin::internals::tail::{DenseChain, dense};
use flatmin::{BiasTreatment, Recipe};
use flatmin_sim::wearers::SplitMix64;

/// Features of a sample and its label.
pub type Sample = (Vec<f32>, usize);

/// A tail's activations, and room for a gradient.
struct Pass<'t> {
    tail: &'t DenseChain,
    /// The tail's input, then every layer's output.
    values: Vec<Vec<f32>>,
}

impl<'t> Pass<'t> {
    fn new(tail: &'t DenseChain) -> Self {
        let values = std::iter::once(tail.features())
            .chain(tail.layers().map(|l| l.outputs))
            .map(|n| vec![0.0; n])
            .collect();
        Self { tail, values }
    }

    fn forward(&mut self, weights: &[f32], features: &[f32]) {
        self.values[0].copy_from_slice(features);
        let mut rest = weights;
        for (index, shape) in self.tail.layers().enumerate() {
            let (own, behind) = rest.split_at(shape.parameters());
            let (inputs, outputs) = self.values.split_at_mut(index + 1);
            dense::forward(&shape, own, &inputs[index], &mut outputs[0]);
            dense::activate(shape.activation, &mut outputs[0]);
            rest = behind;
        }
    }

    fn logits(&self) -> &[f32] {
        self.values.last().map_or(&[], |logits| logits)
    }

    /// `gradient += scale * dL/dw` for this `dL/dlogits`.
    fn backward(&self, weights: &[f32], d_logits: Vec<f32>, scale: f32, gradient: &mut [f32]) {
        let shapes: Vec<_> = self.tail.layers().collect();
        let mut delta = d_logits;
        let mut end = weights.len();
        for (index, shape) in shapes.iter().enumerate().rev() {
            let start = end - shape.parameters();
            dense::mask(shape.activation, &self.values[index + 1], &mut delta);
            let into = &mut gradient[start..end];
            dense::accumulate(shape, scale, BiasTreatment::Unit, &self.values[index], &delta, into);
            let mut below = vec![0.0; shape.inputs];
            dense::backward_input(shape, &weights[start..end], &delta, &mut below);
            delta = below;
            end = start;
        }
    }
}

/// `sum_j t_j (-ln p_j)` and its gradient by the logits, for targets that sum to 1; of a soft bootstrap the target
/// itself depends on the logits.
fn loss(logits: &[f32], target: &[f32], belief: Targets) -> (f64, Vec<f32>) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|z| f64::from(z - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    let p: Vec<f64> = powers.iter().map(|power| power / sum).collect();
    let ln = |p: f64| p.max(1e-300).ln();
    let likeliest = (0..p.len()).rev().max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap_or(0);
    let (beta, hard) = match belief {
        Targets::BootstrapSoft(beta) => (f64::from(beta), false),
        Targets::BootstrapHard(beta) => (f64::from(beta), true),
        _ => (1.0, true),
    };
    let entropy: f64 = -p.iter().map(|&p| p * ln(p)).sum::<f64>();
    let (mut value, mut slope) = (0.0, Vec::with_capacity(p.len()));
    for (class, &p) in p.iter().enumerate() {
        let label = f64::from(target[class]);
        value -= beta * label * ln(p);
        let mut d = beta * (p - label);
        if hard {
            let own = f64::from(u8::from(class == likeliest));
            value -= (1.0 - beta) * own * ln(p);
            d += (1.0 - beta) * (p - own);
        } else {
            d -= (1.0 - beta) * p * (ln(p) + entropy);
        }
        slope.push(d as f32);
    }
    (if hard { value } else { value + (1.0 - beta) * entropy }, slope)
}

/// Trains `weights` with SGD as [`flatmin::internals::step`] does, towards `targets`.
///
/// # Errors
/// No sample.
pub fn train(
    tail: &DenseChain,
    weights: &mut [f32],
    samples: &[Sample],
    recipe: &Recipe,
    targets: Targets,
) -> Result<()> {
    let mut random = SplitMix64::new(recipe.seed);
    let mut velocity = vec![0.0; weights.len()];
    let mut order: Vec<usize> = (0..samples.len()).collect();
    let size = usize::from(recipe.minibatch).max(1);
    let steps = u32::try_from(samples.len().div_ceil(size) * usize::from(recipe.epochs))?;
    let mut pass = Pass::new(tail);
    let mut step = 0;
    for _ in 0..recipe.epochs {
        random.shuffle(&mut order);
        for batch in order.chunks(size) {
            sgd::prepare(
                &mut velocity,
                weights,
                recipe.momentum,
                recipe.weight_decay,
                BiasTreatment::Unit,
                tail.segments(),
            );
            for (place, &index) in batch.iter().enumerate() {
                let (own, label) = samples.get(index).context("no sample")?;
                let mut target = vec![0.0; tail.classes()];
                let mut features = own.clone();
                target[*label] = 1.0;
                if let Targets::Mixup(alpha) = targets {
                    let (other, label) = &samples[batch[(place + 1) % batch.len()]];
                    let share = beta(f64::from(alpha), &mut random) as f32;
                    features.iter_mut().zip(other).for_each(|(a, b)| *a = share * *a + (1.0 - share) * b);
                    target.iter_mut().for_each(|t| *t *= share);
                    target[*label] += 1.0 - share;
                }
                pass.forward(weights, &features);
                let (_, slope) = loss(pass.logits(), &target, targets);
                pass.backward(weights, slope, 1.0 / batch.len() as f32, &mut velocity);
            }
            sgd::descend(weights, &velocity, recipe.rate(step, steps));
            step += 1;
        }
    }
    Ok(())
}

/// From Beta(alpha, alpha), alpha at most 1 (Johnk 1964).
fn beta(alpha: f64, random: &mut SplitMix64) -> f64 {
    loop {
        let (x, y) = (uniform(random).powf(1.0 / alpha), uniform(random).powf(1.0 / alpha));
        if x + y > 0.0 && x + y <= 1.0 {
            return x / (x + y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatmin::internals::pack::Activation;
    use flatmin::internals::tail::dense::DenseShape;

    const KINDS: [Targets; 4] = [
        Targets::Labels,
        Targets::BootstrapSoft(0.7),
        Targets::BootstrapHard(0.6),
        Targets::BootstrapSoft(0.2),
    ];

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let logits = [0.3f32, -1.0, 2.0, 0.75];
        let target = [0.0, 0.25, 0.75, 0.0];
        for kind in KINDS {
            let (_, slope) = loss(&logits, &target, kind);
            for class in 0..4 {
                let at = |step: f32| {
                    let mut moved = logits;
                    moved[class] += step;
                    loss(&moved, &target, kind).0
                };
                // Both places as f32 has them.
                let (up, down) = (logits[class] + 0.01, logits[class] - 0.01);
                let expected = (at(0.01) - at(-0.01)) / f64::from(up - down);
                assert!(
                    (f64::from(slope[class]) - expected).abs() < 1e-4,
                    "{kind:?} {class}: {}, {expected}",
                    slope[class]
                );
            }
        }
    }

    #[test]
    fn gradients_of_a_chain_are_those_of_finite_differences() {
        let shape = |inputs, outputs, activation| DenseShape { inputs, outputs, activation };
        let tail = DenseChain::new(&[shape(3, 5, Activation::Relu), shape(5, 4, Activation::None)]).unwrap();
        let mut random = SplitMix64::new(3);
        let weights: Vec<f32> = (0..tail.parameters()).map(|_| (uniform(&mut random) - 0.5) as f32).collect();
        let (features, target) = ([0.5, -0.25, 1.0], [0.0, 0.5, 0.5, 0.0]);
        let mut pass = Pass::new(&tail);
        for kind in KINDS {
            let mut at = |weights: &[f32]| {
                pass.forward(weights, &features);
                loss(pass.logits(), &target, kind)
            };
            let (_, slope) = at(&weights);
            let mut pass = Pass::new(&tail);
            pass.forward(&weights, &features);
            let mut gradient = vec![0.0; weights.len()];
            pass.backward(&weights, slope, 1.0, &mut gradient);
            for index in 0..weights.len() {
                let (mut up, mut down) = (weights.clone(), weights.clone());
                up[index] += 0.01;
                down[index] -= 0.01;
                let expected = (at(&up).0 - at(&down).0) / f64::from(up[index] - down[index]);
                assert!((f64::from(gradient[index]) - expected).abs() < 2e-3, "{kind:?} {index}");
            }
        }
    }

    #[test]
    fn shares_have_the_moments_of_their_distribution() {
        let mut random = SplitMix64::new(11);
        for alpha in [0.2, 1.0] {
            let all: Vec<f64> = (0..20_000).map(|_| beta(alpha, &mut random)).collect();
            let mean = all.iter().sum::<f64>() / 20_000.0;
            let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!(
                (mean - 0.5).abs() < 0.01 && (variance - expected).abs() < 0.005,
                "{alpha}: {mean} {variance}"
            );
        }
    }

    #[test]
    fn bare_labels_lead_where_the_steps_of_the_device_lead() {
        let shape = |inputs, outputs, activation| DenseShape { inputs, outputs, activation };
        let tail = DenseChain::new(&[shape(3, 6, Activation::Relu), shape(6, 2, Activation::None)]).unwrap();
        let mut random = SplitMix64::new(4);
        let start: Vec<f32> = (0..tail.parameters()).map(|_| (uniform(&mut random) - 0.5) as f32).collect();
        let samples: Vec<Sample> =
            (0..16).map(|i| ((0..3).map(|_| uniform(&mut random) as f32).collect(), i % 2)).collect();
        // One minibatch holds all: the order says nothing.
        let recipe = Recipe {
            method: flatmin::Method::Sgd,
            epochs: 20,
            learning_rate: 0.1,
            warm_up: 0.25,
            label_smoothing: 0.0,
            minibatch: 16,
            ..Recipe::DEFAULT
        };
        let mut own = start.clone();
        train(&tail, &mut own, &samples, &recipe, Targets::Labels).unwrap();
        let (mut other, mut velocity) = (start.clone(), vec![0.0; start.len()]);
        let mut workspace = vec![0.0; DenseChain::workspace_length(3, tail.outputs())];
        for step in 0..20 {
            let buffers = flatmin::internals::step::Buffers {
                weights: &mut other,
                velocity: &mut velocity,
                gradient: &mut [],
                workspace: &mut workspace,
            };
            let rate = recipe.rate(step, 20);
            flatmin::internals::step::minibatch(&tail, &recipe, rate, buffers, 16, |i, features| {
                features.copy_from_slice(&samples[i].0);
                samples[i].1
            })
            .unwrap();
        }
        let far = |from: &[f32]| own.iter().zip(from).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        assert!(far(&other) < 1e-4 * far(&start), "{} {}", far(&other), far(&start));
    }
}
