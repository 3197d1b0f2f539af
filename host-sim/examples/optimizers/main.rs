//! A screen of optimizers on the bundled task, which decided what the crate has and what not.
//!
//!     cargo run --release -p host-sim --example optimizers -- screen LAYERS [NAME ...]
//!     cargo run --release -p host-sim --example optimizers -- golden FILE.json

mod variant;

use anyhow::{Context, Result};
use flatmin::tail::{PackedTail, Tail, TailShape, dense::DenseShape};
use flatmin::{Activation, Recipe, Tuner};
use host_sim::tuning::Subject;
use host_sim::wearers::SplitMix64;
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Mutex;
use variant::{Ascent, Base, Net, Sample, State, Variant};

const LRS: [f64; 6] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02];
const SAM_RHOS: [f64; 4] = [0.02, 0.05, 0.1, 0.2];

#[derive(Clone, Copy, PartialEq, Debug)]
struct Setting {
    variant: Variant,
    lr: f64,
    epochs: usize,
    warm: f64,
}

struct Method {
    name: &'static str,
    /// Forward and backward passes a step.
    passes: f64,
    settings: Vec<Setting>,
}

fn plain() -> Variant {
    Variant {
        ascent: Ascent::None,
        base: Base::Sgd,
        m: 16,
        rho: 0.0,
        eta: 0.01,
        momentum: 0.9,
        decay: 1e-3,
        train_biases: true,
        unit_biases: true,
    }
}

fn method(name: &'static str, passes: f64, lrs: [f64; 6], warm: f64, variants: [Variant; 4]) -> Method {
    let mut settings = Vec::new();
    for (i, lr) in lrs.into_iter().enumerate() {
        for (j, &variant) in variants.iter().enumerate() {
            settings.push(Setting { variant, lr, epochs: [10, 30][(i + j) % 2], warm });
        }
    }
    Method { name, passes, settings }
}

fn methods() -> Vec<Method> {
    let decays = [1e-3, 1e-2, 3e-2, 1e-1];
    let decayed = |base| decays.map(|decay| Variant { base, decay, ..plain() });
    let with = |ascent, m, rhos: [f64; 4]| rhos.map(|rho| Variant { ascent, m, rho, ..plain() });
    let asam = [0.2, 0.5, 1.0, 2.0];
    let adam = LRS.map(|lr| lr / 5.0);
    let adam_sam =
        SAM_RHOS.map(|rho| Variant { ascent: Ascent::Sam, m: 1, rho, base: Base::Adam, ..plain() });
    let gsam = |m, follow| {
        let pair = |rho, alpha| Variant { ascent: Ascent::Gsam { alpha, follow }, m, rho, ..plain() };
        [pair(0.05, 0.1), pair(0.05, 0.4), pair(0.1, 0.1), pair(0.1, 0.4)]
    };
    let all = [
        method("SGD", 1.0, LRS, 0.0, decayed(Base::Sgd)),
        method("SAM, m = 1", 2.0, LRS, 0.0, with(Ascent::Sam, 1, SAM_RHOS)),
        method("ASAM, m = 1", 2.0, LRS, 0.0, with(Ascent::Asam, 1, asam)),
        method("SAM, m = 16", 2.0, LRS, 0.0, with(Ascent::Sam, 16, SAM_RHOS)),
        method("SGD, warm-up", 1.0, LRS, 0.1, decayed(Base::Sgd)),
        method("Nesterov", 1.0, LRS, 0.0, decayed(Base::Nesterov)),
        method("AdamW", 1.0, adam, 0.0, decayed(Base::Adam)),
        method("AdamW, 8 bits", 1.0, adam, 0.0, decayed(Base::Adam8)),
        method("AdamW, 8 bits, warm-up", 1.0, adam, 0.1, decayed(Base::Adam8)),
        method("AdamW, SAM m = 1", 2.0, adam, 0.0, adam_sam),
        method("SAM every 2nd, m = 1", 1.5, LRS, 0.0, with(Ascent::Every(2), 1, SAM_RHOS)),
        method("SAM every 5th, m = 1", 1.2, LRS, 0.0, with(Ascent::Every(5), 1, SAM_RHOS)),
        method(
            "LookSAM k = 2, m = 1",
            2.0,
            LRS,
            0.0,
            with(Ascent::Look { every: 2, alpha: 0.7 }, 1, SAM_RHOS),
        ),
        method(
            "LookSAM k = 5, m = 1",
            1.4,
            LRS,
            0.0,
            with(Ascent::Look { every: 5, alpha: 0.7 }, 1, SAM_RHOS),
        ),
        method(
            "LookSAM k = 5, m = 16",
            1.2,
            LRS,
            0.0,
            with(Ascent::Look { every: 5, alpha: 0.7 }, 16, SAM_RHOS),
        ),
        method(
            "ESAM 0.5 0.5, m = 16",
            1.75,
            LRS,
            0.0,
            with(Ascent::Esam { beta: 0.5, gamma: 0.5 }, 16, SAM_RHOS),
        ),
        method(
            "ESAM 0.5 0.5, m = 1",
            1.75,
            LRS,
            0.0,
            with(Ascent::Esam { beta: 0.5, gamma: 0.5 }, 1, SAM_RHOS),
        ),
        method(
            "Friendly, m = 16",
            2.0,
            LRS,
            0.0,
            with(Ascent::Friendly { sigma: 1.0, lambda: 0.9 }, 16, SAM_RHOS),
        ),
        method(
            "Friendly, m = 1",
            3.0,
            LRS,
            0.0,
            with(Ascent::Friendly { sigma: 1.0, lambda: 0.9 }, 1, SAM_RHOS),
        ),
        method("GSAM, m = 1", 2.0, LRS, 0.0, gsam(1, false)),
        method("GSAM, rho by lr, m = 1", 2.0, LRS, 0.0, gsam(1, true)),
        method("GSAM, m = 16", 2.0, LRS, 0.0, gsam(16, false)),
        method("SAM-ON, m = 1", 2.0, LRS, 0.0, with(Ascent::On, 1, [0.02, 0.05, 0.1, 0.2])),
        method("SAM-ON, large, m = 1", 2.0, LRS, 0.0, with(Ascent::On, 1, [0.3, 0.5, 1.0, 2.0])),
        method("SAM-ON, m = 16", 2.0, LRS, 0.0, with(Ascent::On, 16, [0.1, 0.2, 0.5, 1.0])),
    ];
    all.into()
}

