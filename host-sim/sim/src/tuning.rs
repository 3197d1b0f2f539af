//! A tuning run on the desktop: the same calls that firmware makes, and what they led to.

mod precision;
mod training;

pub(crate) use training::begin;
pub use training::{Start, Tail, Training};

use crate::curvature;
use crate::objective;
use crate::report::coverage;
use crate::report::{Changes, CurvePoint, TuningRun, Verdict};
use crate::subject::{Labelled, Subject};
use crate::watch::Watch;
use anyhow::{Context, Result, bail};
use flatmin::store::Contents;
use flatmin::{Arithmetic, CompactTuner, IntegerTuner, Loss, Method, Recipe, RhoUnit, Tuner, Version};
use flatmin_app::SOLVING;
use flatmin_model::packer::{PackFile, TailPlan};
use std::time::Instant;

/// The radius at which sharpness is measured, the same for every method.
pub const SHARPNESS_RHO: f32 = 0.05;

/// Accuracy that the int8 tail may lose to the f32 one without a warning.
const MOST_LOST: f64 = 0.02;

/// What a recipe's radius is measured in, as tables and JSON have it; `None` of SGD.
pub fn rho_unit(recipe: &Recipe) -> Option<&'static str> {
    (recipe.method != Method::Sgd).then_some(match recipe.rho_unit {
        RhoUnit::Nats => "nats",
        RhoUnit::Weights => "weights",
    })
}

/// Keeps the subject's samples, and adds the classes that its model lacks.
///
/// # Errors
/// What the tuner refuses.
pub fn observe_all<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    subject: &Subject,
    watch: &impl Watch,
) -> Result<()> {
    for (input, label) in &subject.adaptation {
        watch.pause()?;
        match subject.origin.targets.get(*label) {
            Some(target) => {
                tuner.observe_target(input, target)?;
            }
            None => objective::observe(tuner, input, *label)?,
        }
    }
    for _ in 0..subject.added_classes()? {
        tuner.add_class()?;
    }
    Ok(())
}

/// The closed form's name in tables and JSON.
pub const CLOSED_FORM: &str = "closed-form";

/// The method's name in tables and JSON.
pub fn method_name(method: Method) -> &'static str {
    match method {
        Method::Sgd => "sgd",
        Method::Sam => "sam",
        Method::Asam => "asam",
        Method::SamOn => "sam-on",
    }
}

/// The arena of a run with f32 weights.
pub fn tuner_arena(file: &PackFile, recipe: &Recipe) -> Vec<u128> {
    Tail::Full.arena(file, recipe)
}

