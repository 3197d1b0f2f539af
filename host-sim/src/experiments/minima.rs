//! `minima`: how flat the solutions are, and what flatness buys: the loss along random directions and at its worst
//! nearby, accuracy with noise on the weights and with few bits a weight.

use super::bench::Stand;
use super::comparison::{Comparison, Entry, complete};
use super::contenders::{CONTENDERS, Protocol};
use super::figure::{Chart, Series};
use super::ledger::Ledger;
use super::result::{Figure, Findings, Row, difference, markdown};
use super::statistics::Estimate;
use super::trial::{Draw, Setting, Trial};
use super::{Progress, page};
use crate::wearers::SplitMix64;
use anyhow::{Context, Result};
use flatmin::BiasTreatment;
use flatmin::tail::{TailShape, Workspace};
use rayon::prelude::*;

const NOISE: u32 = 20;
/// Where along a direction: in units of the filter's own norm.
const PLACES: [f32; 9] = [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0];
const DIRECTIONS: usize = 8;
/// Radius of the worst case, in the parameters' own units.
const RADIUS: f32 = 0.3;
const WEIGHT_NOISES: [f32; 3] = [0.2, 0.4, 0.8];
const BITS: [u32; 4] = [8, 6, 4, 3];
/// Methods of `noisy-labels` that are looked at, with [`super::contenders::SGD`] first.
const METHODS: [usize; 4] = [0, 1, 2, 4];

/// A tail at some weights, on some features.
struct Landscape<'a> {
    tail: &'a TailShape,
    memory: Vec<f32>,
    windows: Vec<(Vec<f32>, usize)>,
    test: Vec<(Vec<f32>, usize)>,
}

impl Landscape<'_> {
    /// Loss on the adaptation windows as they are labelled; adds its gradient where there is room for one.
    fn loss(&mut self, weights: &[f32], mut gradient: Option<&mut [f32]>) -> Result<f64> {
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
    fn accuracy(&mut self, weights: &[f32]) -> Result<f64> {
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

    /// Rise of the loss at the end of ten ascents of a tenth of [`RADIUS`] each.
    fn worst_case(&mut self, weights: &[f32]) -> Result<f64> {
        let mut moved = weights.to_vec();
        for _ in 0..10 {
            let mut gradient = vec![0.0; weights.len()];
            self.loss(&moved, Some(&mut gradient))?;
            let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt().max(1e-12);
            for (w, g) in moved.iter_mut().zip(&gradient) {
                *w += RADIUS / 10.0 * (f64::from(*g) / norm) as f32;
            }
        }
        Ok(self.loss(&moved, None)? - self.loss(weights, None)?)
    }
}

/// `w + size * d`, d a random direction with every row as long as the weights' own (Li et al. 2018, section 4);
/// biases stay.
fn moved(tail: &TailShape, weights: &[f32], size: f32, seed: u64) -> Vec<f32> {
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
fn rounded(tail: &TailShape, weights: &[f32], bits: u32) -> Vec<f32> {
    let steps = ((1u32 << (bits - 1)) - 1) as f32;
    each_row(tail, weights, |row| {
        let scale = row.iter().fold(0.0f32, |m, w| m.max(w.abs())) / steps;
        if scale > 0.0 {
            row.iter_mut().for_each(|w| *w = (*w / scale).round() * scale);
        }
    })
}

fn each_row(tail: &TailShape, weights: &[f32], mut change: impl FnMut(&mut [f32])) -> Vec<f32> {
    let mut changed = weights.to_vec();
    let mut rest: &mut [f32] = &mut changed;
    for layer in tail.layers() {
        let (own, behind) = rest.split_at_mut(layer.parameters());
        own[..layer.weights()].chunks_exact_mut(layer.inputs).for_each(&mut change);
        rest = behind;
    }
    changed
}

/// What is measured, in the order of [`names`].
fn measure(stand: &mut Stand, trial: &Trial) -> Result<Vec<f64>> {
    stand.tune(trial)?;
    let weights = stand.tuner.weights().to_vec();
    let tail = TailShape::of(stand.tuner.pack())?;
    let windows = stand.features()?;
    let test = stand.test.iter().map(|(latent, label)| (stand.to_f32(latent), *label)).collect();
    let memory = vec![0.0; TailShape::workspace_length(tail.features(), tail.outputs())];
    let mut landscape = Landscape { tail: &tail, memory, windows, test };
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
    values.push(landscape.worst_case(&weights)?);
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
    Ok(values)
}

fn names() -> Vec<String> {
    let mut names: Vec<String> =
        PLACES.iter().map(|place| format!("rise of the loss at {place} of a random direction")).collect();
    names.push("adaptation loss, as labelled".into());
    names.push(format!("rise of the loss, worst case within {RADIUS}"));
    names.push("accuracy, f32 weights".into());
    names.extend(WEIGHT_NOISES.iter().map(|n| format!("accuracy, weights moved by {} %", n * 100.0)));
    names.extend(BITS.iter().map(|bits| format!("accuracy, {bits} bits a weight")));
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
    let seeds: Vec<u64> = protocol.evaluation.iter().copied().take(5).collect();
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
                Some((f64::from(place), page::exact(mean)))
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
        ![Loss along random directions](evidence/minima.svg)\n\n{}",
        seeds.len(),
        markdown(&header, &cells)
    );
    Ok(Progress::Done(findings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatmin::Activation;
    use flatmin::tail::dense::DenseShape;

    fn tail() -> TailShape {
        let layer = |inputs, outputs, activation| DenseShape { inputs, outputs, activation };
        TailShape::new(&[layer(3, 2, Activation::Relu), layer(2, 2, Activation::None)]).unwrap()
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