struct Draw {
    train: Vec<(Vec<f32>, usize)>,
}

struct Wearer {
    file: host_sim::packer::PackFile,
    initial: Vec<f32>,
    test: Vec<(Vec<f32>, usize)>,
    /// By seed.
    draws: HashMap<u64, Draw>,
}

fn features(file: &host_sim::packer::PackFile, latent: &[i8]) -> Vec<f32> {
    let pack = file.pack();
    let (mut rest, mut all) = (latent, Vec::new());
    for tensor in pack.features() {
        let unit = if pack.tail_is_chain() { pack.feature_unit() } else { tensor.affine.scale };
        let (own, behind) = rest.split_at(tensor.len());
        all.extend(own.iter().map(|&q| unit * (i32::from(q) - tensor.affine.zero_point) as f32));
        rest = behind;
    }
    all
}

fn wearer(number: usize, layers: usize, seeds: &[u64]) -> Result<Wearer> {
    let subject = Subject::wearer(number, 9, 0.0, 1)?;
    let file = subject.model.pack(layers)?;
    let recipe = Recipe { replay_capacity: 1, ..Recipe::DEFAULT };
    let mut words = vec![0u128; file.pack().sizes().train_bytes(&recipe).div_ceil(16)];
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    let initial = tuner.weights().to_vec();
    let test = subject
        .test
        .iter()
        .map(|(i, l)| Ok((features(&file, tuner.latent(i)?), *l)))
        .collect::<Result<_>>()?;
    let mut draws = HashMap::new();
    for &seed in seeds {
        let own = Subject::wearer(number, 9, 0.0, seed)?;
        let train = own
            .adaptation
            .iter()
            .map(|(i, l)| Ok((features(&file, tuner.latent(i)?), *l)))
            .collect::<Result<_>>()?;
        draws.insert(seed, Draw { train });
    }
    drop(tuner);
    Ok(Wearer { file, initial, test, draws })
}

