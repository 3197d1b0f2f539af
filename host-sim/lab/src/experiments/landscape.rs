//! The loss around a solution: its rise along directions, its curvature, and what moved, rounded or damaged weights
//! still answer.

use super::soft_targets::Sample;
use super::start::uniform;
use anyhow::{Context, Result};
use flatmin::BiasTreatment;
use flatmin::internals::tail::{DenseChain, Workspace};
use flatmin_sim::wearers::SplitMix64;

/// A tail at some weights, on some features.
pub struct Landscape<'a> {
    tail: &'a DenseChain,
    memory: Vec<f32>,
    windows: Vec<Sample>,
    test: Vec<Sample>,
}

/// Iterations of Lanczos: the largest of thousands of eigenvalues stands after few.
const ITERATIONS: usize = 20;
/// Probes of the trace.
const PROBES: u64 = 10;
/// How far gradients are compared along a direction of length 1.
const STEP: f32 = 1e-2;

impl<'a> Landscape<'a> {
    /// The loss on `windows`, the accuracy on `test`.
    pub fn new(tail: &'a DenseChain, windows: Vec<Sample>, test: Vec<Sample>) -> Self {
        let memory = vec![0.0; DenseChain::workspace_length(tail.features(), tail.outputs())];
        Self { tail, memory, windows, test }
    }

    /// `H v` by central differences of gradients.
    fn hessian_times(&mut self, weights: &[f32], v: &[f64]) -> Result<Vec<f64>> {
        let mut gradient_at = |sign: f32| -> Result<Vec<f32>> {
            let moved: Vec<f32> = weights.iter().zip(v).map(|(w, v)| w + sign * STEP * *v as f32).collect();
            let mut gradient = vec![0.0; weights.len()];
            self.loss(&moved, Some(&mut gradient))?;
            Ok(gradient)
        };
        let (up, down) = (gradient_at(1.0)?, gradient_at(-1.0)?);
        let scale = 1.0 / (2.0 * f64::from(STEP));
        Ok(up.iter().zip(&down).map(|(a, b)| scale * (f64::from(*a) - f64::from(*b))).collect())
    }

