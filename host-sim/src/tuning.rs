//! A tuning run on the desktop: the same calls that firmware makes, and what they led to.

use crate::inference;
use crate::model::Model;
use crate::objective;
use crate::packer::{PackFile, Step, TailPlan};
use crate::report::{CurvePoint, TuningRun, Verdict};
use crate::samples::{Division, Inputs, Samples};
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
    /// What more is known of the samples.
    pub origin: Origin,
}

/// Where a subject's samples come from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// What a regression is to give, in the output's quantization: then a sample's label is its place here.
    pub targets: Vec<Vec<i8>>,
    /// How the samples were split, in words.
    pub split: String,
    /// What a user should know of them.
    pub warnings: Vec<String>,
    /// Classes have so few samples beside others that a tuned tail is taken only if it does better on the test samples.
    pub imbalanced: bool,
}

/// Share of values outside the input's range from which on a user is warned.
const MANY_OUTSIDE: f64 = 0.02;

/// Accuracy that the int8 tail may lose to the f32 one without a warning.
const MOST_LOST: f64 = 0.02;

/// How many times the samples of the rarest class the commonest may have.
const IMBALANCE: usize = 10;

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
        let split = "drawn from the first half of each recording, tested on the second".to_owned();
        Ok(Self { name, model, classes, adaptation, test, origin: Origin { split, ..Origin::default() } })
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

    /// The user's model and data. With `test` all samples are tuned on and those of `test` tested; else whole groups or,
    /// without groups, half of each class.
    ///
    /// # Errors
    /// Nothing left to tune or to test on.
    pub fn user(
        model: Model,
        samples: &Samples,
        test: Option<&Samples>,
        label_noise: f64,
        seed: u64,
    ) -> Result<Self> {
        let count = objective::labels(model.network.loss(), model.output_shape().iter().product())?;
        let mut origin = Origin::default();
        let all = labelled(&model, samples, &mut origin)?;
        let (mut adaptation, test, how) = match test {
            Some(test) => (all, labelled(&model, test, &mut origin)?, "tested on --test-data".to_owned()),
            None => {
                let labels: Vec<usize> = all.iter().map(|(_, label)| *label).collect();
                let division = if !samples.groups.is_empty() {
                    Division::of_groups(&samples.groups)
                } else if origin.targets.is_empty() {
                    Division::halves(&labels)
                } else {
                    Division::halves(&vec![0; labels.len()])
                };
                let pick =
                    |places: &[usize]| places.iter().map(|&place| all[place].clone()).collect::<Vec<_>>();
                (pick(&division.tuned), pick(&division.tested), division.how)
            }
        };
        origin.split = how;
        if adaptation.is_empty() || test.is_empty() {
            bail!(
                "{}: {}",
                model.name,
                match samples.groups.is_empty() {
                    true => "two samples of a class at least are needed, one to tune on and one to test",
                    false => "two groups at least are needed, one to tune on and one to test",
                }
            );
        }
        let classes = match samples.classes.as_slice() {
            [] => (0..count).map(|c| c.to_string()).collect(),
            names => names.to_vec(),
        };
        if model.network.loss() != Loss::SquaredError {
            origin.imbalanced = imbalance(&adaptation, &test, &classes, &mut origin.warnings);
            let known = count - model.network.spare_classes;
            let labelled = adaptation.iter().chain(&test).map(|(_, label)| label + 1).max().unwrap_or(0);
            add_noise(&mut adaptation, labelled.max(known), label_noise, seed);
        }
        Ok(Self { name: model.name.clone(), model, classes, adaptation, test, origin })
    }

    /// The subject, if its samples have labels and not numbers to give.
    ///
    /// # Errors
    /// Those of a regression; `command` cannot take them.
    pub fn labelled(self, command: &str) -> Result<Self> {
        if !self.origin.targets.is_empty() {
            bail!(
                "{}: `flatmin {command}` takes no regressions yet; `flatmin tune` and `export` do",
                self.name
            );
        }
        Ok(self)
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

/// Samples as the network takes them, and their labels: those of a regression count its targets.
fn labelled(model: &Model, samples: &Samples, origin: &mut Origin) -> Result<Vec<Labelled>> {
    let border = model.network.inputs.first().context("the network has no input")?;
    let affine = input_affine(model)?;
    let range = inference::range(border, affine);
    if let (Inputs::F32(values), Some([low, high])) = (&samples.inputs, range) {
        let outside = values.iter().filter(|value| !(low..=high).contains(value)).count();
        let share = outside as f64 / values.len().max(1) as f64;
        if share > MANY_OUTSIDE {
            origin.warnings.push(format!(
                "{:.0} % of the values lie outside {low:.4} .. {high:.4}, the range of the model's input, and are clipped: \
                 are the data scaled as in training?",
                100.0 * share
            ));
        }
    }
    let inputs = inference::quantized(&samples.inputs, border, affine)?;
    let length: usize = model.input_shape().iter().product();
    let first = origin.targets.len();
    if !samples.targets.is_empty() {
        let output = model.network.outputs.first().context("the network has no output")?;
        let affine = model.network.tensors[output.tensor].affine;
        let wanted = samples.targets.iter().map(|&target| affine.quantize(target)).collect();
        let width = samples.targets.len() / samples.count.max(1);
        let outside = samples.targets.iter().filter(|&&target| {
            let [low, high] = [-128, 127].map(|q| affine.dequantize(q));
            !(low - affine.scale..=high + affine.scale).contains(&target)
        });
        let outside = outside.count();
        if outside > 0 {
            origin.warnings.push(format!(
                "{outside} of {} targets lie outside {:.4} .. {:.4}, all that the model's int8 output can say",
                samples.targets.len(),
                affine.dequantize(-128),
                affine.dequantize(127)
            ));
        }
        origin.targets.extend(output.to_network(wanted).chunks(width.max(1)).map(<[i8]>::to_vec));
    }
    // Without labels all is alike.
    let label = |sample: usize| match samples.targets.is_empty() {
        true => samples.labels.get(sample).copied().unwrap_or(0),
        false => first + sample,
    };
    let inputs = inputs.chunks(length.max(1)).enumerate();
    Ok(inputs.map(|(sample, input)| (input.to_vec(), label(sample))).collect())
}

/// Whether some classes have much fewer samples to tune on than others, which a warning then says.
fn imbalance(
    adaptation: &[Labelled],
    test: &[Labelled],
    classes: &[String],
    warnings: &mut Vec<String>,
) -> bool {
    let mut counts = vec![0_usize; classes.len()];
    adaptation.iter().for_each(|(_, label)| counts[*label] += 1);
    let there = |class: &usize| counts[*class] > 0 || test.iter().any(|(_, label)| label == class);
    let own: Vec<usize> = (0..classes.len()).filter(there).collect();
    let rarest = own.iter().copied().min_by_key(|&class| counts[class]);
    let commonest = own.iter().copied().max_by_key(|&class| counts[class]);
    let (Some(rarest), Some(commonest)) = (rarest, commonest) else { return false };
    let uneven = counts[commonest] >= IMBALANCE * counts[rarest].max(1) || counts[rarest] == 0;
    if uneven {
        warnings.push(format!(
            "{} samples of class {} to tune on and {} of class {}: a tail tuned on these forgets the rare class; the \
             factory's tail stays in force unless the tuned one does better on the test samples",
            counts[commonest], classes[commonest], counts[rarest], classes[rarest]
        ));
    }
    uneven
}

/// Keeps the subject's samples, and adds the classes that its model lacks.
///
/// # Errors
/// What the tuner refuses.
pub(crate) fn observe_all<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, subject: &Subject) -> Result<()> {
    for (input, label) in &subject.adaptation {
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

pub(crate) fn add_noise(samples: &mut [Labelled], classes: usize, share: f64, seed: u64) {
    flip_labels(samples.iter_mut().map(|(_, label)| label), classes, share, seed);
}

pub(crate) fn input_affine(model: &Model) -> Result<Affine> {
    let input = model.network.inputs.first().context("the network has no input")?;
    Ok(model.network.tensors[input.tensor].affine)
}

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
            run(&mut tuner, subject, recipe, epoch_done)
        }
        Tail::Compact => {
            let mut tuner = CompactTuner::in_arena(file.pack(), recipe, arena).with_context(context)?;
            run(&mut tuner, subject, recipe, epoch_done)
        }
    }?;
    let memory = kind.memory(&sizes, &recipe);
    Ok(TuningRun { memory, train_ram_bytes: kind.arena_bytes(&sizes, &recipe), ..run })
}

