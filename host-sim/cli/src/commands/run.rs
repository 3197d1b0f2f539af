//! `flatmin run`: plain int8 inference.

use crate::answer::{print, print_json};
use anyhow::{Result, bail};
use clap::Args;
use flatmin_model::model::Model;
use flatmin_model::output::ensure_apart;
use flatmin_sim::inference::{self, Rows, Values};
use flatmin_sim::samples::{Samples, write_npy_f32, write_npy_i8, write_npy_u8};
use flatmin_sim::subject::sample_shape_in;
use std::path::PathBuf;

/// Plain int8 inference with the crate's own kernels
#[derive(Debug, Args)]
#[command(after_help = "Example: flatmin run model.tflite --input x.npy --output y.npy")]
pub struct Arguments {
    /// A full-integer int8 .tflite or QDQ .onnx
    model: PathBuf,
    /// int8 or float32 .npy, batch first; float32 is quantized with the model's input parameters. Once for
    /// each input of the model
    #[arg(long, required = true)]
    input: Vec<PathBuf>,
    /// Where to write the network's outputs, batch first, in the model's own type. Once for each output
    #[arg(long, required = true)]
    output: Vec<PathBuf>,
    /// Take the samples as one stream: a network that keeps variables keeps them from each to the next. Without it
    /// every sample, of one hop or of several, begins with the variables' first values
    #[arg(long)]
    stream: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { model, input: inputs, output: outputs, stream, json } = arguments;
    let rows = if *stream { Rows::Hops } else { Rows::Samples };
    for output in outputs {
        ensure_apart(output, inputs.iter().map(PathBuf::as_path).chain([model.as_path()]))?;
    }
    let model = Model::open(model)?;
    if *stream && model.network.variables.is_empty() {
        bail!("{}: --stream is of networks that keep variables, this one keeps none", model.name);
    }
    let network = &model.network;
    if inputs.len() != network.inputs.len() || outputs.len() != network.outputs.len() {
        bail!(
            "{}: {} input(s) and {} output(s) are expected, {} and {} given",
            model.name,
            network.inputs.len(),
            network.outputs.len(),
            inputs.len(),
            outputs.len()
        );
    }
    let batches = inputs
        .iter()
        .zip(&network.inputs)
        .map(|(path, border)| {
            let shape = sample_shape_in(&model, path, border.sample_shape())?;
            Ok(Samples::inputs_from_npy(path, &shape)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let samples = batches.first().map_or(0, |batch| batch.count);
    let results = inference::run(&model, &batches, rows)?;
    let mut shapes = Vec::new();
    for ((path, border), values) in outputs.iter().zip(&network.outputs).zip(&results) {
        let mut shape = vec![samples];
        shape.extend(border.sample_shape());
        match values {
            Values::I8(values) => write_npy_i8(path, values, &shape)?,
            Values::U8(values) => write_npy_u8(path, values, &shape)?,
            Values::F32(values) => write_npy_f32(path, values, &shape)?,
        }
        shapes.push(shape);
    }
    if *json {
        print_json(serde_json::json!({ "samples": samples, "outputs": outputs, "shapes": shapes }))
    } else {
        let names: Vec<_> = outputs.iter().map(|path| path.display().to_string()).collect();
        print(format_args!("{}: {samples} samples", names.join(", ")))
    }
}
