//! `minima`: how flat the solutions are, and what flatness buys: the loss along random directions and at its worst
//! nearby, accuracy with noise on the weights and with few bits a weight.

use super::bench::Stand;
use super::comparison::{Comparison, Entry, complete};
use super::contenders::{CONTENDERS, Protocol};
use super::figure::{Chart, Series};
use super::landscape::{Landscape, flipped, moved, rounded};
use super::ledger::Ledger;
use super::plane;
use super::result::{Figure, Findings, Progress, Row, difference, markdown};
use super::statistics::{Estimate, Interval};
use super::trial::{Draw, Setting, Trial};
use anyhow::Result;
use flatmin::internals::tail::DenseChain;
use rayon::prelude::*;

const NOISE: u32 = 20;
/// Where along a direction: in units of the filter's own norm.
const PLACES: [f32; 9] = [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0];
const DIRECTIONS: usize = 8;
/// Draws a wearer.
const DRAWS: usize = 2;
/// Radius of the worst case, in the parameters' own units.
const RADIUS: f32 = 0.3;
const WEIGHT_NOISES: [f32; 3] = [0.2, 0.4, 0.8];
const BITS: [u32; 4] = [8, 6, 4, 3];
/// Of the bits of 8-bit weights.
const FLIPS: [f64; 2] = [0.001, 0.01];
/// The tables' names of curvatures.
pub const EIGENVALUE: &str = "largest eigenvalue of the Hessian";
/// Sum of all eigenvalues.
pub const TRACE: &str = "trace of the Hessian";
/// Methods of `noisy-labels` that are looked at, with [`super::contenders::SGD`] first.
const METHODS: [usize; 4] = [0, 1, 2, 4];

/// What is measured, in the order of [`names`].
fn measure(stand: &mut Stand, trial: &Trial) -> Result<Vec<f64>> {
    stand.tune(trial)?;
    let weights = stand.tuner.weights().to_vec();
    let tail = DenseChain::of(stand.tuner.pack())?;
    let windows = stand.features()?;
    let test = stand.test.iter().map(|(latent, label)| (stand.to_f32(latent), *label)).collect();
    let mut landscape = Landscape::new(&tail, windows, test);
    let at = landscape.loss(&weights, None)?;
    let mut values = Vec::new();
    for place in PLACES {
        let mut sum = 0.0;
        for direction in 0..DIRECTIONS {
            sum += landscape.loss(&moved(&tail, &weights, place, direction as u64), None)? - at;
        }
        values.push(sum / DIRECTIONS as f64);
    }
    values.push(at);
    values.push(landscape.worst_case(&weights, RADIUS)?);
    values.push(landscape.largest_eigenvalue(&weights)?);
    values.push(landscape.trace(&weights)?);
    values.push(landscape.accuracy(&weights)?);
    for size in WEIGHT_NOISES {
        let mut sum = 0.0;
        for direction in 0..DIRECTIONS {
            sum += landscape.accuracy(&moved(&tail, &weights, size, 1_000 + direction as u64))?;
        }
        values.push(sum / DIRECTIONS as f64);
    }
    for bits in BITS {
        values.push(landscape.accuracy(&rounded(&tail, &weights, bits))?);
    }
    for share in FLIPS {
        let mut sum = 0.0;
        for seed in 0..DIRECTIONS {
            sum += landscape.accuracy(&flipped(&tail, &weights, share, 2_000 + seed as u64))?;
        }
        values.push(sum / DIRECTIONS as f64);
    }
    Ok(values)
}

