//! Gradients, ascents and steps against f64, from the formulas as the papers write them: with `w + e` written out.

use super::chain::{Chain, Layer};
use super::pass::{Workspace, workspace_words};
use super::weights::{Int8Layer, Velocity, Weights};
use crate::optim::BiasTreatment;
use crate::pack::Activation;
use crate::recipe::{Method, Recipe};
use crate::tail::DenseChain;
use crate::tail::dense::DenseShape;
use std::vec::Vec;

struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    fn uniform(&mut self) -> f64 {
        f64::from(self.next()) / f64::from(1 << 23) - 1.0
    }
}

/// One layer in f64.
#[derive(Clone)]
struct Layer64 {
    w: Vec<Vec<f64>>,
    /// A weight's step, one per output; 0 where the channel is dead.
    scale: Vec<f64>,
    b: Vec<f64>,
    activation: Activation,
}

fn forward(layers: &[Layer64], x: &[f64]) -> Vec<Vec<f64>> {
    let mut outputs = std::vec![x.to_vec()];
    for layer in layers {
        let a = outputs.last().unwrap();
        let z = layer.w.iter().zip(&layer.b).map(|(row, b)| {
            let z = row.iter().zip(a).map(|(w, a)| w * a).sum::<f64>() + b;
            match layer.activation {
                Activation::None => z,
                Activation::Relu => z.max(0.0),
                Activation::Relu6 => z.clamp(0.0, 6.0),
            }
        });
        let z = z.collect();
        outputs.push(z);
    }
    outputs
}

/// Whether an output is so close to where its activation bends that a step decides the side.
fn is_at_a_bend(layers: &[Layer64], x: &[f64]) -> bool {
    let near = |&y: &f64| (0.0 < y && y < 1e-5) || (6.0 - 5e-4 < y && y < 6.0);
    let outputs = forward(layers, x);
    outputs[1..outputs.len() - 1].iter().flatten().any(near)
}

/// Loss and gradient, in the shape of the layers.
fn gradient(layers: &[Layer64], x: &[f64], label: usize) -> (f64, Vec<Layer64>) {
    let outputs = forward(layers, x);
    let logits = outputs.last().unwrap();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
    let mut delta: Vec<f64> = logits.iter().map(|z| (z - largest).exp() / sum).collect();
    let loss = -delta[label].ln();
    delta[label] -= 1.0;
    let mut gradients = layers.to_vec();
    for (place, layer) in layers.iter().enumerate().rev() {
        let a = &outputs[place];
        gradients[place].w = delta.iter().map(|d| a.iter().map(|a| d * a).collect()).collect();
        gradients[place].b = delta.clone();
        if place > 0 {
            let below = &layers[place - 1];
            let flat = |a: f64| match below.activation {
                Activation::None => false,
                Activation::Relu => a <= 0.0,
                Activation::Relu6 => a <= 0.0 || a >= 6.0,
            };
            let sums = (0..a.len()).map(|i| layer.w.iter().zip(&delta).map(|(row, d)| row[i] * d).sum());
            delta = sums.zip(a).map(|(sum, &a): (f64, _)| if flat(a) { 0.0 } else { sum }).collect();
        }
    }
    (loss, gradients)
}

/// `w + rho T^2 g / ||T g||`, T in real numbers; dead channels are not moved.
fn perturbed(layers: &[Layer64], g: &[Layer64], method: Method, rho: f64) -> Vec<Layer64> {
    let t = |w: f64, scale: f64| match method {
        _ if scale == 0.0 => 0.0,
        Method::Asam => w.abs() + scale,
        _ => 1.0,
    };
    let mut norm = 0.0;
    for (layer, g) in layers.iter().zip(g) {
        for (o, &scale) in layer.scale.iter().enumerate() {
            norm += g.b[o] * g.b[o];
            norm += layer.w[o].iter().zip(&g.w[o]).map(|(w, g)| (t(*w, scale) * g).powi(2)).sum::<f64>();
        }
    }
    let c = rho / norm.sqrt();
    let mut moved = layers.to_vec();
    for ((moved, layer), g) in moved.iter_mut().zip(layers).zip(g) {
        for (o, &scale) in layer.scale.iter().enumerate() {
            moved.b[o] += c * g.b[o];
            for ((moved, &w), &g) in moved.w[o].iter_mut().zip(&layer.w[o]).zip(&g.w[o]) {
                *moved += c * t(w, scale).powi(2) * g;
            }
        }
    }
    moved
}

/// A tail of generated shape and weights, with room for all that it takes.
struct Tail {
    chain: Chain,
    high: Vec<i8>,
    low: Vec<i8>,
    biases: Vec<i32>,
    scales: Vec<f32>,
    velocity: Vec<i16>,
    bias_velocity: Vec<i32>,
    words: Vec<i32>,
}

