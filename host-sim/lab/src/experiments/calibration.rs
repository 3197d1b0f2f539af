//! `calibration`: SGD, SAM and ASAM as they ship, nothing tuned: accuracy, and how well probabilities fit, on five tasks,
//! from the factory's tail and from the head in closed form.

use super::closed_form::Ground;
use super::corpus;
use super::result::{Findings, Progress, difference, markdown};
use super::statistics::Estimate;
use super::task::Task;
use super::trial::Draw;
use anyhow::Result;
use flatmin::{Method, Optimizer, Recipe, Tuner, Version};
use flatmin_sim::subject::{Labelled, Subject};
use flatmin_sim::tuning::{Start, accuracy_on, method_name, observe_all, sized, tuner_arena};
use rayon::prelude::*;
use std::path::Path;

const METHODS: [Method; 3] = [Method::Sgd, Method::Sam, Method::Asam];
const NOISES: [u32; 3] = [0, 20, 40];
/// Bins of the expected calibration error.
const BINS: usize = 10;

/// What is trained: a task, how many layers of its networks (`None`: as usual), and from where.
const PLACES: [(Task, Option<usize>, Start); 13] = [
    (Task::Wearers, Some(1), Start::Factory),
    (Task::Wearers, None, Start::Factory),
    (Task::Wearers, Some(4), Start::Factory),
    (Task::Wearers, Some(7), Start::Factory),
    (Task::Wearers, Some(4), Start::ClosedForm),
    (Task::Wearers, Some(7), Start::ClosedForm),
    (Task::Digits, None, Start::Factory),
    (Task::Digits, None, Start::ClosedForm),
    (Task::GasDrift, None, Start::Factory),
    (Task::GasDrift, None, Start::ClosedForm),
    (Task::Gestures, None, Start::Factory),
    (Task::Speakers, None, Start::Factory),
    (Task::Speakers, None, Start::ClosedForm),
];

/// Figures of a run on the test samples.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// Accuracy of the int8 tail, in percent.
    accuracy: f64,
    /// Mean negative log-likelihood of the f32 tail, in nats.
    nll: f64,
    /// Expected calibration error of the f32 tail, in points.
    ece: f64,
    /// Area under the risk-coverage curve of the f32 tail, in percent.
    aurc: f64,
}