fn names() -> Vec<String> {
    let mut names: Vec<String> =
        PLACES.iter().map(|place| format!("rise of the loss at {place} of a random direction")).collect();
    names.push("adaptation loss, as labelled".into());
    names.push(format!("rise of the loss, worst case within {RADIUS}"));
    names.push(EIGENVALUE.into());
    names.push(TRACE.into());
    names.push("accuracy, f32 weights".into());
    names.extend(WEIGHT_NOISES.iter().map(|n| format!("accuracy, weights moved by {} %", n * 100.0)));
    names.extend(BITS.iter().map(|bits| format!("accuracy, {bits} bits a weight")));
    names.extend(FLIPS.iter().map(|share| format!("accuracy, {} % of all bits flipped", share * 100.0)));
    names
}

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let contenders = METHODS.map(|index| CONTENDERS[index]);
    let entries: Vec<Entry> = contenders.iter().map(|c| Entry::tuned(c, protocol.quick)).collect();
    let choice = Comparison { table: "minima", entries, noises: vec![NOISE], baseline: 0 };
    let missing = complete(std::slice::from_ref(&choice), protocol, ledger)?;
    if missing > 0 || ledger.is_shard() {
        // What follows takes seconds: it is for the run that merges.
        return Ok(Progress::Missing(missing.max(1)));
    }
    let seeds: Vec<u64> = protocol.evaluation.iter().copied().take(DRAWS).collect();
    let mut jobs: Vec<(usize, Draw, Setting)> = Vec::new();
    for (method, contender) in contenders.iter().enumerate() {
        for &subject in &protocol.subjects {
            let settings = contender.settings(protocol.quick);
            let setting = protocol.choose(ledger, &settings, &[NOISE], Some(subject))?;
            let draw = |&seed: &u64| Draw { subject, seed, noise: NOISE, ..protocol.base };
            jobs.extend(seeds.iter().map(|seed| (method, draw(seed), setting)));
        }
    }
    let bench = ledger.bench();
    let measured: Vec<Vec<f64>> = (jobs.par_iter())
        .map(|&(_, draw, setting)| {
            let buffer = setting.sharpness_batch > 1;
            bench.with_stand(draw, buffer, |stand| measure(stand, &Trial { draw, setting }))
        })
        .collect::<Result<_>>()?;
    // [method][wearer][draw] of one measure.
    let of = |method: usize, measure: usize| -> Vec<Vec<f64>> {
        let own: Vec<f64> =
            jobs.iter().zip(&measured).filter(|(job, _)| job.0 == method).map(|(_, m)| m[measure]).collect();
        own.chunks(seeds.len()).map(<[f64]>::to_vec).collect()
    };
    let names = names();
    let comparisons = names.len() * (contenders.len() - 1);
    let mut rows = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let base = of(0, index);
        for (method, contender) in contenders.iter().enumerate() {
            let own = of(method, index);
            let pairs = own.iter().zip(&base);
            let differences: Vec<Vec<f64>> =
                pairs.map(|(own, base)| own.iter().zip(base).map(|(a, b)| a - b).collect()).collect();
            let settings = contender.settings(protocol.quick);
            rows.push(Row {
                table: name.clone(),
                method: contender.name.to_owned(),
                noise: NOISE,
                variable: String::new(),
                value: Estimate::of(&own, 1),
                difference: (method > 0).then(|| Estimate::of(&differences, comparisons)),
                baseline: if method > 0 { contenders[0].name.to_owned() } else { String::new() },
                setting: protocol.choose(ledger, &settings, &[NOISE], None)?.to_string(),
                macs: None,
                sharpness: None,
                accuracy_f32: None,
            });
        }
    }
    let mut findings = Findings { name: "minima", rows, section: String::new(), figures: Vec::new() };
    let series = contenders.iter().map(|contender| Series {
        name: contender.name.to_owned(),
        points: (PLACES.iter().zip(&names))
            .filter_map(|(&place, name)| {
                let mean = findings.row(name, contender.name, NOISE)?.value.wearers.mean;
                Some((f64::from(place), Interval::exact(mean)))
            })
            .collect(),
    });
    let chart = Chart {
        title: "Loss along random directions around the solutions".into(),
        x: "distance, in norms of each output's weights".into(),
        y: "rise of the adaptation loss".into(),
        logarithmic: false,
        series: series.collect(),
    };
    findings.figures.push(Figure { name: "minima".into(), svg: chart.svg()? });
    let subject = protocol.subjects[0];
    let chosen = |index: usize| {
        let settings = CONTENDERS[METHODS[index]].settings(protocol.quick);
        protocol.choose(ledger, &settings, &[NOISE], Some(subject))
    };
    let draw = Draw { subject, seed: seeds[0], noise: NOISE, ..protocol.base };
    let solutions = [(contenders[0].name, chosen(0)?), (contenders[2].name, chosen(2)?)];
    findings.figures.push(Figure { name: "plane".into(), svg: plane::figure(bench, draw, solutions)? });
    let mut header = vec!["measure".to_owned()];
    header.extend(contenders.iter().map(|contender| contender.name.to_owned()));
    let cells = names[PLACES.len()..].iter().map(|name| {
        let own = contenders.iter().map(|contender| {
            findings.row(name, contender.name, NOISE).map_or(String::new(), |row| {
                let value = format!("{:.3}", row.value.wearers.mean);
                row.difference.as_ref().map_or(value.clone(), |d| format!("{value}: {}", difference(d)))
            })
        });
        std::iter::once(name.clone()).chain(own).collect::<Vec<_>>()
    });
    let cells: Vec<_> = cells.collect();
    findings.section = format!(
        "## Flat minima, and what they buy\n\n{NOISE} % of the labels flipped; each method as tuned for that, {} draws a \
        wearer. The tail's loss is taken on the adaptation windows as they are labelled. Directions are random with every \
        output's weights as long as the solution's own; 'moved by' is the length of such a direction. Few bits: weights \
        rounded to nearest, symmetric, one scale an output; activations stay f32. Differences are to SGD.\n\n\
        ![Loss along random directions](evidence/minima.svg)\n\n\
        The plane through the factory's weights, SGD's and SAM's of one draw; lengths are the parameters' own:\n\n\
        ![Loss in the plane of three solutions](evidence/plane.svg)\n\n\
        The largest eigenvalue is Lanczos's on Hessian-vector products by differences of gradients, the trace Hutchinson's; flipped bits are of weights \
        rounded to 8 bits.\n\n{}",
        seeds.len(),
        markdown(&header, &cells)
    );
    Ok(Progress::Done(findings))
}