impl Tail {
    fn generated(widths: &[usize], activation: Activation, dead: Option<usize>, random: &mut Random) -> Self {
        let shapes: Vec<DenseShape> = (widths.windows(2).enumerate())
            .map(|(place, pair)| {
                let last = place + 2 == widths.len();
                let activation = if last { Activation::None } else { activation };
                DenseShape { inputs: pair[0], outputs: pair[1], activation }
            })
            .collect();
        let shape = DenseChain::new(&shapes).unwrap();
        let hidden = std::iter::repeat_n(0.02f32, shapes.len());
        let (weights, outputs) = (shape.parameters() - shape.outputs(), shape.outputs());
        let words = workspace_words(shape.features(), outputs);
        let mut tail = Self {
            chain: Chain::new(shape, 1.0 / 64.0, hidden),
            high: std::vec![0; weights],
            low: std::vec![0; weights],
            biases: std::vec![0; outputs],
            scales: std::vec![0.0; outputs],
            velocity: std::vec![0; weights],
            bias_velocity: std::vec![0; outputs],
            words: std::vec![0; words],
        };
        let chain = tail.chain.clone();
        for layer in chain.layers() {
            let fan_in = layer.inputs as f64;
            let weights: Vec<i8> =
                (0..layer.inputs * layer.outputs).map(|_| (127.0 * random.uniform()) as i8).collect();
            let scales: Vec<f32> = (0..layer.outputs)
                .map(|o| {
                    let scale = (1.5 + random.uniform()) / (127.0 * fan_in.sqrt());
                    if dead == Some(o) && layer.first_output() == 0 { 9e-7 } else { scale as f32 }
                })
                .collect();
            let biases: Vec<i32> = (0..layer.outputs).map(|_| (2e4 * random.uniform()) as i32).collect();
            let from = Int8Layer {
                weights: &weights,
                biases: &biases,
                scales: &scales,
                packed_scales: &scales,
                input_scale: layer.input_unit,
                fold: 1.0,
            };
            tail.weights().load(layer, &from);
        }
        tail.chain.fit_velocity(&tail.scales);
        tail
    }

    fn weights(&mut self) -> Weights<'_> {
        Weights {
            high: &mut self.high,
            low: &mut self.low,
            biases: &mut self.biases,
            scales: &mut self.scales,
        }
    }

    /// The int8 weights, with which the integer passes compute, in f64.
    fn wide(&self) -> Vec<Layer64> {
        let layer = |layer: &Layer| {
            let scales = layer.of(&self.scales);
            let row = |(row, &scale): (&[i8], &f32)| {
                row.iter().map(|&q| f64::from(scale.abs()) * f64::from(q)).collect()
            };
            Layer64 {
                w: layer.rows(&self.high).zip(scales).map(row).collect(),
                scale: scales.iter().map(|&scale| f64::from(scale.max(0.0))).collect(),
                b: layer.of(&self.biases).iter().map(|&b| f64::from(b) * f64::from(layer.unit)).collect(),
                activation: layer.activation,
            }
        };
        self.chain.layers().map(layer).collect()
    }

    /// Loss at w, loss at w + e, and the gradient that a step would use, in real numbers.
    fn pass(&mut self, features: &[i16], label: usize, method: Method, rho: f32) -> (f32, f32, Vec<Layer64>) {
        let mut gradients = self.wide();
        let Self { chain, high, low, biases, scales, velocity, bias_velocity, words } = self;
        let weights = Weights { high, low, biases, scales };
        let mut workspace = Workspace::new(chain, words).unwrap();
        workspace.features.copy_from_slice(features);
        let loss = chain.first_pass(&weights, label, &mut workspace).sum();
        let recipe = Recipe { method, ..Recipe::DEFAULT };
        let mut risen = loss;
        let geometry = recipe.geometry();
        if let Some(geometry) = geometry {
            let norm = chain.ascent_norm_squared(&weights, &geometry, &mut workspace);
            let c = geometry.step_length(rho, norm).unwrap();
            risen = chain.perturbed_pass(&weights, &geometry, c, label, &mut workspace).sum();
        }
        // The mean over many accumulations, each rounded by chance, of as much as the velocity is sure to hold.
        const DRAWS: u32 = 64;
        const TIMES: f32 = 7.0;
        let (mut v, mut v_bias) = (std::vec![0.0; velocity.len()], std::vec![0.0; bias_velocity.len()]);
        for draw in 0..DRAWS {
            let mut own = Velocity { weights: velocity, biases: bias_velocity };
            own.clear();
            let pass = (&workspace, geometry.is_some());
            chain.accumulate(&weights, (TIMES, BiasTreatment::Unit), pass, &mut own, draw);
            let share = 1.0 / (f64::from(DRAWS) * f64::from(TIMES));
            v.iter_mut().zip(velocity.iter()).for_each(|(v, &own)| *v += f64::from(own) * share);
            let pairs = v_bias.iter_mut().zip(bias_velocity.iter());
            pairs.for_each(|(v, &own)| *v += f64::from(own) * share);
        }
        for (gradient, layer) in gradients.iter_mut().zip(chain.layers()) {
            let unit = f64::from(layer.velocity_unit);
            gradient.w = layer.rows(&v).map(|row| row.iter().map(|v| v * unit).collect()).collect();
            gradient.b = layer.of(&v_bias).iter().map(|v| v / f64::from(1 << 20)).collect();
        }
        (loss, risen, gradients)
    }
}

