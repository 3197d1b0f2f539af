//! `features`: what an independent script needs to repeat experiments: features, labels and weights of draws, and what
//! the crate made of them.

use super::contenders::{Contender, Protocol, SGD, SMOOTHED, asam, sam};
use super::ledger::Ledger;
use super::result::{Findings, Progress};
use super::start::Start;
use super::trial::{Draw, Trial};
use anyhow::{Context, Result};
use flatmin::internals::tail::DenseChain;
use flatmin_model::output::write_file;
use flatmin_sim::samples::{write_npy_f32, write_npy_i8};
use serde_json::json;
use std::fs;
use std::path::Path;

const METHODS: [Contender; 5] =
    [SGD, SMOOTHED, sam("SAM, m = 1", 1), asam("ASAM, m = 1", 1), sam("SAM, m = 16", 16)];
/// Draws a wearer.
const DRAWS: usize = 4;

struct Case {
    name: &'static str,
    base: Draw,
    learning_rate: f32,
    epochs: u16,
}

/// One of each of three experiments; nothing is tuned, so that nothing else can differ.
fn cases() -> [Case; 3] {
    let case = |name, base, learning_rate, epochs| Case { name, base, learning_rate, epochs };
    [
        case("learning-rate, 40 % flipped", Draw { noise: 40, ..Draw::WEARERS }, 0.01, 30),
        case("last-layer, 20 % flipped", Draw { noise: 20, layers: 1, ..Draw::WEARERS }, 0.02, 30),
        case("scratch, two new layers", Draw { start: Start::Random, ..Draw::WEARERS }, 0.025, 20),
    ]
}

/// Runs the cases and writes `features/` in `folder`.
///
/// # Errors
/// Those of the runs, and files that cannot be written.
pub fn run(ledger: &mut Ledger, protocol: &Protocol, folder: &Path) -> Result<Progress> {
    let into = folder.join("features");
    fs::create_dir_all(&into).with_context(|| format!("cannot make the folder {}", into.display()))?;
    let mut described = Vec::new();
    for (index, Case { name, base, learning_rate, epochs }) in cases().into_iter().enumerate() {
        let seeds: Vec<u64> = protocol.evaluation.iter().copied().take(DRAWS).collect();
        let draws = Protocol { base, ..protocol.clone() }.draws(&seeds, base.noise);
        let settings = METHODS.map(|contender| contender.middle(learning_rate, epochs));
        let trials = draws.iter().flat_map(|&draw| settings.map(|setting| Trial { draw, setting }));
        let missing = ledger.complete("features", &trials.collect::<Vec<_>>())?;
        if missing > 0 {
            return Ok(Progress::Missing(missing));
        }
        let mut all = Arrays::default();
        for &draw in &draws {
            all.add(ledger, draw)?;
        }
        all.write(&into, index + 1)?;
        let mut methods = Vec::new();
        for (contender, setting) in METHODS.iter().zip(settings) {
            let accuracy = |&draw: &Draw| Ok(100.0 * ledger.outcome(draw, setting)?.accuracy_f32);
            let accuracies = draws.iter().map(accuracy).collect::<Result<Vec<f64>>>()?;
            methods.push(json!({ "name": contender.name, "setting": setting, "accuracy_f32": accuracies }));
        }
        described.push(json!({
            "name": name, "file": index + 1, "layers": all.layers, "samples": all.samples, "tests": all.tests,
            "subjects": draws.iter().map(|draw| draw.subject).collect::<Vec<_>>(), "methods": methods,
        }));
    }
    let text = serde_json::to_string_pretty(
        &json!({ "momentum": 0.9, "minibatch": 16, "eta": 0.01, "cases": described }),
    )?;
    let path = into.join("cases.json");
    write_file(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    let section = format!(
        "`{}`: now `python3 host-sim/evidence/repeat_in_torch.py {}`\n",
        into.display(),
        folder.display()
    );
    Ok(Progress::Done(Findings { name: "features", rows: Vec::new(), section, figures: Vec::new() }))
}

/// All draws of a case, one behind the other.
#[derive(Default)]
struct Arrays {
    layers: Vec<[usize; 2]>,
    samples: usize,
    tests: Vec<usize>,
    x: Vec<f32>,
    y: Vec<i8>,
    test_x: Vec<f32>,
    test_y: Vec<i8>,
    weights: Vec<f32>,
}

impl Arrays {
    fn add(&mut self, ledger: &Ledger, draw: Draw) -> Result<()> {
        ledger.bench().with_stand(draw, false, |stand| {
            stand.tuner.factory_reset();
            draw.start.begin(&mut stand.tuner, &draw)?;
            self.weights.extend(stand.tuner.weights());
            self.layers =
                DenseChain::of(stand.tuner.pack())?.layers().map(|l| [l.inputs, l.outputs]).collect();
            let samples = stand.features()?;
            self.samples = samples.len();
            for (features, label) in samples {
                self.x.extend(features);
                self.y.push(i8::try_from(label)?);
            }
            self.tests.push(stand.test.len());
            for (latent, label) in stand.test {
                self.test_x.extend(stand.to_f32(latent));
                self.test_y.push(i8::try_from(*label)?);
            }
            Ok(())
        })
    }

    fn write(&self, into: &Path, index: usize) -> Result<()> {
        let path = |name: &str| into.join(format!("{name}-{index}.npy"));
        let draws = self.tests.len();
        let features = self.layers.first().map_or(0, |layer| layer[0]);
        write_npy_f32(&path("x"), &self.x, &[draws, self.samples, features])?;
        write_npy_i8(&path("y"), &self.y, &[draws, self.samples])?;
        write_npy_f32(&path("test-x"), &self.test_x, &[self.test_y.len(), features])?;
        write_npy_i8(&path("test-y"), &self.test_y, &[self.test_y.len()])?;
        write_npy_f32(&path("weights"), &self.weights, &[draws, self.weights.len() / draws.max(1)])?;
        Ok(())
    }
}