/// Accuracy on the test windows, f32.
fn trial(wearer: &Wearer, seed: u64, noise: u32, setting: &Setting) -> f64 {
    let tail = PackedTail::of(&wearer.file.pack()).expect("a tail");
    let train = &wearer.draws[&seed].train;
    let mut labels: Vec<usize> = train.iter().map(|(_, l)| *l).collect();
    host_sim::wearers::flip_labels(&mut labels, 7, f64::from(noise) / 100.0, seed);
    let mut net = Net::new(&tail, true);
    let mut state = State::default();
    let mut w = wearer.initial.clone();
    let mut random = SplitMix64::new(seed);
    let mut order: Vec<usize> = (0..train.len()).collect();
    let steps = setting.epochs * train.len().div_ceil(16);
    let mut step = 0;
    for _ in 0..setting.epochs {
        random.shuffle(&mut order);
        for batch in order.chunks(16) {
            let batch: Vec<Sample> = batch.iter().map(|&i| (&train[i].0[..], labels[i])).collect();
            let done = step as f64 / steps as f64;
            let rate = if done < setting.warm {
                (step + 1) as f64 / (setting.warm * steps as f64)
            } else {
                let done = (done - setting.warm) / (1.0 - setting.warm);
                0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            };
            net.step(&setting.variant, &mut state, &mut w, &batch, setting.lr, rate.min(1.0));
            step += 1;
        }
    }
    let mut right = 0;
    for (x, label) in &wearer.test {
        net.loss(&w, (x, *label));
        right += usize::from(net.answer() == *label);
    }
    right as f64 / wearer.test.len() as f64
}

/// Mean over wearers, standard error over wearers, standard error over all draws.
fn estimate(values: &[Vec<f64>]) -> (f64, f64, f64) {
    let means: Vec<f64> = values.iter().map(|v| v.iter().sum::<f64>() / v.len() as f64).collect();
    let error = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (x.len() - 1).max(1) as f64 / x.len() as f64)
            .sqrt()
    };
    let within = (values.iter().map(|v| error(v).powi(2)).sum::<f64>()).sqrt() / values.len() as f64;
    (means.iter().sum::<f64>() / means.len() as f64, error(&means), within)
}

