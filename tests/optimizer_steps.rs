//! Ten steps of SGD, SAM, ASAM and SAM-ON around SGD and Adam agree with PyTorch running the published algorithms in double precision:
//! `golden/README.md` says how the numbers were made.

// micromath's exp and ln are off by far more than f32 rounding.
#![cfg(not(feature = "micromath"))]

use flatmin::internals::step::{self, Buffers};
use flatmin::internals::tail::{DenseChain, dense::DenseShape};
use flatmin::{BiasTreatment, Method, Optimizer, Recipe, Schedule, internals::pack::Activation};
use serde_json::Value;

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().expect("an array").iter().map(|x| x.as_u64().expect("an index") as usize).collect()
}

fn single(value: &Value) -> f32 {
    value.as_f64().expect("a number") as f32
}

fn recipe(case: &Value, store_perturbation: bool) -> Recipe {
    let bias = match (case["train_biases"].as_bool(), case["asam_biases"].as_str()) {
        (Some(false), _) => BiasTreatment::Frozen,
        (_, Some("elementwise")) => BiasTreatment::Elementwise,
        _ => BiasTreatment::Unit,
    };
    Recipe {
        method: match case["method"].as_str() {
            Some("sgd") => Method::Sgd,
            Some("sam") => Method::Sam,
            Some("asam") => Method::Asam,
            Some("sam-on") => Method::SamOn,
            other => panic!("method {other:?}"),
        },
        optimizer: match case["optimizer"].as_str() {
            Some("sgd") => Optimizer::Sgd,
            Some("adam") => Optimizer::Adam,
            other => panic!("optimizer {other:?}"),
        },
        rho: single(&case["rho"]),
        eta: single(&case["eta"]),
        sharpness_batch: case["m"].as_u64().expect("m") as u16,
        store_perturbation,
        momentum: single(&case["momentum"]),
        weight_decay: single(&case["weight_decay"]),
        ascent_every: case["ascent_every"].as_u64().expect("ascent_every") as u16,
        learning_rate: single(&case["lr"]),
        schedule: match case["schedule"].as_str() {
            Some("constant") => Schedule::Constant,
            Some("cosine") => Schedule::Cosine,
            other => panic!("schedule {other:?}"),
        },
        warm_up: single(&case["warm_up"]),
        bias,
        label_smoothing: 0.0,
        ..Recipe::DEFAULT
    }
}

/// Largest distances to the golden numbers over all ten steps.
struct Worst {
    /// Of a weight or bias tensor, relative to its norm.
    tensor: f64,
    /// Of a minibatch's loss, relative to 1 + loss.
    loss: f64,
}

fn worst_distances(case: &Value, store_perturbation: bool) -> Worst {
    let name = &case["name"];
    let recipe = recipe(case, store_perturbation);
    let widths = indices(&case["widths"]);
    let shapes: Vec<DenseShape> = widths
        .windows(2)
        .enumerate()
        .map(|(layer, pair)| DenseShape {
            inputs: pair[0],
            outputs: pair[1],
            activation: if layer + 2 == widths.len() { Activation::None } else { Activation::Relu },
        })
        .collect();
    let tail = DenseChain::new(&shapes).expect("a tail");
    let samples: Vec<Vec<f64>> = case["samples"].as_array().expect("samples").iter().map(floats).collect();
    let labels = indices(&case["labels"]);
    let mut w: Vec<f32> = floats(&case["initial"]).iter().map(|&x| x as f32).collect();
    let mut v = vec![0.0; recipe.velocity_floats(w.len())];
    let mut g = vec![0.0; w.len()];
    let mut workspace = vec![0.0; DenseChain::workspace_length(tail.features(), tail.outputs())];
    let steps = case["batches"].as_array().expect("batches");
    assert_eq!(steps.len(), 10, "{name}");
    let mut worst = Worst { tensor: 0.0, loss: 0.0 };
    // `f64::max` would drop a NaN.
    let raise = |worst: &mut f64, found: f64| {
        if found > *worst || found.is_nan() {
            *worst = found;
        }
    };
    for (index, batch) in steps.iter().enumerate() {
        let batch = indices(batch);
        let rate = recipe.rate(index as u32, steps.len() as u32);
        let buffers =
            Buffers { weights: &mut w, velocity: &mut v, gradient: &mut g, workspace: &mut workspace };
        let outcome = step::minibatch(
            &tail,
            &recipe.at(index as u32, recipe.rho),
            rate,
            buffers,
            batch.len(),
            |i, features| {
                for (feature, &x) in features.iter_mut().zip(&samples[batch[i]]) {
                    *feature = x as f32;
                }
                labels[batch[i]]
            },
        )
        .unwrap_or_else(|e| panic!("{name}, step {index}: {e}"));
        let loss = case["loss"][index].as_f64().expect("a loss");
        raise(&mut worst.loss, (f64::from(outcome.loss) - loss).abs() / (1.0 + loss));
        let golden = floats(&case["params"][index]);
        let mut start = 0;
        for segment in tail.segments() {
            let range = start..start + segment.length;
            let difference: f64 = w[range.clone()]
                .iter()
                .zip(&golden[range.clone()])
                .map(|(a, b)| (f64::from(*a) - b).powi(2))
                .sum();
            let norm: f64 = golden[range.clone()].iter().map(|b| b * b).sum();
            raise(&mut worst.tensor, (difference / norm).sqrt());
            start = range.end;
        }
    }
    worst
}

/// PyTorch's own single precision stays within 3.1e-7 of these numbers; 1e-6 leaves room for another order of
/// summation. The rank-one path is held to the same bound: it computes the same gradient at the same `w + e` with
/// the same operations or fewer (e is not rounded into the weights, the norm has one term a row), so that whatever
/// bounds the stored path's rounding bounds its own: `reference/rounding.rs` is that argument in numbers, and
/// `gradients.rs` holds both paths to it, step for step.
const BOUND: f64 = 1e-6;

/// f32 resolves a loss of about 1 to 1.2e-7; a minibatch's mean is a sum of up to ten, each off by some roundings
/// of its logits.
const LOSS_BOUND: f64 = 1e-6;

#[test]
fn ten_steps_agree_with_pytorch() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/optimizer_steps.json");
    let text = std::fs::read_to_string(path).expect(path);
    let golden: Value = serde_json::from_str(&text).expect("JSON");
    let cases = golden["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 35);
    let mut failures = Vec::new();
    let mut rank_one = 0;
    for case in cases {
        // m = 1 goes both ways: with stored perturbations and by the rank-one identity.
        let ways: &[bool] = if case["m"] == 1 { &[true, false] } else { &[true] };
        for &stored in ways {
            let Worst { tensor, loss } = worst_distances(case, stored);
            rank_one += usize::from(!stored);
            // Written so that NaN fails.
            if !(tensor <= BOUND && loss <= LOSS_BOUND) {
                let name = &case["name"];
                failures.push(format!("{name} (stored: {stored}): tensor {tensor:e}, loss {loss:e}"));
            }
        }
    }
    assert!(failures.is_empty(), "beyond {BOUND:e}, losses {LOSS_BOUND:e}:\n{}", failures.join("\n"));
    assert_eq!(rank_one, 11);
}
