//! Spare classes: outputs at a classifier's end that stay silent until a device adds a class to one of them.
//!
//! A spare row has weights of zero, and the bias that puts its logit one step below the lowest int8 value, whatever the
//! input. Scale and zero point of the logits stay as they are, so that those of the known classes keep their bytes; the
//! runtime's softmax is one over the known classes alone.

use super::network::{Network, Step};
use super::{PackerError, TailPlan, Trains};
use flatmin::Loss;
use flatmin::internals::pack::Function;
use flatmin::internals::pack::format::operator as code;

const fn fail<T>(what: &'static str) -> Result<T, PackerError> {
    Err(PackerError::Spare { what })
}

impl Network {
    /// The network with `spare` outputs more.
    ///
    /// # Errors
    /// [`PackerError::Spare`] unless it ends in a fully connected layer, or in a softmax of one, is trained with
    /// cross-entropy and has a single output.
    pub fn with_spare_classes(mut self, spare: usize) -> Result<Self, PackerError> {
        if spare == 0 {
            return Ok(self);
        }
        let (place, classes, taps) = self.dense_classifier()?;
        let last = &self.steps[place];
        let logits = self.tensors[last.output].affine;
        let input_scale = self.tensors[last.input].affine.scale;
        let Some((row, scale)) = widest(last) else { return fail("the last layer has no scale") };
        let below = f64::from(-129 - logits.zero_point) * f64::from(logits.scale);
        let bias = (below / (f64::from(input_scale) * f64::from(scale))).floor();
        // In the 30 bits that every bias of a tuned tail has; further down there is no int8 network.
        if bias.abs() > f64::from(1 << 30) {
            return fail("the last layer's scales leave no room for a bias below its lowest output");
        }
        let constants = &mut self.steps[place].constants;
        constants.weights.resize((classes + spare) * taps, 0);
        constants.biases.resize(classes + spare, bias as i32);
        constants.multipliers.resize(classes + spare, constants.multipliers[row]);
        if constants.per_channel {
            constants.scales.resize(classes + spare, scale);
        }
        self.resize_outputs(place, classes + spare);
        self.spare_classes += spare;
        Ok(self)
    }
}

impl Network {
    /// The network without output `class` of its last layer, for trials: as if that class had never been heard of, but
    /// for what the layers in front have learnt with it.
    ///
    /// # Errors
    /// [`PackerError::Spare`] as of [`Self::with_spare_classes`], and for a class that it has not, or that is its only one.
    pub fn without_class(mut self, class: usize) -> Result<Self, PackerError> {
        let (place, classes, taps) = self.dense_classifier()?;
        if class >= classes || classes < 2 {
            return fail("there is no such class to leave out");
        }
        let constants = &mut self.steps[place].constants;
        constants.weights.drain(class * taps..(class + 1) * taps);
        constants.biases.remove(class);
        constants.multipliers.remove(class);
        if constants.per_channel {
            constants.scales.remove(class);
        }
        self.resize_outputs(place, classes - 1);
        // Means of the class that is left out, and a covariance around them.
        self.statistics = None;
        Ok(self)
    }

    /// The last layer's place, its outputs, and the weights of one.
    fn dense_classifier(&self) -> Result<(usize, usize, usize), PackerError> {
        if self.loss() != Loss::CrossEntropy {
            return fail("the loss is not cross-entropy, whose outputs are classes");
        }
        let [output] = self.outputs.as_slice() else { return fail("the network has more than one output") };
        let Some(place) = self.steps.len().checked_sub(1 + usize::from(self.head().is_some())) else {
            return fail("the network has no layer");
        };
        let last = &self.steps[place];
        let ends = output.tensor == self.steps[self.steps.len() - 1].output;
        if last.kind != code::FULLY_CONNECTED || last.function != Some(Function::Identity) || !ends {
            return fail("the network does not end in a fully connected layer, with or without a softmax");
        }
        let classes = last.constants.biases.len();
        if self.tensors[last.output].len() != classes || output.shape.last() != Some(&classes) {
            return fail("the last layer has more than one row of outputs");
        }
        Ok((place, classes, last.constants.weights.len() / classes.max(1)))
    }

    fn resize_outputs(&mut self, place: usize, classes: usize) {
        let ends = [self.steps[place].output, self.outputs[0].tensor].map(|end| self.tensors[end].storage);
        for tensor in self.tensors.iter_mut().filter(|tensor| ends.contains(&tensor.storage)) {
            tensor.shape[3] = classes;
        }
        if let Some(extent) = self.outputs[0].shape.last_mut() {
            *extent = classes;
        }
    }
}

/// The output of the largest scale, and that scale.
fn widest(step: &Step) -> Option<(usize, f32)> {
    let scales = step.constants.scales.iter().copied().enumerate();
    scales.max_by(|(_, one), (_, other)| one.total_cmp(other))
}

/// Whether `plan` trains the layer whole that has spare classes.
pub(super) fn check(network: &Network, plan: &TailPlan) -> Result<(), PackerError> {
    match plan.layers.checked_sub(1).map(|last| plan.trains(last)) {
        Some(Trains::All) => Ok(()),
        Some(_) => fail("the last layer must be trained whole"),
        None if network.spare_classes > 0 => {
            fail("a pack for inference alone adds no class; train one layer or more")
        }
        None => Ok(()),
    }
}