/// Calls a block with a tuner that can hold a tail of this pack, whichever it is: in integers where a share of input channels is
/// trained, as f32 tails have none, else in f32.
#[macro_export]
macro_rules! with_holder {
    ($file:expr, |$tuner:ident| $body:expr) => {
        if $file.pack().is_for_integers() {
            let recipe = flatmin::Recipe { replay_capacity: 1, ..flatmin::Recipe::INTEGER };
            let mut words = $crate::tuning::Tail::Integer.arena($file, &recipe);
            let arena = bytemuck::cast_slice_mut(&mut words);
            let $tuner = &mut flatmin::IntegerTuner::in_arena($file.pack(), recipe, arena)?;
            $body
        } else {
            let recipe = flatmin::Recipe { replay_capacity: 1, ..flatmin::Recipe::DEFAULT };
            let mut words = $crate::tuning::Tail::Full.arena($file, &recipe);
            let $tuner =
                &mut flatmin::Tuner::new($file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
            $body
        }
    };
}
pub(crate) use with_holder;

/// The recipe with a replay for all of the subject's samples.
///
/// # Errors
/// More samples than a replay can hold.
pub fn sized(subject: &Subject, recipe: Recipe) -> Result<Recipe> {
    let capacity = u16::try_from(subject.adaptation.len()).context("more than 65,535 samples to tune on")?;
    Ok(Recipe { replay_capacity: capacity.max(1), ..recipe })
}

/// The recipe with a replay of so many samples; without a number for all of the subject's.
///
/// # Errors
/// A replay that does not hold the subject's samples.
pub fn with_replay(subject: &Subject, recipe: Recipe, capacity: Option<u16>) -> Result<Recipe> {
    let needed = sized(subject, recipe)?;
    match capacity {
        None => Ok(needed),
        Some(capacity) if capacity >= needed.replay_capacity => {
            Ok(Recipe { replay_capacity: capacity, ..recipe })
        }
        Some(capacity) => bail!(
            "{}: {needed} samples to tune on, the recipe's replay_capacity is {capacity}: give --replay-capacity {needed}, or \
             fewer samples",
            subject.name,
            needed = needed.replay_capacity
        ),
    }
}

/// Tunes the last `layers` layers.
///
/// # Errors
/// What the runtime refuses, with the subject's name.
pub fn tune(
    subject: &Subject,
    tail: impl Into<TailPlan>,
    recipe: Recipe,
    watch: impl Watch,
) -> Result<TuningRun> {
    tune_as(Tail::Full, subject, tail, recipe, watch)
}

/// The same with the tuner asked for.
///
/// # Errors
/// What the runtime refuses, with the subject's name.
pub fn tune_as(
    kind: Tail,
    subject: &Subject,
    tail: impl Into<TailPlan>,
    recipe: Recipe,
    watch: impl Watch,
) -> Result<TuningRun> {
    train(subject, tail, &Training::steps(kind, recipe), watch)
}

/// What a run leaves.
#[derive(Debug, Clone)]
pub struct Trained {
    /// Its figures.
    pub run: TuningRun,
    /// What the int8 tail in force answers to each test sample, as [`Labelled`] has labels; nothing where samples are their
    /// own targets or have numbers to give.
    pub answers: Vec<usize>,
    /// The tuned tail, the payload of [`Contents::Int8`]; `None` where the factory's stays in force.
    pub tail: Option<Vec<u8>>,
}

/// Trains the tail as asked for.
///
/// # Errors
/// What the runtime refuses, with the subject's name; a head in closed form of a compact tuner.
pub fn train(
    subject: &Subject,
    tail: impl Into<TailPlan>,
    training: &Training,
    watch: impl Watch,
) -> Result<TuningRun> {
    Ok(train_and_keep(subject, tail, training, watch)?.run)
}

/// The same, with the tail that came of it and its answers.
///
/// # Errors
/// As [`train`].
pub fn train_and_keep(
    subject: &Subject,
    tail: impl Into<TailPlan>,
    training: &Training,
    watch: impl Watch,
) -> Result<Trained> {
    let (kind, context) = (training.tuner, || subject.name.clone());
    let recipe = training.sized(subject)?;
    let training = Training { recipe, ..*training };
    let file = subject.model.pack(tail)?;
    let sizes = file.pack().sizes();
    let mut words = kind.arena(&file, &recipe);
    let arena = bytemuck::cast_slice_mut(&mut words);
    let mut memory = kind.memory(&sizes, &recipe);
    let mut bytes = kind.arena_bytes(&sizes, &recipe);
    let beside = match (kind, training.start) {
        (Tail::Full, Start::ClosedForm) => sizes.solve_bytes(&recipe),
        (Tail::Integer, Start::ClosedForm) => sizes.integer_solve_bytes(),
        _ => 0,
    };
    if beside > 0 {
        memory.push((SOLVING.into(), beside));
    }
    bytes += beside;
    let mut trained = match (kind, training.start) {
        (Tail::Full, start) => {
            let mut tuner = Tuner::new(file.pack(), recipe, arena).with_context(context)?;
            let mut trained =
                run(&mut tuner, subject, &training, |tuner| begin(start, tuner, recipe), &watch)?;
            if training.curvature {
                trained.run.lambda_max = curvature::largest_eigenvalue(&mut tuner, &subject.adaptation)?;
            }
            Ok(trained)
        }
        (Tail::Compact, Start::Factory) => {
            let mut tuner = CompactTuner::in_arena(file.pack(), recipe, arena).with_context(context)?;
            run(&mut tuner, subject, &training, |_| Ok(()), &watch)
        }
        (Tail::Integer, start) => {
            let mut tuner = IntegerTuner::in_arena(file.pack(), recipe, arena).with_context(context)?;
            run(&mut tuner, subject, &training, |tuner| begin(start, tuner, recipe), &watch)
        }
        (Tail::Compact, Start::ClosedForm) => {
            bail!("an integer tail of fully connected layers alone has no head in closed form")
        }
    }?;
    (trained.run.memory, trained.run.train_ram_bytes) = (memory, bytes);
    Ok(trained)
}

/// Steps through a run; returns the seconds that the steps took.
pub(crate) fn descend<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    training: &Training,
    latents: &[Labelled],
    curve: &mut Vec<CurvePoint>,
    watch: &impl Watch,
) -> Result<f64> {
    let mut seconds = 0.0;
    tuner.start(training.recipe)?;
    loop {
        watch.pause()?;
        let begin = Instant::now();
        let report = tuner.step()?;
        seconds += begin.elapsed().as_secs_f64();
        if report.epoch_finished {
            if training.curve {
                curve.push(point(u32::from(report.epoch) + 1, tuner, latents, watch)?);
            }
            watch.epoch(curve.last().filter(|_| training.curve))?;
        }
        if report.finished {
            return Ok(seconds);
        }
    }
}

