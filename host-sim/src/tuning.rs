//! A tuning run on the desktop: the same calls that firmware makes, and what they led to.

use crate::inference;
use crate::model::Model;
use crate::objective;
use crate::packer::{PackFile, TailPlan};
use crate::report::{CurvePoint, TuningRun, Verdict};
use crate::samples::Samples;
use crate::wearers::{EXERCISES, Recordings, flip_labels, model_bytes};
use anyhow::{Context, Result, bail};
use flatmin::store::Contents;
use flatmin::tail::Loss;
use flatmin::{Affine, Arithmetic, CompactPlan, CompactTuner, MemoryPlan, Method, Recipe, Tuner, Version};

/// The radius at which sharpness is measured, the same for every method.
pub const SHARPNESS_RHO: f32 = 0.05;

/// An int8 input and its label.
pub type Labelled = (Vec<i8>, usize);

/// A network and the data that it is tuned and tested on.
#[derive(Debug)]
pub struct Subject {
    /// For tables: a wearer, or a file.
    pub name: String,
    /// The network.
    pub model: Model,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Labelled samples to tune on, labels flipped as asked.
    pub adaptation: Vec<Labelled>,
    /// Samples to test on, labels as they are.
    pub test: Vec<Labelled>,
}

impl Subject {
    /// A held-out wearer of the bundled task, 1 to 10.
    ///
    /// # Errors
    /// No such wearer, or fewer windows than asked for.
    pub fn wearer(wearer: usize, windows_per_class: usize, label_noise: f64, seed: u64) -> Result<Self> {
        let bytes =
            model_bytes(wearer).with_context(|| format!("there is no wearer {wearer}; 1 to 10 are"))?;
        let name = format!("wearer {wearer}");
        let model = Model::bundled(name.clone(), bytes)?;
        let recordings = Recordings::bundled()?;
        let affine = input_affine(&model)?;
        let quantized = |windows: Vec<crate::wearers::Window>| -> Vec<Labelled> {
            let int8 = |samples: &[f32]| samples.iter().map(|&x| affine.quantize(x)).collect();
            windows.iter().map(|w| (int8(w.samples.as_slice()), w.label)).collect()
        };
        let mut adaptation =
            quantized(recordings.adaptation(wearer, windows_per_class, seed).with_context(|| name.clone())?);
        add_noise(&mut adaptation, EXERCISES.len(), label_noise, seed);
        let test = quantized(recordings.test(wearer)?);
        let classes = EXERCISES.iter().map(|e| (*e).to_owned()).collect();
        Ok(Self { name, model, classes, adaptation, test })
    }

    /// The wearer's subject with the other wearers' windows as the factory's statistics.
    ///
    /// # Errors
    /// Recordings that cannot be read.
    pub fn calibrated(mut self, wearer: usize) -> Result<Self> {
        let (inputs, labels): (Vec<_>, Vec<_>) = self.calibration(wearer)?.into_iter().unzip();
        self.model = self.model.calibrated(&inputs, Some(&labels))?;
        Ok(self)
    }

    /// Labelled windows of all wearers but this one, on whom the factory's network was trained.
    ///
    /// # Errors
    /// Recordings that cannot be read.
    pub fn calibration(&self, wearer: usize) -> Result<Vec<Labelled>> {
        let affine = input_affine(&self.model)?;
        let windows = Recordings::bundled()?.calibration(wearer).into_iter();
        Ok(windows.map(|w| (w.samples.iter().map(|&x| affine.quantize(x)).collect(), w.label)).collect())
    }

    /// The subject with a class that its last layer knows nothing of: its row is left out, and one spare class is there
    /// for it, behind the others. The layers in front have learnt with it.
    ///
    /// # Errors
    /// No such class, or a model that does not end in a dense classifier.
    pub fn leaving_out(mut self, class: usize) -> Result<Self> {
        let network = self.model.network.clone().without_class(class).with_context(|| self.name.clone())?;
        self.model.network = network.with_spare_classes(1).with_context(|| self.name.clone())?;
        let name = self.classes.remove(class);
        self.classes.push(name);
        let last = self.classes.len() - 1;
        for (_, label) in self.adaptation.iter_mut().chain(&mut self.test) {
            *label = match *label {
                own if own == class => last,
                other => other - usize::from(other > class),
            };
        }
        Ok(self)
    }