fn screen(layers: usize, names: &[String]) -> Result<()> {
    let base: u64 = std::env::var("BASE").map_or(1000, |d| d.parse().expect("a number"));
    let noises: Vec<u32> = std::env::var("NOISES")
        .map_or(vec![0, 20, 40], |d| d.split(',').map(|n| n.parse().expect("a number")).collect());
    let selection: Vec<u64> = (base + 501..=base + 503).collect();
    let draws: u64 = std::env::var("DRAWS").map_or(20, |d| d.parse().expect("a number"));
    let evaluation: Vec<u64> = (base + 1..=base + draws).collect();
    let seeds: Vec<u64> = selection.iter().chain(&evaluation).copied().collect();
    let wearers: Vec<Wearer> =
        (1..=10usize).into_par_iter().map(|n| wearer(n, layers, &seeds)).collect::<Result<_>>()?;
    eprintln!("{} parameters", wearers[0].initial.len());
    let cache: Mutex<HashMap<String, f64>> = Mutex::default();
    let path = format!("/tmp/screen-{layers}-{base}.jsonl");
    if let Ok(text) = std::fs::read_to_string(&path) {
        for line in text.lines() {
            if let Ok((key, value)) = serde_json::from_str::<(String, f64)>(line) {
                cache.lock().expect("lock").insert(key, value);
            }
        }
    }
    let mut baselines: HashMap<(usize, u32), Vec<Vec<f64>>> = HashMap::new();
    for (index, method) in methods().iter().enumerate() {
        if index > 1 && !names.is_empty() && !names.iter().any(|n| method.name.contains(n.as_str())) {
            continue;
        }
        for &noise in &noises {
            let accuracy = |n: usize, seed: u64, s: &Setting| {
                let key = format!("{n} {seed} {noise} {s:?}");
                if let Some(&found) = cache.lock().expect("lock").get(&key) {
                    return found;
                }
                let found = trial(&wearers[n], seed, noise, s);
                cache.lock().expect("lock").insert(key, found);
                found
            };
            let jobs: Vec<(usize, usize)> =
                (0..method.settings.len()).flat_map(|s| (0..10).map(move |n| (s, n))).collect();
            let found: Vec<f64> = jobs
                .par_iter()
                .map(|&(s, n)| selection.iter().map(|&seed| accuracy(n, seed, &method.settings[s])).sum())
                .collect();
            let chosen: Vec<usize> = (0..10)
                .map(|without| {
                    let mean =
                        |s: usize| (0..10).filter(|&n| n != without).map(|n| found[s * 10 + n]).sum::<f64>();
                    (0..method.settings.len()).rev().max_by(|&a, &b| mean(a).total_cmp(&mean(b))).unwrap_or(0)
                })
                .collect();
            let values: Vec<Vec<f64>> = (0..10usize)
                .into_par_iter()
                .map(|n| {
                    evaluation
                        .iter()
                        .map(|&seed| 100.0 * accuracy(n, seed, &method.settings[chosen[n]]))
                        .collect()
                })
                .collect();
            let (mean, between, within) = estimate(&values);
            let mut text = format!(
                "{:24} {:.2} passes {noise:2} %: {mean:.2} +- {within:.2} (wearers {between:.2})",
                method.name, method.passes
            );
            for (which, name) in [(0, "SGD"), (1, "SAM")] {
                if let Some(base) = baselines.get(&(which, noise)) {
                    let differences: Vec<Vec<f64>> = values
                        .iter()
                        .zip(base)
                        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect())
                        .collect();
                    let (mean, between, within) = estimate(&differences);
                    text += &format!("  {name} {mean:+.2} +- {within:.2} ({between:.2})");
                }
            }
            let s = &method.settings[chosen[0]];
            println!(
                "{text}  | lr {} epochs {} rho {} decay {} {:?}",
                s.lr, s.epochs, s.variant.rho, s.variant.decay, s.variant.ascent
            );
            baselines.entry((index, noise)).or_insert(values);
        }
        let lines: Vec<String> = cache
            .lock()
            .expect("lock")
            .iter()
            .map(|(k, v)| serde_json::to_string(&(k, v)).expect("JSON"))
            .collect();
        std::fs::write(&path, lines.join("\n"))?;
    }
    Ok(())
}

/// What a device does where nobody tunes: a given learning rate, a middle strength, 30 epochs.
fn untuned(layers: usize, names: &[String]) -> Result<()> {
    let draws: u64 = std::env::var("DRAWS").map_or(20, |d| d.parse().expect("a number"));
    let seeds: Vec<u64> = (1001..=1000 + draws).collect();
    let wearers: Vec<Wearer> =
        (1..=10usize).into_par_iter().map(|n| wearer(n, layers, &seeds)).collect::<Result<_>>()?;
    let mut baselines: HashMap<(usize, usize, u32), Vec<Vec<f64>>> = HashMap::new();
    for (index, method) in methods().iter().enumerate() {
        if index > 1 && !names.is_empty() && !names.iter().any(|n| method.name.contains(n.as_str())) {
            continue;
        }
        let mut text = format!("{:24} {:.2} passes", method.name, method.passes);
        for (place, lr) in [(0, 0.005), (1, 0.02)] {
            for noise in [0u32, 20, 40] {
                let variant = method.settings[if index == 0 { 0 } else { 2 }].variant;
                let variant = Variant { decay: 1e-3, ..variant };
                let lr = if matches!(variant.base, Base::Adam | Base::Adam8) { lr / 5.0 } else { lr };
                let setting = Setting { variant, lr, epochs: 30, warm: method.settings[0].warm };
                let jobs: Vec<(usize, u64)> =
                    (0..10).flat_map(|n| seeds.iter().map(move |&seed| (n, seed))).collect();
                let found: Vec<f64> = jobs
                    .par_iter()
                    .map(|&(n, seed)| 100.0 * trial(&wearers[n], seed, noise, &setting))
                    .collect();
                let values: Vec<Vec<f64>> = found.chunks(seeds.len()).map(<[f64]>::to_vec).collect();
                let (mean, _, _) = estimate(&values);
                text += &format!(" | lr {lr} {noise:2} %: {mean:.2}");
                for which in [0, 1] {
                    if let Some(base) = baselines.get(&(which, place, noise)) {
                        let differences: Vec<Vec<f64>> = values
                            .iter()
                            .zip(base)
                            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect())
                            .collect();
                        let (mean, between, within) = estimate(&differences);
                        text += &format!(" {mean:+.2}+-{within:.2}({between:.2})");
                    }
                }
                baselines.entry((index, place, noise)).or_insert(values);
            }
        }
        println!("{text}");
    }
    Ok(())
}

