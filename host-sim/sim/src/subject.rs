//! Subjects: a network, and the samples that it is tuned and tested on.

use crate::inference;
use crate::samples::Samples;
use crate::wearers::{EXERCISES, Recordings, flip_labels, model_bytes};
use anyhow::{Context, Result, bail, ensure};
use flatmin::Affine;
use flatmin::tail::Loss;
use flatmin_model::model::Model;

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
        let affine = input_affine(&model)?;
        let length: usize = model.input_shape().iter().product();
        let border = model.network.inputs.first().context("the network has no input")?;
        let inputs = inference::quantized(&samples.inputs, border, affine)?;
        let count = labels(model.network.loss(), model.output_shape().iter().product())?;
        let mut totals = vec![0usize; count];
        // Without labels all is alike.
        let label = |sample: usize| samples.labels.get(sample).copied().unwrap_or(0);
        (0..samples.count).for_each(|sample| totals[label(sample)] += 1);
        let (mut adaptation, mut test, mut seen) = (Vec::new(), Vec::new(), vec![0usize; count]);
        for (input, label) in inputs.chunks(length.max(1)).zip((0..samples.count).map(label)) {
            let half = if seen[label] < totals[label] / 2 { &mut adaptation } else { &mut test };
            half.push((input.to_vec(), label));
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

/// Most yes-or-no outputs whose sets of answers are counted against one another.
const MOST_QUESTIONS: usize = 6;

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