fn run<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    subject: &Subject,
    training: &Training,
    begin: impl FnOnce(&mut Tuner<'p, A>) -> Result<()>,
    watch: &impl Watch,
) -> Result<Trained> {
    let recipe = training.recipe;
    let context = || subject.name.clone();
    let latents: Vec<(Vec<i8>, usize)> = (subject.test.iter())
        .map(|(input, label)| {
            watch.pause()?;
            Ok((tuner.latent(input)?.to_vec(), *label))
        })
        .collect::<Result<_>>()?;
    let copies = objective::copies(tuner.pack());
    let errors_factory = copies.then(|| objective::errors(tuner, subject, Version::Factory)).transpose()?;
    let latents = if copies { Vec::new() } else { latents };
    let classes = subject.classes.len();
    let (before, sureness_factory) = answers(tuner, &latents, Version::Factory, watch)?;
    let confusion_factory = confusion(&latents, &before, classes);
    observe_all(tuner, subject, watch).with_context(context)?;
    let mut curve = vec![point(0, tuner, &latents, watch)?];
    let start = Instant::now();
    begin(tuner).with_context(context)?;
    let mut train_seconds = start.elapsed().as_secs_f64();
    if training.steps {
        train_seconds += descend(tuner, training, &latents, &mut curve, watch).with_context(context)?;
    } else {
        curve.push(point(1, tuner, &latents, watch)?);
    }
    let verdict = if recipe.held_out > 0.0 {
        Some(verdict(tuner)?)
    } else {
        tuner.requantize()?;
        if subject.origin.imbalanced {
            let tuned = confusion(&latents, &answers(tuner, &latents, Version::Tuned, watch)?.0, classes);
            Some(Verdict::on_test(&confusion_factory, &tuned))
        } else {
            None
        }
    };
    let in_force = if verdict.is_none_or(|v| v.accepted) { Version::Tuned } else { Version::Factory };
    let (answers, sureness_tuned) = answers(tuner, &latents, in_force, watch)?;
    let confusion_tuned = confusion(&latents, &answers, classes);
    let moved = latents.iter().zip(&before).zip(&answers);
    let changes = Changes::of(moved.map(|(((_, label), &before), &after)| (*label, before, after)));
    let (accuracy_f32, loss) = test_f32(tuner, &latents, watch)?;
    let lost = accuracy_f32 - accuracy(&confusion_tuned);
    let warnings = if lost > MOST_LOST && in_force == Version::Tuned {
        vec![precision::what_loses(tuner, subject, [accuracy_f32, accuracy_f32 - lost], watch)?]
    } else {
        Vec::new()
    };
    let loss = if copies { objective::loss_f32(tuner, subject)? } else { loss };
    let anomalies = match &errors_factory {
        Some(before) => Some(objective::anomalies(before, &objective::errors(tuner, subject, in_force)?)),
        None => None,
    };
    let tail = (in_force == Version::Tuned).then(|| int8_payload(tuner)).transpose()?;
    let run = TuningRun {
        subject: subject.name.clone(),
        method: training.name().to_owned(),
        rho: if recipe.method == Method::Sgd { 0.0 } else { recipe.rho },
        rho_unit: rho_unit(&recipe),
        factory_accuracy: accuracy(&confusion_factory),
        accuracy_f32,
        accuracy_int8: accuracy(&confusion_tuned),
        loss,
        sharpness: f64::from(tuner.evaluate(SHARPNESS_RHO)?.sharpness),
        lambda_max: None,
        memory: Vec::new(),
        train_ram_bytes: 0,
        ram: Vec::new(),
        ram_announced_bytes: None,
        tail_parameters: tuner.pack().sizes().tail_parameters,
        macs: tuner.macs(),
        train_seconds,
        weights_crc32: tuner.weights_crc32(),
        instructions: None,
        instructions_trunk: None,
        instructions_step: None,
        curve,
        confusion_factory,
        confusion_tuned,
        sureness_factory,
        sureness_tuned,
        changes,
        verdict,
        anomalies,
        warnings,
    };
    Ok(Trained { run, answers, tail })
}

