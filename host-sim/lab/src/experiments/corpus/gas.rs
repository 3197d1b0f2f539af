//! Sixteen gas sensors, eight features each, over 36 months in ten batches (Vergara et al. 2012), of which the
//! folder has eight.

use super::{Corpus, Standard, factory};
use crate::experiments::start::Pretraining;
use anyhow::{Context, Result, ensure};
use flatmin_sim::subject::Labelled;
use std::path::Path;

const FEATURES: usize = 128;
const GASES: [&str; 6] = ["Ethanol", "Ethylene", "Ammonia", "Acetaldehyde", "Acetone", "Toluene"];
/// Months 1 to 10, of which the factory network is.
const FACTORY: [usize; 2] = [1, 2];
/// Subjects 1 to 6.
const LATER: [usize; 6] = [3, 4, 5, 6, 8, 9];

/// A later batch: the first half of each gas adapts, in the order in which it was measured, the rest tests.
pub fn later_batch(folder: &Path, subject: usize, pretraining: Option<Pretraining>) -> Result<Corpus> {
    let mut known = Vec::new();
    for batch in FACTORY {
        known.extend(read(folder, batch)?);
    }
    let reference: Vec<Vec<f64>> = known.iter().map(|(features, _)| features.clone()).collect();
    let standard = Standard::of(&reference)?;
    let int8 = |samples: &[(Vec<f64>, usize)]| -> Vec<Labelled> {
        samples.iter().map(|(features, gas)| (standard.int8(features), *gas)).collect()
    };
    let network = factory(Standard::AFFINE, &[FEATURES, 32, GASES.len()], &int8(&known), 20, pretraining)?;
    let batch = LATER.get(subject - 1).context("there is no such batch")?;
    let samples = int8(&read(folder, *batch)?);
    let mut totals = [0; GASES.len()];
    samples.iter().for_each(|(_, gas)| totals[*gas] += 1);
    let (mut pool, mut test, mut seen) = (Vec::new(), Vec::new(), [0; GASES.len()]);
    for sample in samples {
        let gas = sample.1;
        let half = if seen[gas] < totals[gas] / 2 { &mut pool } else { &mut test };
        half.push(sample);
        seen[gas] += 1;
    }
    Ok(Corpus { network, known: int8(&known), pool, test, classes: GASES.len() })
}

/// Gas, concentration, features. Readings that carry the response of a whole decade are taken by their logarithm,
/// sign kept.
fn read(folder: &Path, batch: usize) -> Result<Vec<(Vec<f64>, usize)>> {
    let path = folder.join(format!("gas_drift/batch{batch}.dat"));
    let mut table = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_path(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut samples = Vec::new();
    for (line, row) in table.records().enumerate() {
        let context = || format!("{}, line {}", path.display(), line + 1);
        let row = row.with_context(context)?;
        let gas = GASES.iter().position(|gas| Some(*gas) == row.get(0)).with_context(context)?;
        let features = row
            .iter()
            .skip(2)
            .map(|field| Ok(field.trim().parse::<f64>().map(|x| x.signum() * x.abs().ln_1p())?))
            .collect::<Result<Vec<f64>>>()
            .with_context(context)?;
        ensure!(
            features.len() == FEATURES,
            "{}: {} features, {FEATURES} are expected",
            context(),
            features.len()
        );
        samples.push((features, gas));
    }
    Ok(samples)
}
