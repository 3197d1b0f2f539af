//! `flatmin add-class`: a class left out and added again.

use crate::answer::{print, print_json};
use crate::arguments::{Adaptation, BasisArguments, FurtherArguments, PartsArguments, StepArguments};
use anyhow::Result;
use clap::Args;
use flatmin::Recipe;
use flatmin_sim::adding;
use std::path::PathBuf;

/// Leave a class out of the last layer, add it again from samples, and tell what became of the others
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  flatmin add-class --wearer 1 --leave-out 6\n  \
    flatmin add-class model.tflite --data x.npy y.npy --leave-out 3 --layers 1 --method sam --json")]
pub struct Arguments {
    /// A full-integer int8 .tflite or QDQ .onnx; without it the bundled model of --wearer
    #[arg(requires = "data")]
    model: Option<PathBuf>,
    #[command(flatten)]
    adaptation: Adaptation,
    /// The class, from 0; it becomes the last one
    #[arg(long, value_name = "CLASS")]
    leave_out: usize,
    #[command(flatten)]
    basis: BasisArguments,
    #[command(flatten)]
    parts: PartsArguments,
    #[command(flatten)]
    steps: StepArguments,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { model, adaptation, leave_out, basis, parts, steps } = arguments;
    let options = basis.read(FurtherArguments { parts, steps, ..Default::default() })?;
    options.without_acceptance()?;
    options.without_closed_form()?;
    options.without_compact()?;
    options.without_spare_classes()?;
    let subject =
        adaptation.subject(model.as_deref(), &options)?.labelled("add-class")?.leaving_out(leave_out)?;
    let recipes: Vec<Recipe> = options.methods().into_iter().map(|m| options.recipe(m)).collect();
    let addition = adding::add(&subject, &options.tail(&subject)?, &recipes)?;
    if options.json { print_json(&addition) } else { print(addition) }
}