    /// Largest eigenvalue of the loss's Hessian (Lanczos, with full reorthogonalization).
    pub fn largest_eigenvalue(&mut self, weights: &[f32]) -> Result<f64> {
        let mut random = SplitMix64::new(17);
        let mut v: Vec<f64> = weights.iter().map(|_| 2.0 * uniform(&mut random) - 1.0).collect();
        let (mut basis, mut diagonal, mut beside): (Vec<Vec<f64>>, _, Vec<f64>) =
            (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ITERATIONS.min(weights.len()) {
            let norm = dot(&v, &v).sqrt();
            if norm < 1e-9 {
                break;
            }
            if !basis.is_empty() {
                beside.push(norm);
            }
            v.iter_mut().for_each(|x| *x /= norm);
            let mut next = self.hessian_times(weights, &v)?;
            diagonal.push(dot(&next, &v));
            basis.push(v);
            for _ in 0..2 {
                for known in &basis {
                    let share = dot(&next, known);
                    next.iter_mut().zip(known).for_each(|(x, k)| *x -= share * k);
                }
            }
            v = next;
        }
        Ok(largest_of_tridiagonal(&diagonal, &beside))
    }

    /// Trace of the Hessian (Hutchinson: the mean of `z^T H z` over random signs).
    pub fn trace(&mut self, weights: &[f32]) -> Result<f64> {
        let mut sum = 0.0;
        for probe in 0..PROBES {
            let mut random = SplitMix64::new(29 + probe);
            let signs: Vec<f64> =
                weights.iter().map(|_| if random.next_u64() >> 63 == 0 { 1.0 } else { -1.0 }).collect();
            // As long as the others, for the step's sake.
            let length = (signs.len() as f64).sqrt();
            let unit: Vec<f64> = signs.iter().map(|s| s / length).collect();
            sum += length * length * dot(&self.hessian_times(weights, &unit)?, &unit);
        }
        Ok(sum / PROBES as f64)
    }

    /// Loss on the adaptation windows as they are labelled; adds its gradient where there is room for one.
    pub fn loss(&mut self, weights: &[f32], mut gradient: Option<&mut [f32]>) -> Result<f64> {
        let mut workspace = Workspace::new(self.tail, &mut self.memory).context("workspace")?;
        let scale = 1.0 / self.windows.len().max(1) as f32;
        let mut sum = 0.0;
        for (features, label) in &self.windows {
            workspace.features.copy_from_slice(features);
            sum += f64::from(self.tail.first_pass(weights, *label, &mut workspace));
            if let Some(gradient) = gradient.as_deref_mut() {
                self.tail.accumulate(scale, BiasTreatment::Unit, &workspace, false, gradient);
            }
        }
        Ok(sum / self.windows.len().max(1) as f64)
    }

    /// Accuracy of the f32 tail on the test windows, in percent.
    pub fn accuracy(&mut self, weights: &[f32]) -> Result<f64> {
        let mut workspace = Workspace::new(self.tail, &mut self.memory).context("workspace")?;
        let mut right = 0;
        for (features, label) in &self.test {
            workspace.features.copy_from_slice(features);
            self.tail.forward(weights, &mut workspace);
            let logits = workspace.logits(self.tail.classes());
            let answer = (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            right += usize::from(answer == Some(*label));
        }
        Ok(100.0 * right as f64 / self.test.len().max(1) as f64)
    }

    /// Rise of the loss at the end of ten ascents of a tenth of `radius` each.
    pub fn worst_case(&mut self, weights: &[f32], radius: f32) -> Result<f64> {
        let mut moved = weights.to_vec();
        for _ in 0..10 {
            let mut gradient = vec![0.0; weights.len()];
            self.loss(&moved, Some(&mut gradient))?;
            let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt().max(1e-12);
            for (w, g) in moved.iter_mut().zip(&gradient) {
                *w += radius / 10.0 * (f64::from(*g) / norm) as f32;
            }
        }
        Ok(self.loss(&moved, None)? - self.loss(weights, None)?)
    }
}

/// `w + size * d`, d a random direction with every row as long as the weights' own (Li et al. 2018, section 4);
/// biases stay.
pub fn moved(tail: &DenseChain, weights: &[f32], size: f32, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    let mut normal = || (0..12).map(|_| random.next_u64() as f64 / u64::MAX as f64).sum::<f64>() - 6.0;
    each_row(tail, weights, |row| {
        let direction: Vec<f64> = row.iter().map(|_| normal()).collect();
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let own = norm(&mut row.iter().map(|&w| f64::from(w)));
        let factor = f64::from(size) * own / norm(&mut direction.iter().copied()).max(1e-12);
        for (w, d) in row.iter_mut().zip(direction) {
            *w += (factor * d) as f32;
        }
    })
}

/// Weights rounded to this many bits, symmetric, one scale a row; biases stay.
pub fn rounded(tail: &DenseChain, weights: &[f32], bits: u32) -> Vec<f32> {
    let steps = ((1u32 << (bits - 1)) - 1) as f32;
    each_row(tail, weights, |row| {
        let scale = row.iter().fold(0.0f32, |m, w| m.max(w.abs())) / steps;
        if scale > 0.0 {
            row.iter_mut().for_each(|w| *w = (*w / scale).round() * scale);
        }
    })
}

fn each_row(tail: &DenseChain, weights: &[f32], mut change: impl FnMut(&mut [f32])) -> Vec<f32> {
    let mut changed = weights.to_vec();
    let mut rest: &mut [f32] = &mut changed;
    for layer in tail.layers() {
        let (own, behind) = rest.split_at_mut(layer.parameters());
        own[..layer.weights()].chunks_exact_mut(layer.inputs).for_each(&mut change);
        rest = behind;
    }
    changed
}

/// Weights rounded to 8 bits, each of which is then flipped with this probability, as in memory that forgets.
pub fn flipped(tail: &DenseChain, weights: &[f32], probability: f64, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    each_row(tail, weights, |row| {
        let scale = row.iter().fold(0.0f32, |m, w| m.max(w.abs())) / 127.0;
        if scale > 0.0 {
            for w in row {
                let mask =
                    (0..8).fold(0u8, |mask, bit| mask | u8::from(uniform(&mut random) < probability) << bit);
                *w = scale * f32::from(((*w / scale).round() as i8) ^ mask.cast_signed());
            }
        }
    })
}

/// Of vectors of the same length.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// By bisection on the number of eigenvalues below (Sturm's sequence).
fn largest_of_tridiagonal(diagonal: &[f64], beside: &[f64]) -> f64 {
    let bound = |sign: f64| {
        let radius = |i: usize| {
            let left = i.checked_sub(1).and_then(|i| beside.get(i)).map_or(0.0, |b| b.abs());
            left + beside.get(i).map_or(0.0, |b| b.abs())
        };
        let ends = diagonal.iter().enumerate().map(|(i, d)| sign * d + radius(i));
        sign * ends.fold(f64::NEG_INFINITY, f64::max)
    };
    let (mut low, mut high) = (bound(-1.0), bound(1.0));
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        let (mut below, mut ratio) = (0, 1.0f64);
        for (i, d) in diagonal.iter().enumerate() {
            let square = i.checked_sub(1).and_then(|i| beside.get(i)).map_or(0.0, |b| b * b);
            let last = if ratio == 0.0 { 1e-300 } else { ratio };
            ratio = d - middle - square / last;
            below += usize::from(ratio < 0.0);
        }
        if below == diagonal.len() { high = middle } else { low = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatmin::internals::pack::Activation;
    use flatmin::internals::tail::dense::DenseShape;

    #[test]
    fn eigenvalue_and_trace_are_those_of_the_hessian_written_out() {
        // One layer: H = mean of (diag(p) - p p^T) by (x, 1) (x, 1)^T, in f64.
        const INPUTS: usize = 4;
        const CLASSES: usize = 3;
        let tail =
            DenseChain::new(&[DenseShape { inputs: INPUTS, outputs: CLASSES, activation: Activation::None }])
                .unwrap();
        let mut random = SplitMix64::new(2);
        let mut number = || (2.0 * uniform(&mut random) - 1.0) as f32;
        let weights: Vec<f32> = (0..tail.parameters()).map(|_| number()).collect();
        let windows: Vec<Sample> =
            (0..9).map(|i| ((0..INPUTS).map(|_| number()).collect(), i % CLASSES)).collect();
        let n = tail.parameters();
        let mut hessian = vec![vec![0.0f64; n]; n];
        for (x, _) in &windows {
            let logit = |k: usize| {
                let row = &weights[k * INPUTS..][..INPUTS];
                row.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>()
                    + f64::from(weights[CLASSES * INPUTS + k])
            };
            let powers: Vec<f64> = (0..CLASSES).map(|k| logit(k).exp()).collect();
            let sum: f64 = powers.iter().sum();
            // Which class a parameter feeds, and its input.
            let place = |i: usize| match i < CLASSES * INPUTS {
                true => (i / INPUTS, f64::from(x[i % INPUTS])),
                false => (i - CLASSES * INPUTS, 1.0),
            };
            for (i, row) in hessian.iter_mut().enumerate() {
                for (j, h) in row.iter_mut().enumerate() {
                    let ((a, x), (b, y)) = (place(i), place(j));
                    let p = |k: usize| powers[k] / sum;
                    *h += x * y * (f64::from(u8::from(a == b)) * p(a) - p(a) * p(b)) / windows.len() as f64;
                }
            }
        }
        let mut v = vec![1.0; n];
        for (i, v) in v.iter_mut().enumerate() {
            *v += 0.1 * i as f64;
        }
        let mut eigenvalue = 0.0;
        for _ in 0..500 {
            v = hessian.iter().map(|row| dot(row, &v)).collect();
            eigenvalue = dot(&v, &v).sqrt();
            v.iter_mut().for_each(|x| *x /= eigenvalue);
        }
        let trace: f64 = (0..n).map(|i| hessian[i][i]).sum();
        let mut landscape = Landscape::new(&tail, windows, Vec::new());
        let found = landscape.largest_eigenvalue(&weights).unwrap();
        assert!((found / eigenvalue - 1.0).abs() < 1e-3, "{found}, {eigenvalue}");
        // Hutchinson's own error: with ten probes a fifth of the trace of such a small matrix.
        let found = landscape.trace(&weights).unwrap();
        assert!((found / trace - 1.0).abs() < 0.3, "{found}, {trace}");
        let v: Vec<f64> = (0..n).map(|i| if i == 3 { 1.0 } else { 0.0 }).collect();
        for (h, row) in landscape.hessian_times(&weights, &v).unwrap().iter().zip(&hessian) {
            assert!((h - row[3]).abs() < 1e-4, "{h} {}", row[3]);
        }
    }

    #[test]
    fn as_many_bits_flip_as_asked_for() {
        let tail = DenseChain::new(&[DenseShape { inputs: 1000, outputs: 4, activation: Activation::None }])
            .unwrap();
        let weights: Vec<f32> = (0..tail.parameters()).map(|i| (i % 127) as f32 - 63.0).collect();
        let whole = rounded(&tail, &weights, 8);
        assert_eq!(flipped(&tail, &weights, 0.0, 1), whole);
        let moved = flipped(&tail, &weights, 0.01, 1);
        let changed = moved.iter().zip(&whole).filter(|(a, b)| a != b).count();
        // 1 - 0.99^8 of 4,000: 309, standard deviation 17.
        assert!((240..380).contains(&changed), "{changed}");
    }

    fn tail() -> DenseChain {
        let layer = |inputs, outputs, activation| DenseShape { inputs, outputs, activation };
        DenseChain::new(&[layer(3, 2, Activation::Relu), layer(2, 2, Activation::None)]).unwrap()
    }

    #[test]
    fn rounding_is_by_rows_and_leaves_biases() {
        let weights = [3.0, -1.4, 0.6, 30.0, -14.0, 6.0, 0.123, 0.456, 1.0, 0.5, 0.0, 0.0, 0.7, 0.8];
        // 3 bits: steps of a third of the row's largest, to nearest.
        let expected = [3.0, -1.0, 1.0, 30.0, -10.0, 10.0, 0.123, 0.456, 1.0, 2.0 / 3.0, 0.0, 0.0, 0.7, 0.8];
        for (found, expected) in rounded(&tail(), &weights, 3).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn directions_are_as_long_as_the_rows() {
        let weights = [3.0f32, 4.0, 0.0, 0.0, 0.5, 0.0, 9.0, 9.0, 1.0, 1.0, 2.0, 0.0, 7.0, 7.0];
        let found = moved(&tail(), &weights, 0.5, 3);
        let distance = |range: std::ops::Range<usize>| {
            range.map(|i| f64::from(found[i] - weights[i]).powi(2)).sum::<f64>().sqrt()
        };
        for (range, norm) in [(0..3, 5.0), (3..6, 0.5), (8..10, 2f64.sqrt()), (10..12, 2.0)] {
            assert!((distance(range) - 0.5 * norm).abs() < 1e-5);
        }
        assert_eq!(distance(6..8) + distance(12..14), 0.0);
    }
}
