//! How far f32 arithmetic may be off: forward, backward and ascent with every number carrying a bound on its
//! error (running error analysis, Higham, "Accuracy and Stability of Numerical Algorithms", 3.3 and 4.2).
//!
//! The model is the standard one: an operation gives its exact result times 1 + d, |d| <= U = 2^-24, plus TINY
//! where it underflows; a sum in which no term passes more than k additions is off by at most
//! `k U / (1 - k U)` times the sum of the absolute values. Nothing is fitted: a bound that fails is a bug here
//! or there. The values that are carried along are f64 and do not come from the crate.

use flatmin::internals::pack::Activation;
use flatmin::internals::tail::DenseChain;
use flatmin::{BiasTreatment, internals::optim::Geometry};
use std::ops::{Add, Mul};

const U: f64 = 1.0 / 16_777_216.0;
/// The smallest subnormal f32.
const TINY: f64 = 1.5e-45;

/// A real number, and how far the f32 that stands for it may be away.
#[derive(Debug, Clone, Copy)]
pub struct Approx {
    pub value: f64,
    pub error: f64,
}

impl Approx {
    pub fn exact(value: f32) -> Self {
        Self { value: f64::from(value), error: 0.0 }
    }

    fn rounded(value: f64, error: f64) -> Self {
        Self { value, error: error + U * (value.abs() + error) + TINY }
    }

    fn magnitude(self) -> f64 {
        self.value.abs() + self.error
    }

    /// Whether an f32 is as near as it must be.
    pub fn admits(self, value: f32) -> bool {
        (f64::from(value) - self.value).abs() <= self.error
    }
}

impl Add for Approx {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::rounded(self.value + other.value, self.error + other.error)
    }
}

impl Mul for Approx {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let error =
            self.value.abs() * other.error + other.value.abs() * self.error + self.error * other.error;
        Self::rounded(self.value * other.value, error)
    }
}

/// A sum in which no term passes more than `additions` additions.
fn sum(additions: usize, terms: impl Iterator<Item = Approx>) -> Approx {
    let gamma = additions as f64 * U / (1.0 - additions as f64 * U);
    terms.fold(Approx { value: 0.0, error: 0.0 }, |sum, term| Approx {
        value: sum.value + term.value,
        error: sum.error + term.error + gamma * term.magnitude(),
    })
}

/// Additions that a term of an eight-lane reduction passes: its lane, the tree of three, and room for a bias and
/// the ascent's share.
fn lanes(length: usize) -> usize {
    length.div_ceil(8) + 5
}

/// What a pass gives.
pub struct Pass {
    pub loss: Approx,
    pub gradient: Vec<Approx>,
    /// Distance of the hidden pre-activations from the kinks of their activations, errors taken off. Where it is
    /// not positive, f32 may take another branch than f64 and no bound holds.
    pub clearance: f64,
    /// Hidden units below and above the linear part of their activation.
    pub flat: [usize; 2],
}

/// Forward and backward of one sample. Also bounds the rank-one pass at `w + e`, in which every term passes the
/// same operations or fewer: there e is not rounded into the weights.
pub fn pass(tail: &DenseChain, parameters: &[Approx], features: &[f32], label: usize) -> Pass {
    let layers: Vec<_> = tail.layers().collect();
    let mut own = Vec::new();
    let mut rest = parameters;
    for layer in &layers {
        let (part, behind) = rest.split_at(layer.parameters());
        own.push(part.split_at(layer.weights()));
        rest = behind;
    }

    let (mut clearance, mut flat) = (f64::INFINITY, [0; 2]);
    let mut inputs = vec![features.iter().copied().map(Approx::exact).collect::<Vec<_>>()];
    for (layer, (weights, biases)) in layers.iter().zip(&own) {
        let a = inputs.last().expect("features");
        let mut outputs = Vec::new();
        for (row, &bias) in weights.chunks(layer.inputs).zip(*biases) {
            let terms = row.iter().zip(a).map(|(&w, &a)| w * a).chain([bias]);
            let z = sum(lanes(layer.inputs), terms);
            let (kinks, ceiling): (&[f64], f64) = match layer.activation {
                Activation::None => (&[], f64::INFINITY),
                Activation::Relu => (&[0.0], f64::INFINITY),
                Activation::Relu6 => (&[0.0, 6.0], 6.0),
            };
            for kink in kinks {
                clearance = clearance.min((z.value - kink).abs() - z.error);
            }
            let floor = if kinks.is_empty() { f64::NEG_INFINITY } else { 0.0 };
            flat[0] += usize::from(z.value < floor);
            flat[1] += usize::from(z.value > ceiling);
            outputs.push(Approx { value: z.value.clamp(floor, ceiling), error: z.error });
        }
        inputs.push(outputs);
    }

    let logits = inputs.pop().expect("a layer");
    let (loss, mut delta) = softmax_cross_entropy(&logits, label);
    let mut blocks = Vec::new();
    for ((layer, (weights, _)), a) in layers.iter().zip(&own).zip(&inputs).rev() {
        let mut block: Vec<Approx> = delta.iter().flat_map(|&d| a.iter().map(move |&a| d * a)).collect();
        block.extend(&delta);
        blocks.push(block);
        // W^T delta sums row after row, the ascent's share behind it.
        let column =
            |i: usize| weights.iter().skip(i).step_by(layer.inputs).zip(&delta).map(|(&w, &d)| w * d);
        delta = (0..layer.inputs).map(|i| sum(2 * layer.outputs, column(i))).collect();
        // The mask; the features' own gradient is not used.
        let below =
            layers.iter().position(|l| std::ptr::eq(l, layer)).and_then(|i| layers.get(i.wrapping_sub(1)));
        let ceiling = match below.map_or(Activation::None, |l| l.activation) {
            Activation::None => continue,
            Activation::Relu => f64::INFINITY,
            Activation::Relu6 => 6.0,
        };
        for (d, y) in delta.iter_mut().zip(a) {
            if y.value <= 0.0 || y.value >= ceiling {
                *d = Approx::exact(0.0);
            }
        }
    }
    Pass { loss, gradient: blocks.into_iter().rev().flatten().collect(), clearance, flat }
}