    /// The user's model and data: of each class the first half of the samples adapts, the second half tests.
    ///
    /// # Errors
    /// A class without two samples leaves nothing to test on.
    pub fn user(model: Model, samples: &Samples, label_noise: f64, seed: u64) -> Result<Self> {
        let inputs = inputs_of(&model, samples)?;
        let count = objective::labels(model.network.loss(), model.output_shape().iter().product())?;
        let mut totals = vec![0usize; count];
        // Without labels all is alike.
        let label = |sample: usize| samples.labels.get(sample).copied().unwrap_or(0);
        (0..samples.count).for_each(|sample| totals[label(sample)] += 1);
        let (mut adaptation, mut test, mut seen) = (Vec::new(), Vec::new(), vec![0usize; count]);
        for (input, label) in inputs.into_iter().zip((0..samples.count).map(label)) {
            let half = if seen[label] < totals[label] / 2 { &mut adaptation } else { &mut test };
            half.push((input, label));
            seen[label] += 1;
        }
        if adaptation.is_empty() || test.is_empty() {
            bail!(
                "{}: two samples of a class at least are needed, one to tune on and one to test",
                model.name
            );
        }
        if model.network.loss() != Loss::SquaredError {
            let known = count - model.network.spare_classes;
            let labelled = totals.iter().rposition(|&total| total > 0).map_or(0, |last| last + 1);
            add_noise(&mut adaptation, labelled.max(known), label_noise, seed);
        }
        let classes = (0..count).map(|c| c.to_string()).collect();
        Ok(Self { name: model.name.clone(), model, classes, adaptation, test })
    }

    /// How many classes there are samples of that the model has spare outputs for: those to add before a run.
    ///
    /// # Errors
    /// A class without samples in front of one with some.
    pub fn added_classes(&self) -> Result<usize> {
        let known = self.classes.len() - self.model.network.spare_classes.min(self.classes.len());
        let has_samples = |class: &usize| self.adaptation.iter().any(|(_, label)| label == class);
        let added = (known..self.classes.len()).take_while(has_samples).count();
        let missing = known + added;
        if let Some(class) = (missing..self.classes.len()).find(has_samples) {
            bail!(
                "{}: there are samples of class {class}, but fewer than two of class {missing}: classes are added in order",
                self.name
            );
        }
        Ok(added)
    }
}

/// The samples as the model's input has them.
///
/// # Errors
/// Samples that do not fit it.
pub fn inputs_of(model: &Model, samples: &Samples) -> Result<Vec<Vec<i8>>> {
    let length: usize = model.input_shape().iter().product();
    let border = model.network.inputs.first().context("the network has no input")?;
    let values = inference::quantized(&samples.inputs, border, input_affine(model)?)?;
    Ok(values.chunks(length.max(1)).map(<[i8]>::to_vec).collect())
}

/// Keeps the subject's samples, and adds the classes that its model lacks.
///
/// # Errors
/// What the tuner refuses.
pub(crate) fn observe_all<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, subject: &Subject) -> Result<()> {
    for (input, label) in &subject.adaptation {
        objective::observe(tuner, input, *label)?;
    }
    for _ in 0..subject.added_classes()? {
        tuner.add_class()?;
    }
    Ok(())
}

pub(crate) fn add_noise(samples: &mut [Labelled], classes: usize, share: f64, seed: u64) {
    flip_labels(samples.iter_mut().map(|(_, label)| label), classes, share, seed);
}

pub(crate) fn input_affine(model: &Model) -> Result<Affine> {
    let input = model.network.inputs.first().context("the network has no input")?;
    Ok(model.network.tensors[input.tensor].affine)
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
pub(crate) fn tuner_arena(file: &PackFile, recipe: &Recipe) -> Vec<u128> {
    Tail::Full.arena(file, recipe)
}

/// The recipe with a replay for all of the subject's samples.
///
/// # Errors
/// More samples than a replay can hold.
pub fn sized(subject: &Subject, recipe: Recipe) -> Result<Recipe> {
    let capacity = u16::try_from(subject.adaptation.len()).context("more than 65,535 samples to tune on")?;
    Ok(Recipe { replay_capacity: capacity.max(1), ..recipe })
}

/// Which of the crate's tuners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tail {
    /// [`Tuner`]: f32 weights.
    #[default]
    Full,
    /// [`CompactTuner`]: few bytes, integers.
    Compact,
}

impl Tail {
    /// Of the tuner that makes tails with these contents.
    pub fn of(contents: Contents) -> Self {
        if contents == Contents::Int8AndCompact { Self::Compact } else { Self::Full }
    }

    /// The arena's bytes by purpose.
    pub fn memory(self, sizes: &flatmin::Sizes, recipe: &Recipe) -> Vec<(String, usize)> {
        let own =
            |parts: &[(&str, usize)]| parts.iter().map(|&(name, bytes)| (name.to_owned(), bytes)).collect();
        match self {
            Self::Full => own(&MemoryPlan::new(sizes, recipe).by_purpose()),
            Self::Compact => own(&CompactPlan::new(sizes, recipe).by_purpose()),
        }
    }