/// The mean distance of confidence and accuracy over equally wide bins of the confidence, weighted by how many samples
/// each has (Guo et al. 2017), in points.
fn calibration_error(answers: &[(f64, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for &(confidence, right) in answers {
        let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += confidence;
        bin.1 += f64::from(u8::from(right));
    }
    let off: f64 = bins.iter().map(|(confidence, right)| (confidence - right).abs()).sum();
    100.0 * off / answers.len().max(1) as f64
}

/// The error rate among the answers of most confidence, averaged over how many of them are counted (Geifman and El-Yaniv 2017), in
/// percent: what remains wrong where a device says nothing when it is unsure. Among equal confidences, errors come first.
fn risk_coverage(answers: &[(f64, bool)]) -> f64 {
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let (mut wrong, mut area) = (0.0, 0.0);
    for (index, (_, right)) in sorted.iter().enumerate() {
        wrong += f64::from(u8::from(!right));
        area += wrong / (index + 1) as f64;
    }
    100.0 * area / sorted.len().max(1) as f64
}

fn measure(subject: &Subject, layers: usize, start: Start, method: Method, seed: u64) -> Result<Measured> {
    let file = subject.model.pack(layers)?;
    let recipe = sized(subject, Recipe { seed, ..start.recipe(method, Optimizer::Sgd) })?;
    let mut words = tuner_arena(&file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    let test: Vec<Labelled> = (subject.test.iter())
        .map(|(input, label)| Ok((tuner.latent(input)?.to_vec(), *label)))
        .collect::<Result<_>>()?;
    observe_all(&mut tuner, subject, &|| ())?;
    if start == Start::ClosedForm {
        let bytes = file.pack().sizes().solve_bytes(&recipe);
        tuner.solve(recipe, &mut vec![0; bytes / 4], &mut || {})?;
    }
    tuner.start(recipe)?;
    while !tuner.step()?.finished {}
    tuner.requantize()?;
    let accuracy = 100.0 * accuracy_on(&mut tuner, &test, Version::Tuned)?;
    let (mut nll, mut answers) = (0.0, Vec::new());
    for (latent, label) in &test {
        let score = tuner.score_latent(latent, *label)?;
        nll += f64::from(score.loss) / test.len() as f64;
        let confidence = (-f64::from(tuner.score_latent(latent, score.class)?.loss)).exp();
        answers.push((confidence, score.class == *label));
    }
    Ok(Measured { accuracy, nll, ece: calibration_error(&answers), aurc: risk_coverage(&answers) })
}

/// Runs it.
///
/// # Errors
/// Data that cannot be read; those of the runs.
pub fn run(seed: u64, quick: bool, folder: &Path) -> Result<Progress> {
    let places = if quick { &PLACES[..1] } else { &PLACES[..] };
    let mut section = format!(
        "## As they ship: accuracy and calibration\n\nNothing is tuned: `Recipe::DEFAULT` from the factory's tail, `Recipe::FROM_CLOSED_FORM` \
         from the head in closed form, rho 0.3 nats. Accuracy in int8, percent; negative log-likelihood (nats) and expected calibration \
         error ({BINS} bins, points) of the f32 tail on the test samples; area under its risk-coverage curve (AURC, percent): the error rate \
         among the surest answers, averaged over how many are counted. Differences to SGD on the same draws (seeds from \
         {}), with the 95 % bootstrap interval over subjects.\n\n",
        1_000 * seed + 1
    );
    let mut rows = Vec::new();
    for &(task, layers, start) in places {
        if let Some(path) = task.missing(folder) {
            section += &corpus::skipped(task.title(), &path);
            continue;
        }
        let subjects = if quick { 3 } else { task.subjects() };
        let draws = if quick { 1 } else { (50 / subjects as u64).clamp(2, 5) };
        let grounds: Vec<Ground> = (1..=subjects)
            .into_par_iter()
            .map(|own| Ground::open(task, own, folder))
            .collect::<Result<_>>()?;
        let usual = corpus::usual(task);
        let layers = layers.unwrap_or(usual.layers);
        for noise in NOISES {
            // [subject][draw][method]
            let runs: Vec<Vec<Vec<Measured>>> = (grounds.par_iter())
                .map(|ground| {
                    (1..=draws)
                        .map(|own| {
                            let draw = Draw { noise, seed: 1_000 * seed + own, ..usual };
                            let subject = ground.draw(&draw, true)?;
                            let one = |&method| measure(&subject, layers, start, method, draw.seed);
                            METHODS.iter().map(one).collect()
                        })
                        .collect::<Result<_>>()
                })
                .collect::<Result<_>>()?;
            let each = |of: &dyn Fn(&[Measured]) -> f64| -> Estimate {
                let values: Vec<Vec<f64>> =
                    runs.iter().map(|draws| draws.iter().map(|methods| of(methods)).collect()).collect();
                Estimate::of(&values, 3 * PLACES.len())
            };
            let mean = |of: &dyn Fn(&[Measured]) -> f64| each(of).wearers.mean;
            let from = if start == Start::ClosedForm { "closed form" } else { "factory" };
            let mut row = vec![
                task.title().to_owned(),
                format!("{layers} from the {from}"),
                format!("{noise} %"),
                format!("{:.1}", mean(&|own| own[0].accuracy)),
            ];
            for method in [1, 2] {
                row.push(difference(&each(&|own| own[method].accuracy - own[0].accuracy)));
            }
            row.push([0, 1, 2].map(|m| format!("{:.3}", mean(&|own| own[m].nll))).join(" / "));
            row.push(difference(&each(&|own| own[1].nll - own[0].nll)));
            row.push([0, 1, 2].map(|m| format!("{:.1}", mean(&|own| own[m].ece))).join(" / "));
            row.push([0, 1, 2].map(|m| format!("{:.2}", mean(&|own| own[m].aurc))).join(" / "));
            row.push(difference(&each(&|own| own[1].aurc - own[0].aurc)));
            rows.push(row);
        }
    }
    let names = METHODS.map(method_name).join(" / ");
    let header = [
        "task",
        "layers",
        "flipped",
        "SGD",
        "SAM",
        "ASAM",
        &format!("NLL: {names}"),
        "SAM's NLL",
        &format!("ECE: {names}"),
        &format!("AURC: {names}"),
        "SAM's AURC",
    ]
    .map(str::to_owned);
    section += &markdown(&header, &rows);
    Ok(Progress::Done(Findings { name: "calibration", rows: Vec::new(), section, figures: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten answers at 0.95, nine of them right: 5 points off. Half of them at 0.5 and right in half: nothing off.
    #[test]
    fn the_calibration_error_is_the_distance_of_confidence_and_accuracy() {
        let sure: Vec<(f64, bool)> = (0..10).map(|i| (0.95, i > 0)).collect();
        assert!((calibration_error(&sure) - 5.0).abs() < 1e-9);
        let both: Vec<(f64, bool)> = sure.iter().copied().chain((0..10).map(|i| (0.5, i % 2 == 0))).collect();
        assert!((calibration_error(&both) - 2.5).abs() < 1e-9);
        assert_eq!(calibration_error(&[(1.0, true)]), 0.0);
    }

    /// Sure and right, then wrong, then right: error rates 0, 1/2 and 1/3 among the first one, two and three.
    #[test]
    fn the_risk_is_that_of_the_surest_answers() {
        let own = [(0.5, true), (0.9, true), (0.7, false)];
        assert!((risk_coverage(&own) - 100.0 * (0.5 + 1.0 / 3.0) / 3.0).abs() < 1e-9);
        // Confidence that is the same for all tells nothing: the error comes first.
        assert!((risk_coverage(&[(0.5, true), (0.5, false)]) - 75.0).abs() < 1e-9);
    }
}