/// The int8 tail in force, as [`Contents::Int8`] has it.
fn int8_payload<'p, A: Arithmetic<'p>>(tuner: &Tuner<'p, A>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; tuner.pack().sizes().payload_bytes(Contents::Int8)];
    tuner.read_tail(0, &mut bytes)?;
    Ok(bytes)
}

/// Takes the tuned tail if the held-out samples say so.
fn verdict<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>) -> Result<Verdict> {
    let best_epochs = tuner.best().map(|best| best.epochs);
    Ok(Verdict::new(&tuner.accept()?, best_epochs))
}

/// The weights after so many epochs. A step's loss has the label smoothing in it, which the curve has not.
fn point<'p, A: Arithmetic<'p>>(
    epoch: u32,
    tuner: &mut Tuner<'p, A>,
    latents: &[Labelled],
    watch: &impl Watch,
) -> Result<CurvePoint> {
    let (test_accuracy, _) = test_f32(tuner, latents, watch)?;
    let test_accuracy = Some(test_accuracy).filter(|accuracy| accuracy.is_finite());
    let adaptation_loss = f64::from(tuner.evaluate(0.0)?.loss);
    Ok(CurvePoint { epoch, adaptation_loss, test_accuracy })
}

/// Accuracy and mean loss of the f32 tail.
fn test_f32<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    latents: &[Labelled],
    watch: &impl Watch,
) -> Result<(f64, f64)> {
    let (mut right, mut loss) = (0, 0.0);
    for (latent, label) in latents {
        watch.pause()?;
        let score = tuner.score_latent(latent, *label)?;
        right += usize::from(score.class == *label);
        loss += f64::from(score.loss);
    }
    let samples = latents.len() as f64;
    Ok((right as f64 / samples, loss / samples))
}

/// What an int8 tail answers to each.
fn answers<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    latents: &[Labelled],
    version: Version,
    watch: &impl Watch,
) -> Result<(Vec<usize>, coverage::Answers)> {
    let one_of_several = tuner.pack().loss() == Loss::CrossEntropy;
    let (mut answers, mut sureness) = (Vec::new(), Vec::new());
    for (latent, label) in latents {
        watch.pause()?;
        let output = tuner.infer_latent(latent, version)?.to_vec();
        let answer = tuner.answer(&output, version);
        answers.push(answer);
        if one_of_several {
            let sure = coverage::sureness(&output, tuner.output_affine(version).scale);
            sureness.push((sure, answer == *label));
        }
    }
    Ok((answers, sureness))
}

fn confusion(latents: &[Labelled], answers: &[usize], classes: usize) -> Vec<Vec<u32>> {
    let mut counts = vec![vec![0; classes]; classes];
    latents.iter().zip(answers).for_each(|((_, label), &answer)| counts[*label][answer] += 1);
    counts
}

/// Share of right answers in a confusion matrix; NaN of nothing.
pub fn accuracy(confusion: &[Vec<u32>]) -> f64 {
    let total: u32 = confusion.iter().flatten().sum();
    let right: u32 = confusion.iter().enumerate().map(|(class, row)| row[class]).sum();
    f64::from(right) / f64::from(total)
}

/// Share of the int8 network's right answers on labelled latents.
///
/// # Errors
/// What the tuner refuses.
pub fn accuracy_on(tuner: &mut Tuner, latents: &[Labelled], version: Version) -> Result<f64> {
    let mut right = 0;
    for (latent, label) in latents {
        let output = tuner.infer_latent(latent, version)?.to_vec();
        right += usize::from(tuner.answer(&output, version) == *label);
    }
    Ok(right as f64 / latents.len().max(1) as f64)
}