/// libm's expf and logf are within 1 ulp, 2 U.
fn softmax_cross_entropy(logits: &[Approx], label: usize) -> (Approx, Vec<Approx>) {
    // Softmax does not mind which logit is taken off, so that it is enough to know how far that one is off.
    let largest = Approx {
        value: logits.iter().fold(f64::NEG_INFINITY, |m, z| m.max(z.value)),
        error: logits.iter().fold(0.0, |m, z| z.error.max(m)),
    };
    let shifted = |z: &Approx| Approx::rounded(z.value - largest.value, z.error + largest.error);
    let exponentials: Vec<_> = logits
        .iter()
        .map(|z| {
            let (x, e) = (shifted(z), shifted(z).value.exp());
            let error = e * x.error.exp_m1();
            Approx { value: e, error: error + 2.0 * U * (e + error) + TINY }
        })
        .collect();
    let total = sum(logits.len(), exponentials.iter().copied());
    let least = total.value - total.error;
    let deltas = exponentials.iter().enumerate().map(|(class, e)| {
        let p = e.value / total.value;
        let p = Approx::rounded(p, (e.error + p * total.error) / least);
        p + Approx::exact(if class == label { -1.0 } else { 0.0 })
    });
    let ln = total.value.ln();
    let ln = Approx { value: ln, error: total.error / least + 2.0 * U * (ln.abs() + total.error / least) };
    let target = shifted(&logits[label]);
    (ln + Approx { value: -target.value, error: target.error }, deltas.collect())
}

/// `w + e` with `e = rho T^2 g / ||T g||`, and `||T g||`.
pub fn ascend(
    tail: &DenseChain,
    parameters: &[f32],
    gradient: &[Approx],
    geometry: &Geometry,
    rho: f32,
) -> (Vec<Approx>, Approx) {
    let one = Approx::exact(1.0);
    let t = |(&w, is_bias): (&f32, bool)| {
        let adaptive = |eta| Approx::exact(w.abs()) + Approx::exact(eta);
        match (is_bias, geometry.bias, geometry.eta) {
            (true, BiasTreatment::Frozen, _) => Approx::exact(0.0),
            (true, BiasTreatment::Unit, _) | (_, _, None) => one,
            (_, _, Some(eta)) => adaptive(eta),
        }
    };
    let t: Vec<_> = parameters.iter().zip(super::kinds(tail)).map(t).collect();
    // Reductions over a layer at most, their sums added up layer by layer, or row by row in the rank-one form.
    let longest = tail.layers().map(|l| lanes(l.weights()) + l.outputs).max().unwrap_or(0);
    let squares = t.iter().zip(gradient).map(|(&t, &g)| (t * g) * (t * g));
    let squared = sum(longest + 2 * tail.layers().len(), squares);
    let norm = squared.value.sqrt();
    let norm =
        Approx::rounded(norm, squared.error / (norm + (squared.value - squared.error).max(0.0).sqrt()));
    let c = f64::from(rho) / norm.value;
    let c = Approx::rounded(c, c * norm.error / (norm.value - norm.error));
    let moved =
        t.iter().zip(gradient).zip(parameters).map(|((&t, &g), &w)| Approx::exact(w) + c * ((t * t) * g));
    (moved.collect(), norm)
}
