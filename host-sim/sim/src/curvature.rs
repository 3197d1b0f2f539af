//! The largest eigenvalue of the loss's Hessian: how sharply the loss curves at weights where a run has ended, whatever the gradient
//! is there.

use crate::subject::Labelled;
use anyhow::{Context, Result, ensure};
use flatmin::internals::label::Target;
use flatmin::internals::tail::{PackedTail, Tail};
use flatmin::{BiasTreatment, Loss, Tuner};

/// How far gradients are compared along a direction of length 1.
const STEP: f32 = 1.0 / 512.0;
/// Passes over the samples at most, two for each product with the Hessian.
const ITERATIONS: usize = 60;
/// Relative change from one iteration to the next that ends it.
const SETTLED: f64 = 1e-4;

/// The mean loss of labelled latents at a tuner's weights, without label smoothing.
struct Surface<'t, 'p> {
    tail: PackedTail<'p>,
    weights: &'t [f32],
    /// Features and label.
    samples: Vec<(Vec<f32>, usize)>,
    workspace: Vec<f32>,
}

impl Surface<'_, '_> {
    fn gradient(&mut self, weights: &[f32]) -> Result<Vec<f32>> {
        let (features, scale) = (self.tail.features(), 1.0 / self.samples.len() as f32);
        let mut gradient = vec![0.0; weights.len()];
        for (own, label) in &self.samples {
            self.workspace[..features].copy_from_slice(own);
            let loss = self.tail.forward_loss(weights, Target::from(*label), &mut self.workspace);
            ensure!(loss.is_finite(), "a loss is not finite");
            self.tail.backward(weights, scale, BiasTreatment::Unit, &mut self.workspace, &mut gradient);
        }
        Ok(gradient)
    }

    /// `H v` by central differences of the gradient.
    fn hessian_times(&mut self, v: &[f64]) -> Result<Vec<f64>> {
        let moved = |sign: f32| -> Vec<f32> {
            self.weights.iter().zip(v).map(|(w, v)| w + sign * STEP * *v as f32).collect()
        };
        let (up, down) = (moved(1.0), moved(-1.0));
        let (up, down) = (self.gradient(&up)?, self.gradient(&down)?);
        let scale = 1.0 / (2.0 * f64::from(STEP));
        Ok(up.iter().zip(&down).map(|(a, b)| scale * (f64::from(*a) - f64::from(*b))).collect())
    }

    /// The eigenvalue of `H + shift` that is furthest from 0 (power iteration, by Rayleigh's quotient), less the shift.
    fn furthest(&mut self, shift: f64) -> Result<f64> {
        // No eigenvector has these elements.
        let mut random = crate::wearers::SplitMix64::new(17);
        let mut v: Vec<f64> =
            self.weights.iter().map(|_| random.next_u64() as f64 / u64::MAX as f64 - 0.5).collect();
        let mut value = 0.0;
        for _ in 0..ITERATIONS / 2 {
            let norm = dot(&v, &v).sqrt();
            if norm == 0.0 {
                break;
            }
            v.iter_mut().for_each(|x| *x /= norm);
            let mut next = self.hessian_times(&v)?;
            next.iter_mut().zip(&v).for_each(|(x, v)| *x += shift * v);
            let found = dot(&next, &v) - shift;
            let settled = (found - value).abs() <= SETTLED * found.abs();
            (v, value) = (next, found);
            if settled {
                break;
            }
        }
        Ok(value)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// lambda_max of the mean loss of these inputs, as they are labelled, at the tuner's f32 weights: gradients are the crate's own, of its
/// tail in f32. `None` of a squared error.
///
/// # Errors
/// What the tuner refuses; no sample.
pub fn largest_eigenvalue(tuner: &mut Tuner, inputs: &[Labelled]) -> Result<Option<f64>> {
    if tuner.pack().loss() == Loss::SquaredError {
        return Ok(None);
    }
    ensure!(!inputs.is_empty(), "no sample to take the loss of");
    let (unit, zero) = (tuner.pack().feature_unit(), tuner.pack().feature().affine.zero_point);
    let to_f32 = |latent: &[i8]| latent.iter().map(|&q| unit * (i32::from(q) - zero) as f32).collect();
    let samples = (inputs.iter())
        .map(|(input, label)| Ok((to_f32(tuner.latent(input)?), *label)))
        .collect::<Result<Vec<(Vec<f32>, usize)>>>()?;
    let tail = PackedTail::of(tuner.pack()).context("no tail")?;
    let workspace = vec![0.0; tail.workspace_floats()];
    let mut surface = Surface { tail, weights: tuner.weights(), samples, workspace };
    let found = surface.furthest(0.0)?;
    // Where the most negative one is furthest, the others are moved to one side of it.
    Ok(Some(if found < 0.0 { surface.furthest(-found)? } else { found }))
}
