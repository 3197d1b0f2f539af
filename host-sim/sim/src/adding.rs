//! A class that the last layer does not know is added: what that costs the others, and what keeps them.

use crate::objective;
use crate::subject::Subject;
use crate::tuning::{method_name, sized, tuner_arena};
use anyhow::Result;
use flatmin::{Recipe, Tuner, Version};
use flatmin_model::packer::TailPlan;
use serde::Serialize;
use std::fmt;

/// Accuracies of an int8 tail on the test samples.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    /// What was done.
    pub done: String,
    /// Share of the old classes' test samples that are right.
    pub old_classes: f64,
    /// Share of the new class's test samples that are right.
    pub new_class: f64,
}

/// Samples by whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SampleCounts {
    /// Samples of the old classes.
    pub old_classes: usize,
    /// Samples of the new class.
    pub new_class: usize,
}

/// From a tail that does not know a class to tails that do.
#[derive(Debug, Clone, Serialize)]
pub struct Addition {
    /// A wearer, or a file.
    pub subject: String,
    /// The class's name.
    pub class: String,
    /// Samples to tune on.
    pub samples: SampleCounts,
    /// Samples to test on.
    pub tested: SampleCounts,
    /// The tails, in order.
    pub stages: Vec<Stage>,
}

/// Adds the last class of `subject`, which is one of [`Subject::leaving_out`], then tunes with every recipe: with the old
/// classes' samples in the replay, and with the new class's alone.
///
/// # Errors
/// What the runtime refuses.
pub fn add(subject: &Subject, tail: &TailPlan, recipes: &[Recipe]) -> Result<Addition> {
    let new = subject.classes.len() - 1;
    let file = subject.model.pack(tail)?;
    let mut stages = Vec::new();
    for recipe in recipes {
        let recipe = sized(subject, *recipe)?;
        for keeps_old in [true, false] {
            let mut words = tuner_arena(&file, &recipe);
            let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
            if stages.is_empty() {
                stages.push(stage(subject, &mut tuner, Version::Factory, "factory, class unknown")?);
            }
            for (input, label) in &subject.adaptation {
                objective::observe(&mut tuner, input, *label)?;
            }
            tuner.add_class()?;
            if stages.len() == 1 {
                tuner.requantize()?;
                stages.push(stage(subject, &mut tuner, Version::Tuned, "class added, untuned")?);
            }
            if !keeps_old {
                tuner.forget();
                for (input, label) in subject.adaptation.iter().filter(|(_, label)| *label == new) {
                    objective::observe(&mut tuner, input, *label)?;
                }
            }
            tuner.start(recipe)?;
            while !tuner.step()?.finished {}
            tuner.requantize()?;
            let replay = if keeps_old { "all classes in the replay" } else { "new class alone" };
            let done = format!("tuned with {}, {replay}", method_name(recipe.method));
            stages.push(stage(subject, &mut tuner, Version::Tuned, &done)?);
        }
    }
    let count = |samples: &[(Vec<i8>, usize)]| {
        let added = samples.iter().filter(|(_, label)| *label == new).count();
        SampleCounts { old_classes: samples.len() - added, new_class: added }
    };
    Ok(Addition {
        subject: subject.name.clone(),
        class: subject.classes[new].clone(),
        samples: count(&subject.adaptation),
        tested: count(&subject.test),
        stages,
    })
}

fn stage(subject: &Subject, tuner: &mut Tuner, version: Version, done: &str) -> Result<Stage> {
    let new = subject.classes.len() - 1;
    let mut counts = [[0u32; 2]; 2];
    for (input, label) in &subject.test {
        let output = tuner.infer(input, version)?.to_vec();
        let [right, all] = &mut counts[usize::from(*label == new)];
        *right += u32::from(tuner.answer(&output, version) == *label);
        *all += 1;
    }
    let [old_classes, new_class] = counts.map(|[right, all]| f64::from(right) / f64::from(all.max(1)));
    Ok(Stage { done: done.to_owned(), old_classes, new_class })
}

impl fmt::Display for Addition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, class, samples, tested, .. } = self;
        let SampleCounts { old_classes: old, new_class: new } = samples;
        let SampleCounts { old_classes: old_tested, new_class: new_tested } = tested;
        writeln!(f, "{subject}: class {class} left out of the last layer, then added from {new} samples")?;
        writeln!(
            f,
            "replay: {old} samples of the others; tested on {old_tested} of the others, {new_tested} of {class}"
        )?;
        writeln!(f, "The layers in front of the last were trained with {class} in the factory.\n")?;
        let width = self.stages.iter().map(|stage| stage.done.len()).max().unwrap_or(0);
        write!(f, "{:width$}  old classes  new class", "")?;
        for Stage { done, old_classes, new_class } in &self.stages {
            write!(f, "\n{done:width$}  {:9.1} %  {:7.1} %", old_classes * 100.0, new_class * 100.0)?;
        }
        Ok(())
    }
}
