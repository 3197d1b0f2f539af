//! Subjects: a network, and the samples that it is tuned and tested on.

use crate::calibration::calibrated;
use crate::inference;
use crate::samples::{Division, Inputs, Labels, Samples};
use crate::wearers::{EXERCISES, Recordings, flip_labels, model_bytes};
use anyhow::{Context, Result, bail, ensure};
use flatmin::Affine;
use flatmin::Loss;
use flatmin_model::model::Model;
use std::collections::HashSet;
use std::path::Path;

/// An int8 input and its label.
pub type Labelled = (Vec<i8>, usize);

/// A network and the data that it is tuned and tested on.
#[derive(Debug, Clone)]
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

/// Most yes-or-no outputs whose sets of answers are counted against one another.
const MOST_QUESTIONS: usize = 6;

/// Share of values outside the input's range from which on a user is warned.
const MANY_OUTSIDE: f64 = 0.02;

/// Test samples below which a user is warned.
const FEW: usize = 10;

/// Share of copies of tuned samples among the test samples from which on a user is warned.
const MANY_COPIES: f64 = 0.1;

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

    /// The wearer's subject with the other wearers' windows as the factory's statistics.
    ///
    /// # Errors
    /// Recordings that cannot be read.
    pub fn calibrated(mut self, wearer: usize) -> Result<Self> {
        self.model = calibrated_without(wearer, self.model)?;
        Ok(self)
    }

    /// The subject with this share of its labels flipped, as of one that was made with it.
    pub fn with_label_noise(mut self, share: f64, seed: u64) -> Self {
        add_noise(&mut self.adaptation, self.classes.len(), share, seed);
        self
    }

    /// Labelled windows of all wearers but this one, on whom the factory's network was trained.
    ///
    /// # Errors
    /// Recordings that cannot be read.
    pub fn calibration(&self, wearer: usize) -> Result<Vec<Labelled>> {
        calibration(&self.model, wearer)
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
        let count = labels(model.network.loss(), model.output_shape().iter().product())?;
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
        few(&adaptation, &test, &mut origin.warnings);
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

    /// The subject, if each of its samples is one input of the network.
    ///
    /// # Errors
    /// Windows of several hops: a request to a board has room for one.
    pub fn of_single_hops(self, command: &str) -> Result<Self> {
        let hop: usize = self.model.input_shape().iter().product();
        if self.adaptation.iter().chain(&self.test).any(|(input, _)| input.len() != hop) {
            bail!(
                "{}: `flatmin {command}` takes no windows of several hops yet; `flatmin tune` does",
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

/// The model of a bundled wearer with the windows of all others, on whom it was trained, as the factory's statistics.
///
/// # Errors
/// Recordings that cannot be read.
pub fn calibrated_without(wearer: usize, model: Model) -> Result<Model> {
    let (inputs, labels): (Vec<_>, Vec<_>) = calibration(&model, wearer)?.into_iter().unzip();
    calibrated(model, &inputs, Some(&labels))
}

fn calibration(model: &Model, wearer: usize) -> Result<Vec<Labelled>> {
    let affine = input_affine(model)?;
    let windows = Recordings::bundled()?.calibration(wearer).into_iter();
    Ok(windows.map(|w| (w.samples.iter().map(|&x| affine.quantize(x)).collect(), w.label)).collect())
}

/// Samples as the network takes them, and their labels: those of a regression count its targets.
///
/// # Errors
/// Samples that do not fit the network's input.
pub fn labelled(model: &Model, samples: &Samples, origin: &mut Origin) -> Result<Vec<Labelled>> {
    let border = model.network.inputs.first().context("the network has no input")?;
    let affine = input_affine(model)?;
    let range = inference::range(border, affine);
    if let (Inputs::F32(values), Some([low, high])) = (&samples.inputs, range) {
        let outside = values.iter().filter(|&&value| value < low || value > high || value.is_nan()).count();
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
    // All hops of a window.
    let length = inputs.len() / samples.count.max(1);
    let first = origin.targets.len();
    if !samples.targets.is_empty() {
        let output = model.network.outputs.first().context("the network has no output")?;
        let affine = model.network.tensors[output.tensor].affine;
        let wanted = samples.targets.iter().map(|&target| affine.quantize(target)).collect();
        let width = samples.targets.len() / samples.count.max(1);
        let outside = samples.targets.iter().filter(|&&target| {
            let [low, high] = [-128, 127].map(|q| affine.dequantize(q));
            target < low - affine.scale || target > high + affine.scale || target.is_nan()
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

/// Warns of a test that says little: of few samples, or of copies of what is tuned on.
fn few(adaptation: &[Labelled], test: &[Labelled], warnings: &mut Vec<String>) {
    if test.len() < FEW {
        let samples = if test.len() == 1 { "sample" } else { "samples" };
        warnings.push(format!("{} test {samples}: of so few no accuracy can be told", test.len()));
    }
    let known: HashSet<&[i8]> = adaptation.iter().map(|(input, _)| input.as_slice()).collect();
    let copies = test.iter().filter(|(input, _)| known.contains(input.as_slice())).count();
    if copies as f64 > MANY_COPIES * test.len() as f64 {
        warnings.push(format!(
            "{copies} of {} test samples are copies of samples that are tuned on, once quantized: what is measured on them says \
             little of new ones",
            test.len()
        ));
    }
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
    if let ([only], 2..) = (own.as_slice(), classes.len()) {
        warnings.push(format!(
            "all samples are of class {}: a tail tuned on these answers it whatever comes; give samples of the other classes, too",
            classes[*only]
        ));
        return true;
    }
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

/// Number of labels of a network with so many outputs.
///
/// # Errors
/// More yes-or-no outputs than a table of right and wrong answers can show.
pub fn labels(loss: Loss, outputs: usize) -> Result<usize> {
    let most = loss != Loss::BinaryCrossEntropy || outputs <= MOST_QUESTIONS;
    ensure!(most, "{outputs} yes-or-no outputs; up to {MOST_QUESTIONS} can be tuned on the desktop");
    Ok(match loss {
        Loss::CrossEntropy => outputs,
        Loss::BinaryCrossEntropy => 1 << outputs,
        Loss::SquaredError => 2,
    })
}

/// Refuses what the losses of classes do not fit.
///
/// # Errors
/// One number without a sigmoid; a map of many cells.
pub fn check_outputs(model: &Model) -> Result<()> {
    let shape = model.output_shape();
    let extents: Vec<usize> = shape.iter().skip(1).copied().collect();
    let outputs: usize = extents.iter().product();
    match model.network.loss() {
        Loss::CrossEntropy if outputs == 1 => bail!(
            "{}: has one output and no sigmoid: choose --loss bce if it is the logit of yes or no, or --loss mse if it is a \
             number",
            model.name
        ),
        Loss::CrossEntropy | Loss::BinaryCrossEntropy if extents.iter().filter(|&&e| e > 1).count() > 1 => {
            let classes = extents.last().copied().unwrap_or(1);
            bail!(
                "{}: its output of {} is a map of {} cells with {classes} classes each, as of FOMO or segmentation: a label \
                 is one class for a whole sample here",
                model.name,
                extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
                outputs / classes.max(1)
            )
        }
        _ => Ok(()),
    }
}

/// Shape of one sample: the input's without the batch.
pub fn sample_shape(model: &Model) -> Vec<usize> {
    model.network.inputs.first().map_or(Vec::new(), |border| border.sample_shape().to_vec())
}

/// Shape of one sample in an array of samples: of a network that keeps variables, an input of `shape`, a hop, or of several
/// one after the other along its first axis, a window.
///
/// # Errors
/// An array that cannot be read.
pub fn sample_shape_in(model: &Model, path: &Path, shape: &[usize]) -> Result<Vec<usize>> {
    if model.network.variables.is_empty() {
        return Ok(shape.to_vec());
    }
    Ok(crate::samples::window_shape(path, shape)?)
}

/// What a user's labels are to be: classes, which `names` may name, or the numbers of a regression.
///
/// # Errors
/// Another number of names than classes; more yes-or-no outputs than can be counted.
pub fn expected_labels(model: &Model, names: Vec<String>) -> Result<Labels> {
    let loss = model.network.loss();
    let [inputs, outputs] = [model.input_shape(), model.output_shape()].map(|s| s.iter().product::<usize>());
    let labels = match loss {
        Loss::SquaredError if inputs != outputs => Labels::Numbers { width: outputs },
        _ => Labels::Classes {
            count: labels(loss, outputs)?,
            names,
            questions: if loss == Loss::BinaryCrossEntropy { outputs } else { 0 },
        },
    };
    if let Labels::Classes { count, names, .. } = &labels
        && ![0, *count].contains(&names.len())
    {
        bail!("--classes: {} names, the model has {count} classes", names.len());
    }
    Ok(labels)
}

/// Flips this share of the labels to others.
pub fn add_noise(samples: &mut [Labelled], classes: usize, share: f64, seed: u64) {
    flip_labels(samples.iter_mut().map(|(_, label)| label), classes, share, seed);
}

/// Scale and zero point of the network's input.
///
/// # Errors
/// A network without an input.
pub fn input_affine(model: &Model) -> Result<Affine> {
    let input = model.network.inputs.first().context("the network has no input")?;
    Ok(model.network.tensors[input.tensor].affine)
}