fn golden(path: &str) -> Result<()> {
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    for case in file["cases"].as_array().context("cases")? {
        let number = |key: &str| case[key].as_f64().unwrap_or(0.0);
        let list = |v: &serde_json::Value| -> Vec<usize> {
            v.as_array().expect("list").iter().map(|x| x.as_u64().expect("index") as usize).collect()
        };
        let floats = |v: &serde_json::Value| -> Vec<f32> {
            v.as_array().expect("list").iter().map(|x| x.as_f64().expect("number") as f32).collect()
        };
        let widths = list(&case["widths"]);
        let shapes: Vec<DenseShape> = widths
            .windows(2)
            .enumerate()
            .map(|(i, p)| DenseShape {
                inputs: p[0],
                outputs: p[1],
                activation: if i + 2 == widths.len() { Activation::None } else { Activation::Relu },
            })
            .collect();
        let tail = TailShape::new(&shapes)?;
        let every = number("every") as u32;
        let ascent = match case["method"].as_str() {
            Some("sgd") => Ascent::None,
            Some("sam") if every > 1 => Ascent::Every(every),
            Some("sam") => Ascent::Sam,
            Some("asam") => Ascent::Asam,
            Some("looksam") => Ascent::Look { every, alpha: number("alpha") },
            Some("esam") => Ascent::Esam { beta: number("beta"), gamma: number("gamma") },
            Some("friendly") => Ascent::Friendly { sigma: number("sigma"), lambda: number("lambda") },
            Some("gsam") => Ascent::Gsam { alpha: number("alpha"), follow: false },
            Some("sam-on") => Ascent::On,
            other => anyhow::bail!("method {other:?}"),
        };
        let base = match case["base"].as_str() {
            Some("nesterov") => Base::Nesterov,
            Some("adam") => Base::Adam,
            _ => Base::Sgd,
        };
        let variant = Variant {
            ascent,
            base,
            m: number("m") as usize,
            rho: number("rho"),
            eta: number("eta"),
            momentum: number("momentum"),
            decay: number("weight_decay"),
            train_biases: case["train_biases"] != false,
            unit_biases: case["asam_biases"] != "elementwise",
        };
        let mut net = Net::new(&tail, variant.train_biases);
        let mut state = State::default();
        let samples: Vec<Vec<f32>> =
            case["samples"].as_array().context("samples")?.iter().map(floats).collect();
        let labels = list(&case["labels"]);
        let mut w = floats(&case["initial"]);
        let mut worst = 0.0f64;
        for (step, batch) in case["batches"].as_array().context("batches")?.iter().enumerate() {
            let batch: Vec<Sample> = list(batch).into_iter().map(|i| (&samples[i][..], labels[i])).collect();
            net.step(&variant, &mut state, &mut w, &batch, number("lr"), 1.0);
            let golden: Vec<f64> = case["params"][step]
                .as_array()
                .context("params")?
                .iter()
                .map(|x| x.as_f64().expect("number"))
                .collect();
            let mut start = 0;
            for segment in Tail::segments(&tail) {
                let range = start..start + segment.length;
                let apart: f64 = w[range.clone()]
                    .iter()
                    .zip(&golden[range.clone()])
                    .map(|(a, b)| (f64::from(*a) - b).powi(2))
                    .sum();
                let norm: f64 = golden[range.clone()].iter().map(|b| b * b).sum();
                worst = worst.max((apart / norm).sqrt());
                start = range.end;
            }
        }
        println!("{:44} {worst:.1e}", case["name"].as_str().unwrap_or(""));
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("golden") => golden(&arguments[1]),
        Some("untuned") => untuned(arguments[1].parse()?, &arguments[2..]),
        _ => screen(arguments[1].parse()?, &arguments[2..]),
    }
}