/// `||a - b|| / ||b||` of the weights and biases of living channels.
fn distance(a: &Layer64, b: &Layer64) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    for o in 0..b.b.len() {
        let mut add = |a: f64, b: f64| {
            difference += (a - b).powi(2);
            size += b * b;
        };
        add(a.b[o], b.b[o]);
        if b.scale[o] > 0.0 {
            a.w[o].iter().zip(&b.w[o]).for_each(|(&a, &b)| add(a, b));
        } else {
            assert!(a.w[o].iter().all(|&a| a == 0.0), "a dead channel's weights have a gradient");
        }
    }
    (difference / size.max(1e-30)).sqrt()
}

const SHAPES: [&[usize]; 7] =
    [&[64, 12], &[3, 2], &[192, 64, 7], &[64, 32, 10], &[33, 17, 9, 5], &[700, 5], &[16, 600, 3]];

#[test]
fn gradients_and_losses_are_those_of_double_precision_with_every_method() {
    let mut random = Random(11);
    let (mut worst, mut worst_loss, mut compared) = (0.0f64, 0.0f64, 0);
    for (case, (widths, method)) in SHAPES
        .iter()
        .flat_map(|&widths| [Method::Sgd, Method::Sam, Method::Asam].map(|m| (widths, m)))
        .enumerate()
    {
        let activation = [Activation::Relu, Activation::Relu6, Activation::None][case % 3];
        let dead = (case % 4 == 1).then_some(1);
        let mut tail = Tail::generated(widths, activation, dead, &mut random);
        let wide = tail.wide();
        for sample in 0..4 {
            let features: Vec<i16> = (0..widths[0]).map(|_| (random.next() % 256) as i16 - 60).collect();
            let x: Vec<f64> = features.iter().map(|&q| f64::from(q) / 64.0).collect();
            let label = sample % widths[widths.len() - 1];
            let rho = if method == Method::Sam { 0.05 } else { 0.5 };
            let (expected_loss, g) = gradient(&wide, &x, label);
            let moved = if method == Method::Sgd { wide.clone() } else { perturbed(&wide, &g, method, rho) };
            if is_at_a_bend(&wide, &x) || is_at_a_bend(&moved, &x) {
                continue;
            }
            compared += 1;
            let (loss, risen, found) = tail.pass(&features, label, method, rho as f32);
            let (expected_risen, expected) = gradient(&moved, &x, label);
            for (found, expected) in found.iter().zip(&expected) {
                let distance = distance(found, expected);
                worst = worst.max(distance);
                assert!(distance < 2e-3, "{widths:?} {method:?}: {distance}");
            }
            for (found, expected) in [(loss, expected_loss), (risen, expected_risen)] {
                let difference = (f64::from(found) - expected).abs() / (1.0 + expected);
                worst_loss = worst_loss.max(difference);
                assert!(difference < 2e-4, "{widths:?} {method:?}: {found} for {expected}");
            }
        }
    }
    assert!(compared > 70, "{compared} samples");
    std::println!("gradients within {worst:.2e} in relative norm, losses within {worst_loss:.2e}");
}

/// Requantizing may give a dead channel a scale by its bias, at which all of its weights are 0.
#[test]
fn a_dead_channel_stays_dead_when_a_tuned_tail_is_loaded() {
    let mut random = Random(3);
    let mut tail = Tail::generated(&[4, 3], Activation::None, Some(1), &mut random);
    assert_eq!(tail.weights().dead().collect::<Vec<_>>(), [1]);
    let layer = *tail.chain.layers().next().unwrap();
    let from = Int8Layer {
        weights: &[5, -7, 1, 100, 0, 0, 0, 0, 3, 3, -127, 9],
        biases: &[0, 1 << 20, 0],
        scales: &[0.01, 1.4e-7, 0.02],
        packed_scales: &[0.01, 1e-10, 0.02],
        input_scale: 0.02,
        fold: 1.0,
    };
    tail.weights().load(&layer, &from);
    assert_eq!(tail.weights().dead().collect::<Vec<_>>(), [1]);
}

/// Else two rows would be rounded by the same random numbers.
#[test]
fn no_two_rows_have_the_same_purpose() {
    let mut random = Random(4);
    let tail = Tail::generated(&[3, 5, 1, 4], Activation::Relu, None, &mut random);
    let of = |layer: &Layer| (0..=layer.outputs).map(|o| layer.purpose(o)).collect::<Vec<_>>();
    let mut purposes: Vec<u32> = tail.chain.layers().flat_map(of).collect();
    let count = purposes.len();
    purposes.sort_unstable();
    purposes.dedup();
    assert_eq!(purposes.len(), count);
}
