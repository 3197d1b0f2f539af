//! `late`: SAM in the last fifth of the steps alone against SAM throughout (Zhou et al. 2024, arXiv 2410.10373).
//!
//! A run is two of the product's: four fifths of the epochs at a constant rate, then a fifth whose rate falls to zero, with a
//! velocity of zero at its start. All methods have both, so that they differ in the ascent alone.

use super::bench::{Bench, Stand};
use super::contenders::Protocol;
use super::corpus;
use super::result::{Findings, Progress, difference, markdown};
use super::start::Start;
use super::statistics::Estimate;
use super::task::Task;
use super::trial::Draw;
use anyhow::Result;
use flatmin::{Method, Recipe, Schedule, Version};
use flatmin_sim::tuning::accuracy_on;
use rayon::prelude::*;
use std::path::Path;

const NOISES: [u32; 2] = [0, 40];
/// Epochs of the two parts.
const EPOCHS: [u16; 2] = [24, 6];

/// Ascents of the two parts.
const WAYS: [(&str, [Method; 2]); 5] = [
    ("SGD", [Method::Sgd, Method::Sgd]),
    ("SAM throughout", [Method::Sam, Method::Sam]),
    ("SAM late", [Method::Sgd, Method::Sam]),
    ("ASAM throughout", [Method::Asam, Method::Asam]),
    ("ASAM late", [Method::Sgd, Method::Asam]),
];

/// Where it is measured: name, draws, learning rate, label smoothing.
fn places(seed: u64, quick: bool, folder: &Path) -> Vec<(&'static str, Protocol, f32, f32)> {
    let default = Recipe::DEFAULT;
    let factory = Protocol::of(Draw::WEARERS, seed, quick);
    let random = Protocol::of(Draw { start: Start::Random, ..Draw::WEARERS }, seed, quick);
    let mut places = vec![
        (
            "wearers, two layers from the factory",
            factory.clone(),
            default.learning_rate,
            default.label_smoothing,
        ),
        ("the same, ten times the rate, no smoothing", factory, 0.02, 0.0),
        ("wearers, two new layers", random, 0.05, 0.0),
    ];
    if Task::Mnist1d.missing(folder).is_none() {
        let mut own = Protocol::of(corpus::usual(Task::Mnist1d), seed, quick);
        own.subjects.truncate(6);
        places.push(("MNIST-1D, the whole convolutional network", own, 0.1, 0.0));
    }
    for (_, own, ..) in &mut places {
        let draws = if own.subjects.len() > 6 { 3 } else { 5 };
        own.evaluation.truncate(draws);
    }
    places
}

fn accuracy(stand: &mut Stand, draw: &Draw, methods: [Method; 2], rate: f32, smoothing: f32) -> Result<f64> {
    stand.tuner.factory_reset();
    draw.start.begin(&mut stand.tuner, draw)?;
    for (part, (method, epochs)) in methods.into_iter().zip(EPOCHS).enumerate() {
        let schedule = if part == 0 { Schedule::Constant } else { Schedule::Cosine };
        let seed = draw.seed ^ (part as u64) << 40;
        let recipe = Recipe { method, epochs, schedule, seed, learning_rate: rate, ..Recipe::DEFAULT };
        let replay_capacity = u16::try_from(stand.samples.len())?;
        stand.tuner.start(Recipe { label_smoothing: smoothing, replay_capacity, ..recipe })?;
        while !stand.tuner.step()?.finished {}
    }
    stand.tuner.requantize()?;
    Ok(100.0 * accuracy_on(&mut stand.tuner, stand.test, Version::Tuned)?)
}

/// Runs it.
///
/// # Errors
/// A run fails.
pub fn run(bench: &Bench, seed: u64, quick: bool, folder: &Path) -> Result<Progress> {
    let places = places(seed, quick, folder);
    let places = if quick { &places[..1] } else { &places[..] };
    let mut section = format!(
        "## Late ascents\n\nNothing is tuned: rho 0.3 nats, {} epochs at a constant rate, then {} whose rate falls to zero. 'Late' ascends in those alone. \
        30 draws of each place (three of each wearer, five of each of six parts of MNIST-1D's samples; seeds from {}). Accuracy in int8, percent, and \
        difference to SGD.\n\n",
        EPOCHS[0],
        EPOCHS[1],
        1_000 * seed + 1
    );
    if let Some(path) = Task::Mnist1d.missing(folder) {
        section += &corpus::skipped("MNIST-1D", &path);
    }
    let mut rows = Vec::new();
    for (name, protocol, rate, smoothing) in places {
        for noise in NOISES {
            let draws = protocol.draws(&protocol.evaluation, noise);
            let values: Vec<Vec<f64>> = (draws.par_iter())
                .map(|draw| {
                    bench.with_stand(*draw, false, |stand| {
                        WAYS.iter().map(|(_, way)| accuracy(stand, draw, *way, *rate, *smoothing)).collect()
                    })
                })
                .collect::<Result<_>>()?;
            let each: Vec<&[Vec<f64>]> = values.chunks(protocol.evaluation.len()).collect();
            let estimate = |of: &dyn Fn(&[f64]) -> f64| {
                let values: Vec<Vec<f64>> =
                    each.iter().map(|draws| draws.iter().map(|own| of(own)).collect()).collect();
                Estimate::of(&values, places.len() * NOISES.len() * (WAYS.len() - 1))
            };
            let mut row = vec![(*name).to_owned(), format!("{rate}"), format!("{noise} %")];
            row.push(format!("{:.1}", estimate(&|own| own[0]).wearers.mean));
            row.extend((1..WAYS.len()).map(|way| difference(&estimate(&|own| own[way] - own[0]))));
            row.push(difference(&estimate(&|own| own[2] - own[1])));
            rows.push(row);
        }
    }
    let ways = WAYS.iter().map(|(name, _)| *name);
    let header = ["place", "rate", "flipped"].into_iter().chain(ways).chain(["SAM: late less throughout"]);
    section += &markdown(&header.map(str::to_owned).collect::<Vec<_>>(), &rows);
    Ok(Progress::Done(Findings { name: "late", rows: Vec::new(), section, figures: Vec::new() }))
}
