//! `flatmin inspect`: what a model is made of, and what training it takes.

use crate::answer::{print, print_json};
use anyhow::Result;
use clap::Args;
use flatmin::Recipe;
use flatmin_model::inspect;
use flatmin_model::model::Model;
use std::path::PathBuf;

/// Layers, shapes, scales and MACs of a model, and what training each possible tail would take
#[derive(Debug, Args)]
#[command(after_help = "Example: flatmin inspect model.tflite --json")]
pub struct Arguments {
    /// A full-integer int8 .tflite or QDQ .onnx
    model: PathBuf,
    /// Labelled samples that the device keeps
    #[arg(long, default_value_t = Recipe::DEFAULT.replay_capacity)]
    replay_capacity: u16,
    /// Samples per SAM perturbation (m): more than one takes a gradient buffer
    #[arg(long, default_value_t = Recipe::DEFAULT.sharpness_batch)]
    sharpness_batch: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let &Arguments { ref model, replay_capacity, sharpness_batch, json } = arguments;
    let recipe = Recipe { replay_capacity, sharpness_batch, ..Recipe::DEFAULT };
    let inspection = inspect::inspect(&Model::open(model)?, &recipe)?;
    if json { print_json(&inspection) } else { print(inspection) }
}
