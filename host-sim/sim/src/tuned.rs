//! A tuned network apart from the run that made it: it answers, and is written back into its file.

use crate::delta::adopt;
use crate::export::{check_room, write_back};
use crate::inference::{Values, as_declared};
use crate::subject::Labelled;
use crate::tuning::with_holder;
use crate::watch::Watch;
use anyhow::{Context, Result};
use flatmin::{Affine, Arithmetic, Tuner};
use flatmin_model::model::Model;
use flatmin_model::packer::{PackFile, TailPlan};

/// A model with the tail that is in force after a run.
#[derive(Debug, Clone)]
pub struct TunedNetwork {
    /// The model as its factory made it.
    pub model: Model,
    /// What of it was tuned.
    pub plan: TailPlan,
    /// The tuned tail, the payload of [`flatmin::store::Contents::Int8`]; `None` where the factory's is in force.
    pub tail: Option<Vec<u8>>,
}

/// What a network says to samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// One per sample: the class with the largest output, the set of the outputs above one half, or 0 where the outputs are
    /// numbers.
    pub labels: Vec<usize>,
    /// The outputs in the element type that the model's file declares.
    pub outputs: Values,
    /// How int8 outputs are quantized: a tuned layer's own.
    pub affine: Affine,
}

impl TunedNetwork {
    /// Answers to inputs as the network takes them.
    ///
    /// # Errors
    /// Inputs of another length; whatever `watch` gives.
    pub fn answer(&self, inputs: &[Vec<i8>], watch: &impl Watch) -> Result<Answers> {
        let file = self.model.pack(&self.plan)?;
        with_holder!(&file, |tuner| {
            self.adopted(&file, tuner)?;
            let network = &self.model.network;
            let border = network.outputs.first().context("the network has no output")?;
            let version = tuner.in_force();
            let (mut labels, mut outputs) = (Vec::new(), Vec::new());
            for input in inputs {
                watch.pause()?;
                let output = tuner.infer(input, version)?.to_vec();
                labels.push(tuner.answer(&output, version));
                outputs.extend(output);
            }
            let unsigned = network.tensors[border.tensor].unsigned;
            let affine = tuner.output_affine(version);
            Ok(Answers { labels, outputs: as_declared(outputs, border, affine, unsigned), affine })
        })
    }

    /// The model's file with the tuned layers in it; its outputs for `test` are compared with those of the tuned network.
    ///
    /// # Errors
    /// A run that left the factory's tail in force; a file that is no `.tflite`, has changed or has no room for the layers.
    pub fn export(&self, test: &[Labelled], watch: &impl Watch) -> Result<Vec<u8>> {
        anyhow::ensure!(
            self.tail.is_some(),
            "{}: nothing is written: the factory's tail is in force",
            self.model.name
        );
        check_room(&self.model, &self.plan)?;
        let file = self.model.pack(&self.plan)?;
        with_holder!(&file, |tuner| {
            self.adopted(&file, tuner)?;
            write_back(tuner, &self.model, test, watch)
        })
    }

    /// Puts its tail in force.
    fn adopted<'p, A: Arithmetic<'p>>(&self, file: &PackFile, tuner: &mut Tuner<'p, A>) -> Result<()> {
        self.tail.as_ref().map_or(Ok(()), |tail| adopt(file, tuner, tail))
    }
}
