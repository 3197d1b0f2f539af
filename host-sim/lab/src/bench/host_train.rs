//! Nanoseconds of whole training steps on this machine, beside PyTorch's where a Python has it.

use super::host::{best_of, python, reason};
use anyhow::{Context, Result, ensure};
use flatmin::internals::pack::Activation;
use flatmin::internals::step::{self, Buffers};
use flatmin::internals::tail::dense::DenseShape;
use flatmin::internals::tail::{DenseChain, PackedTail, Tail};
use flatmin::{Method, Recipe};
use flatmin_model::model::Model;
use flatmin_sim::wearers::model_bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A step of one minibatch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTime {
    /// Its name; `m1` has an ascent for every sample, `sam` one for the minibatch, as PyTorch's has.
    pub name: String,
    /// Best of many, one thread.
    pub nanoseconds: f64,
    /// PyTorch's, with the same layers, minibatch and method, one ascent a minibatch; in the same run.
    pub pytorch_nanoseconds: Option<f64>,
    /// PyTorch's time divided by ours.
    pub times_as_fast: Option<f64>,
}

/// What training takes on this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostTrainReport {
    /// Steps.
    pub steps: Vec<StepTime>,
    /// Why there is no PyTorch.
    pub pytorch_missing: Option<String>,
}

/// Layers' outputs behind the first number, the inputs; and the minibatch.
const CASES: [(&str, &[usize], usize); 2] =
    [("dense_64_32_10_b16", &[64, 32, 10], 16), ("dense_1280_100_b8", &[1280, 100], 8)];

/// The bundled network, all of its layers, and the minibatch.
const BUNDLED: (&str, usize, usize) = ("bundled_7_layers_b16", 7, 16);

/// Name, which of PyTorch's it stands beside, if any, and recipe.
fn methods(batch: usize) -> Result<[(&'static str, Option<&'static str>, Recipe); 4]> {
    let plain =
        Recipe { momentum: 0.9, weight_decay: 0.0, label_smoothing: 0.0, rho: 0.05, ..Recipe::DEFAULT };
    let sam = Recipe { method: Method::Sam, ..plain };
    let together = Recipe { sharpness_batch: u16::try_from(batch)?, ..sam };
    Ok([
        ("sgd", Some("sgd"), Recipe { method: Method::Sgd, ..plain }),
        ("sam", Some("sam"), together),
        ("sam_m1", Some("sam"), sam),
        ("asam_m1", None, Recipe { method: Method::Asam, ..plain }),
    ])
}

/// Measures the steps of names that contain `only`, then asks PyTorch.
///
/// # Errors
/// A step that fails, or no such name.
pub fn measure(only: &str) -> Result<HostTrainReport> {
    let mut own = Vec::new();
    for (case, layers, batch) in CASES {
        for (name, beside, recipe) in methods(batch)? {
            let (name, beside) = (format!("{case}_{name}"), beside.map(|beside| format!("{case}_{beside}")));
            if name.contains(only) {
                let nanoseconds = time_chain(layers, batch, &recipe)?;
                own.push((name, beside, nanoseconds));
            }
        }
    }
    let (case, layers, batch) = BUNDLED;
    let bytes = model_bytes(1).context("a network of the first wearer is bundled")?;
    let file = Model::bundled("wearer 1".into(), bytes)?.pack(layers)?;
    let tail = PackedTail::of(&file.pack())?;
    for (name, beside, recipe) in methods(batch)? {
        let (name, beside) = (format!("{case}_{name}"), beside.map(|beside| format!("{case}_{beside}")));
        if name.contains(only) {
            let weights = uniform(1, 0.1, tail.parameters());
            own.push((name, beside, time(&tail, weights, batch, &recipe)?));
        }
    }
    ensure!(!own.is_empty(), "no step's name contains `{only}`");
    let (torch, pytorch_missing): (Option<BTreeMap<String, f64>>, _) =
        reason(python("torch", include_str!("torch.py"), None));
    let steps = own.into_iter().map(|(name, beside, nanoseconds)| {
        let pytorch_nanoseconds = torch.as_ref().and_then(|times| times.get(&beside?)).copied();
        let times_as_fast = pytorch_nanoseconds.map(|theirs| theirs / nanoseconds);
        StepTime { name, nanoseconds, pytorch_nanoseconds, times_as_fast }
    });
    Ok(HostTrainReport { steps: steps.collect(), pytorch_missing })
}

/// A step of fully connected layers.
fn time_chain(layers: &[usize], batch: usize, recipe: &Recipe) -> Result<f64> {
    let shapes: Vec<DenseShape> = layers
        .windows(2)
        .enumerate()
        .map(|(place, pair)| {
            let last = place + 2 == layers.len();
            let activation = if last { Activation::None } else { Activation::Relu };
            DenseShape { inputs: pair[0], outputs: pair[1], activation }
        })
        .collect();
    let tail = DenseChain::new(&shapes)?;
    let weights = uniform(1, 0.1, tail.parameters());
    time(&tail, weights, batch, recipe)
}

/// Values of either sign, as large as `limit`.
fn uniform(seed: u32, limit: f32, length: usize) -> Vec<f32> {
    let mut bytes = vec![0; length];
    flatmin_bench::fill(seed, &mut bytes);
    bytes.into_iter().map(|q: i8| limit * f32::from(q) / 128.0).collect()
}

/// A step of any tail.
fn time(tail: &impl Tail, mut weights: Vec<f32>, batch: usize, recipe: &Recipe) -> Result<f64> {
    let mut velocity = vec![0.0; tail.parameters()];
    let stored = step::stores_perturbation(tail, recipe);
    let mut gradient = vec![0.0; if stored { tail.parameters() } else { 0 }];
    let mut workspace = vec![0.0; tail.workspace_floats() * batch];
    let features = uniform(2, 1.0, batch * tail.features());
    let mut failed = None;
    let nanoseconds = best_of(|| {
        let buffers = Buffers {
            weights: &mut weights,
            velocity: &mut velocity,
            gradient: &mut gradient,
            workspace: &mut workspace,
        };
        let outcome = step::minibatch(tail, recipe, 0.001, buffers, batch, |sample, own| {
            own.copy_from_slice(&features[sample * tail.features()..(sample + 1) * tail.features()]);
            sample % tail.classes()
        });
        failed = outcome.err().or(failed);
    });
    failed.map_or(Ok(nanoseconds), |error| Err(error.into()))
}

impl fmt::Display for HostTrainReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "training steps on this machine, one thread, best of many")?;
        for own in &self.steps {
            write!(f, "  {:<28} {:>10.0} ns", own.name, own.nanoseconds)?;
            if let (Some(theirs), Some(times)) = (own.pytorch_nanoseconds, own.times_as_fast) {
                write!(f, "; PyTorch {theirs:.0} ns, flatmin is {times:.1} times as fast")?;
            }
            writeln!(f)?;
        }
        match &self.pytorch_missing {
            Some(why) => write!(f, "  PyTorch: not measured: {why}"),
            None => Ok(()),
        }
    }
}