fn run<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    subject: &Subject,
    recipe: Recipe,
    epoch_done: impl Fn(),
) -> Result<TuningRun> {
    let context = || subject.name.clone();
    let latents: Vec<(Vec<i8>, usize)> = (subject.test.iter())
        .map(|(input, label)| Ok((tuner.latent(input)?.to_vec(), *label)))
        .collect::<Result<_>>()?;
    let copies = objective::copies(tuner.pack());
    let errors_factory = copies.then(|| objective::errors(tuner, subject, Version::Factory)).transpose()?;
    let latents = if copies { Vec::new() } else { latents };
    let confusion_factory = confusion(tuner, &latents, subject.classes.len(), Version::Factory)?;
    observe_all(tuner, subject).with_context(context)?;
    let before = tuner.evaluate(SHARPNESS_RHO)?;
    let mut curve = vec![point(0, before.loss, tuner, &latents)?];
    tuner.start(recipe).with_context(context)?;
    let mut losses = Vec::new();
    loop {
        let report = tuner.step().with_context(context)?;
        losses.push(report.loss);
        if report.epoch_finished {
            let mean = losses.iter().sum::<f32>() / losses.len() as f32;
            losses.clear();
            curve.push(point(u32::from(report.epoch) + 1, mean, tuner, &latents)?);
            epoch_done();
        }
        if report.finished {
            break;
        }
    }
    let verdict = if recipe.held_out > 0.0 {
        Some(verdict(tuner)?)
    } else {
        tuner.requantize()?;
        if subject.origin.imbalanced {
            let tuned = confusion(tuner, &latents, subject.classes.len(), Version::Tuned)?;
            Some(Verdict::on_test(&confusion_factory, &tuned))
        } else {
            None
        }
    };
    let in_force = if verdict.is_none_or(|v| v.accepted) { Version::Tuned } else { Version::Factory };
    let confusion_tuned = confusion(tuner, &latents, subject.classes.len(), in_force)?;
    let (accuracy_f32, loss) = test_f32(tuner, &latents)?;
    let lost = accuracy_f32 - accuracy(&confusion_tuned);
    let warnings = if lost > MOST_LOST && in_force == Version::Tuned {
        factory_ranges(tuner, subject, [accuracy_f32, accuracy_f32 - lost])
    } else {
        Vec::new()
    };
    let loss = if copies { objective::loss_f32(tuner, subject)? } else { loss };
    let anomalies = match &errors_factory {
        Some(before) => Some(objective::anomalies(before, &objective::errors(tuner, subject, in_force)?)),
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
        warnings,
    })
}

/// Names what keeps trained layers in the factory's output range, where int8 answers much worse than f32.
fn factory_ranges<'p, A: Arithmetic<'p>>(
    tuner: &Tuner<'p, A>,
    subject: &Subject,
    [f32, int8]: [f64; 2],
) -> Vec<String> {
    let network = &subject.model.network;
    let kept = tuner.tuned_layers().filter(|tuned| !tuned.layer.refit).filter_map(|tuned| {
        let layer = network.steps.get(usize::from(tuned.layer.index))?;
        let storage = network.tensors[layer.output].storage;
        let reads = |step: &&Step| step.inputs().any(|tensor| network.tensors[tensor].storage == storage);
        let reader = network.steps.iter().find(reads)?;
        Some(format!(
            "operator {} ({}) keeps the factory's output range, since operator {} ({}) reads it",
            layer.index, layer.name, reader.index, reader.name
        ))
    });
    let kept: Vec<String> = kept.collect();
    if kept.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "{}: int8 answers {:.1} % right, f32 {:.1} %: {}; tune fewer layers, or take a lower learning rate",
        subject.name,
        100.0 * int8,
        100.0 * f32,
        kept.join("; ")
    )]
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