    /// The arena of a run, on the boundary that the runtime wants.
    pub(crate) fn arena(self, file: &PackFile, recipe: &Recipe) -> Vec<u128> {
        vec![0; self.arena_bytes(&file.pack().sizes(), recipe).div_ceil(16)]
    }

    /// Bytes of the arena.
    pub fn arena_bytes(self, sizes: &flatmin::Sizes, recipe: &Recipe) -> usize {
        match self {
            Self::Full => sizes.train_bytes(recipe),
            Self::Compact => sizes.compact_bytes(recipe),
        }
    }
}

/// Tunes the last `layers` layers, calling `epoch_done` after every epoch.
///
/// # Errors
/// What the runtime refuses, with the subject's name.
pub fn tune(
    subject: &Subject,
    tail: impl Into<TailPlan>,
    recipe: Recipe,
    epoch_done: impl Fn(),
) -> Result<TuningRun> {
    tune_as(Tail::Full, subject, tail, recipe, epoch_done)
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
    epoch_done: impl Fn(),
) -> Result<TuningRun> {
    let context = || subject.name.clone();
    let recipe = sized(subject, recipe)?;
    let file = subject.model.pack(tail)?;
    let sizes = file.pack().sizes();
    let mut words = kind.arena(&file, &recipe);
    let arena = bytemuck::cast_slice_mut(&mut words);
    let run = match kind {
        Tail::Full => {
            let mut tuner = Tuner::new(file.pack(), recipe, arena).with_context(context)?;
            run(&mut tuner, subject, recipe, descend(recipe, epoch_done))
        }
        Tail::Compact => {
            let mut tuner = CompactTuner::in_arena(file.pack(), recipe, arena).with_context(context)?;
            run(&mut tuner, subject, recipe, descend(recipe, epoch_done))
        }
    }?;
    let memory = kind.memory(&sizes, &recipe);
    Ok(TuningRun { memory, train_ram_bytes: kind.arena_bytes(&sizes, &recipe), ..run })
}

/// Solves the last layer in closed form; of `recipe` the share that is held out counts.
///
/// # Errors
/// What the runtime refuses, with the subject's name.
pub fn solve(subject: &Subject, tail: impl Into<TailPlan>, recipe: Recipe) -> Result<TuningRun> {
    let context = || subject.name.clone();
    let recipe = sized(subject, Recipe { method: Method::Sgd, ..recipe })?;
    let file = subject.model.pack(tail)?;
    let sizes = file.pack().sizes();
    let mut words = Tail::Full.arena(&file, &recipe);
    let mut scratch = vec![0; sizes.solve_words()];
    let mut tuner =
        Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).with_context(context)?;
    let train = |tuner: &mut Tuner, latents: &[Labelled], curve: &mut Vec<CurvePoint>| {
        let mut solve = tuner.solve(&mut scratch).with_context(context)?;
        while !solve.slice() {}
        let loss = tuner.evaluate(SHARPNESS_RHO)?.loss;
        curve.push(point(1, loss, tuner, latents)?);
        Ok(())
    };
    let run = run(&mut tuner, subject, recipe, train)?;
    let bytes = 4 * sizes.solve_words();
    let mut memory = Tail::Full.memory(&sizes, &recipe);
    memory.push(("solving the head".into(), bytes));
    let train_ram_bytes = Tail::Full.arena_bytes(&sizes, &recipe) + bytes;
    Ok(TuningRun { method: CLOSED_FORM.into(), memory, train_ram_bytes, ..run })
}

/// Steps through a run.
fn descend<'p, A: Arithmetic<'p>>(
    recipe: Recipe,
    epoch_done: impl Fn(),
) -> impl FnOnce(&mut Tuner<'p, A>, &[Labelled], &mut Vec<CurvePoint>) -> Result<()> {
    move |tuner, latents, curve| {
        tuner.start(recipe)?;
        let mut losses = Vec::new();
        loop {
            let report = tuner.step()?;
            losses.push(report.loss);
            if report.epoch_finished {
                let mean = losses.iter().sum::<f32>() / losses.len() as f32;
                losses.clear();
                curve.push(point(u32::from(report.epoch) + 1, mean, tuner, latents)?);
                epoch_done();
            }
            if report.finished {
                return Ok(());
            }
        }
    }
}

