//! A tuned network as a `.tflite` again.

use crate::delta::adopt;
use crate::subject::{Labelled, Subject};
use crate::tuning::{Tail, Training, descend, observe_all, train_and_keep, tuner_arena, with_holder};
use crate::watch::Watch;
use anyhow::{Context, Result, bail};
use flatmin::{Arithmetic, Tuner, Version, internals::TunedLayer};
use flatmin_model::model::Model;
use flatmin_model::packer::{TailPlan, Trains};
use flatmin_model::tflite;
use std::borrow::Cow;

/// An exported network.
#[derive(Debug)]
pub struct Export {
    /// The `.tflite`.
    pub bytes: Vec<u8>,
    /// The tuned tail, as [`Tuner::read_tail`] gives it.
    pub tail: Vec<u8>,
    /// Samples whose outputs were compared with the device's, all of them equal byte by byte.
    pub checked: usize,
}

/// Trains the tail as asked for, and writes its layers into the subject's model file. The result is read back, and
/// its outputs are compared with those of the tuned device. Where the recipe holds samples out, they have their say as in a
/// run.
///
/// # Errors
/// What the runtime refuses; a file that has no room for the layers; held-out samples that speak for the factory's tail;
/// outputs that differ.
pub fn export(
    subject: &Subject,
    tail: impl Into<TailPlan>,
    training: &Training,
    watch: impl Watch,
) -> Result<Export> {
    let recipe = training.sized(subject)?;
    let tail = tail.into();
    check_room(&subject.model, &tail)?;
    if training.tuner != Tail::Full {
        return export_integers(subject, tail, training, watch);
    }
    let file = subject.model.pack(tail)?;
    let mut words = tuner_arena(&file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    observe_all(&mut tuner, subject, &watch)?;
    crate::tuning::begin(training.start, &mut tuner, recipe)?;
    if training.steps {
        let training = Training { recipe, curve: false, ..*training };
        descend(&mut tuner, &training, &[], &mut Vec::new(), &watch)?;
    }
    if recipe.held_out > 0.0 {
        let judged = tuner.accept()?;
        if !judged.accepted {
            let (factory, tuned) = (judged.factory, judged.candidate);
            bail!(
                "{}: nothing is written: of the {} samples held out the tuned tail has {} right, the factory's {}; tune \
                 with more samples, or without `held_out`",
                subject.name,
                tuned.samples,
                tuned.right,
                factory.right
            );
        }
    } else {
        tuner.requantize()?;
    }
    if subject.origin.imbalanced && recipe.held_out == 0.0 {
        let mut right = [0_usize; 2];
        for (input, label) in &subject.test {
            for (count, version) in right.iter_mut().zip([Version::Factory, Version::Tuned]) {
                let output = tuner.infer(input, version)?.to_vec();
                *count += usize::from(tuner.answer(&output, version) == *label);
            }
        }
        let ([factory, tuned], of) = (right, subject.test.len());
        if tuned <= factory {
            bail!(
                "{}: nothing is written: the tuned tail has {tuned} of {of} test samples right, the factory's {factory}; \
                 tune on more even classes",
                subject.name
            );
        }
    }
    let bytes = write_back(&mut tuner, &subject.model, &subject.test, &watch)?;
    let mut tail = vec![0; tuner.tail_bytes()];
    tuner.read_tail(0, &mut tail)?;
    Ok(Export { bytes, tail, checked: subject.test.len() })
}

/// What was trained in integers: the int8 tail that is left of a run.
fn export_integers(
    subject: &Subject,
    plan: TailPlan,
    training: &Training,
    watch: impl Watch,
) -> Result<Export> {
    let training = Training { curve: false, ..*training };
    let Some(tail) = train_and_keep(subject, plan.clone(), &training, watch)?.tail else {
        bail!("{}: nothing is written: the factory's tail is in force", subject.name);
    };
    let file = subject.model.pack(plan)?;
    let bytes = with_holder!(&file, |tuner| {
        adopt(&file, tuner, &tail)?;
        write_back(tuner, &subject.model, &subject.test, &|| ())
    })?;
    Ok(Export { bytes, tail, checked: subject.test.len() })
}

/// Refuses a model whose file has no place for what these layers come to.
///
/// # Errors
/// No `.tflite`; a layer without a bias.
pub fn check_room(model: &Model, tail: &TailPlan) -> Result<()> {
    if !model.is_tflite() {
        bail!(
            "{}: only a .tflite can be exported; an ONNX file's tuned layers are kept by the device (`flatmin device tune --commit`)",
            model.name
        );
    }
    let network = &model.network;
    let layers =
        network.steps[network.cut(tail.layers)..].iter().filter(|step| step.has_weights()).enumerate();
    let trained = layers.filter(|(place, _)| tail.trains(*place) != Trains::Nothing);
    let trained: Vec<usize> = trained.map(|(_, step)| step.index).collect();
    let fits = model.with_file(|bytes| tflite::check_biases(bytes, &trained))?;
    fits.with_context(|| model.name.clone())
}

/// The model's file with the tuned layers of this tuner in it, read back; its outputs for `test` are compared with the
/// tuner's.
///
/// # Errors
/// A file that has changed or has no room for the layers; outputs that differ.
pub fn write_back<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    model: &Model,
    test: &[Labelled],
    watch: &impl Watch,
) -> Result<Vec<u8>> {
    let network = &model.network;
    // Operators lie in the pack as in the network.
    let places: Vec<usize> =
        tuner.tuned_layers().map(|tuned| network.steps[usize::from(tuned.layer.index)].index).collect();
    let (known, classes) = (tuner.pack().known_classes(), tuner.classes());
    let replaced = model.with_file(|bytes| {
        let grown = match places.last() {
            Some(&last) if classes > known => Cow::from(tflite::grow_classifier(bytes, last, classes)?),
            _ => Cow::from(bytes),
        };
        tflite::replace_layers(&grown, &places, added(tuner))
    })?;
    let bytes = replaced.with_context(|| model.name.clone())?;

    let exported = Model::parse("the exported model".into(), &bytes)?;
    let pack = exported.pack(0)?;
    let mut arena = vec![0; pack.pack().sizes().arena_bytes];
    for (sample, (input, _)) in test.iter().enumerate() {
        watch.pause()?;
        let exported = flatmin::infer(&pack.pack(), input, &mut arena);
        // The device's further outputs are spare still.
        let own = tuner.infer(input, Version::Tuned)?;
        if own.get(..exported.len()) != Some(exported) {
            bail!("{}: the exported model answers test sample {sample} differently", model.name);
        }
    }
    Ok(bytes)
}

/// The tuned layers, the last one's rows those of classes alone: what is spare is no part of the exported network.
fn added<'t, 'p, A: Arithmetic<'p>>(tuner: &'t Tuner<'p, A>) -> impl Iterator<Item = TunedLayer<'t>> {
    let classes = tuner.classes();
    let last = tuner.tuned_layers().count().saturating_sub(1);
    let spare = tuner.pack().spare_classes() > 0;
    tuner.tuned_layers().enumerate().map(move |(place, layer)| {
        if !spare || place != last {
            return layer;
        }
        let weights = &layer.weights[..classes * layer.layer.taps];
        let scales = &layer.scales[..classes.min(layer.scales.len())];
        TunedLayer { weights, biases: &layer.biases[..classes], scales, ..layer }
    })
}