fn run<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    subject: &Subject,
    recipe: Recipe,
    train: impl FnOnce(&mut Tuner<'p, A>, &[Labelled], &mut Vec<CurvePoint>) -> Result<()>,
) -> Result<TuningRun> {
    let context = || subject.name.clone();
    let latents: Vec<(Vec<i8>, usize)> = (subject.test.iter())
        .map(|(input, label)| Ok((tuner.latent(input)?.to_vec(), *label)))
        .collect::<Result<_>>()?;
    let copies = objective::copies(tuner.pack());
    let errors_factory =
        copies.then(|| objective::errors(tuner, &subject.test, Version::Factory)).transpose()?;
    let latents = if copies { Vec::new() } else { latents };
    let confusion_factory = confusion(tuner, &latents, subject.classes.len(), Version::Factory)?;
    observe_all(tuner, subject).with_context(context)?;
    let before = tuner.evaluate(SHARPNESS_RHO)?;
    let mut curve = vec![point(0, before.loss, tuner, &latents)?];
    train(tuner, &latents, &mut curve).with_context(context)?;
    let verdict = if recipe.held_out > 0.0 { Some(verdict(tuner)?) } else { None };
    if verdict.is_none() {
        tuner.requantize()?;
    }
    let in_force = if verdict.is_none_or(|v| v.accepted) { Version::Tuned } else { Version::Factory };
    let confusion_tuned = confusion(tuner, &latents, subject.classes.len(), in_force)?;
    let (accuracy_f32, loss) = test_f32(tuner, &latents)?;
    let loss = if copies { objective::loss_f32(tuner, &subject.test)? } else { loss };
    let anomalies = match &errors_factory {
        Some(before) => {
            Some(objective::anomalies(before, &objective::errors(tuner, &subject.test, in_force)?))
        }
        None => None,
    };
    Ok(TuningRun {
        subject: subject.name.clone(),
        method: method_name(recipe.method).to_owned(),
        rho: if recipe.method == Method::Sgd { 0.0 } else { recipe.rho },
        factory_accuracy: accuracy(&confusion_factory),
        accuracy_f32,
        accuracy_int8: accuracy(&confusion_tuned),
        loss,
        sharpness: f64::from(tuner.evaluate(SHARPNESS_RHO)?.sharpness),
        memory: Vec::new(),
        train_ram_bytes: 0,
        ram: Vec::new(),
        ram_announced_bytes: None,
        tail_parameters: tuner.pack().sizes().tail_parameters,
        macs: tuner.macs(),
        weights_crc32: tuner.weights_crc32(),
        instructions: None,
        instructions_trunk: None,
        instructions_step: None,
        curve,
        confusion_factory,
        confusion_tuned,
        verdict,
        anomalies,
    })
}

/// Takes the tuned tail if the held-out samples say so.
fn verdict<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>) -> Result<Verdict> {
    let best_epochs = tuner.best().map(|best| best.epochs);
    Ok(Verdict::new(&tuner.accept()?, best_epochs))
}

fn point<'p, A: Arithmetic<'p>>(
    epoch: u32,
    adaptation_loss: f32,
    tuner: &mut Tuner<'p, A>,
    latents: &[Labelled],
) -> Result<CurvePoint> {
    let (test_accuracy, _) = test_f32(tuner, latents)?;
    let test_accuracy = Some(test_accuracy).filter(|accuracy| accuracy.is_finite());
    Ok(CurvePoint { epoch, adaptation_loss: f64::from(adaptation_loss), test_accuracy })
}

/// Accuracy and mean loss of the f32 tail.
fn test_f32<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, latents: &[Labelled]) -> Result<(f64, f64)> {
    let (mut right, mut loss) = (0, 0.0);
    for (latent, label) in latents {
        let score = tuner.score_latent(latent, *label)?;
        right += usize::from(score.class == *label);
        loss += f64::from(score.loss);
    }
    let samples = latents.len() as f64;
    Ok((right as f64 / samples, loss / samples))
}

fn confusion<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    latents: &[Labelled],
    classes: usize,
    version: Version,
) -> Result<Vec<Vec<u32>>> {
    let mut counts = vec![vec![0; classes]; classes];
    for (latent, label) in latents {
        let output = tuner.classify_latent(latent, version)?.to_vec();
        counts[*label][tuner.answer(&output, version)] += 1;
    }
    Ok(counts)
}

/// NaN of nothing.
pub(crate) fn accuracy(confusion: &[Vec<u32>]) -> f64 {
    let total: u32 = confusion.iter().flatten().sum();
    let right: u32 = confusion.iter().enumerate().map(|(class, row)| row[class]).sum();
    f64::from(right) / f64::from(total)
}
