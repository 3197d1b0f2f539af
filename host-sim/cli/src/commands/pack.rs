//! `flatmin pack`: the device format, and its constants in Rust.

use crate::answer::{print, print_json};
use crate::arguments::{LossArgument, calibrated_by, misused};
use anyhow::{Context, Result, bail};
use clap::Args;
use flatmin::internals::closed_form::Statistics;
use flatmin_model::inspect;
use flatmin_model::model::Model;
use flatmin_model::output::{ensure_apart, write_file};
use flatmin_model::packer::{Repeated, TailPlan};
use flatmin_model::recipe_file::{Firmware, RecipeFile};
use std::path::{Path, PathBuf};

/// Write the device format, and a Rust file with its constants beside it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  flatmin pack model.tflite --layers 3 --train biases,biases,all -o model.pack\n  \
        flatmin pack model.tflite --layers 1 --spare-classes 2 -o model.pack\n  \
        flatmin pack --recipe recipe.toml -o model.pack"
)]
pub struct Arguments {
    /// A full-integer int8 .tflite or QDQ .onnx (default: the recipe's)
    #[arg(required_unless_present = "recipe")]
    model: Option<PathBuf>,
    /// Take what no option names from this file, and write RECIPE, OPERATORS and ARENA_BYTES into the Rust file, too; what
    /// exceeds its budget of RAM is refused
    #[arg(long, value_name = "recipe.toml")]
    recipe: Option<PathBuf>,
    /// Layers with weights to train, counted from the end; 0 packs it for inference alone (default: 2,
    /// or 1 if the network has no more)
    #[arg(long)]
    layers: Option<usize>,
    /// What of each layer is trained, first to last: as of `flatmin tune`; the rest whole
    #[arg(long, value_delimiter = ',', value_name = "WHAT,WHAT")]
    train: Vec<Repeated>,
    /// What its tail is to be tuned with (default: binary cross-entropy where the network ends in a logistic
    /// function, else cross-entropy)
    #[arg(long)]
    loss: Option<LossArgument>,
    /// Spare outputs after those of the known classes, for classes that are added on the device (default: 0)
    #[arg(long, value_name = "N")]
    spare_classes: Option<u16>,
    /// Samples that the model knows, X.npy [Y.npy], one .npz or one CSV: the pack keeps their class means and covariance for
    /// heads in closed form; without labels the model's answers stand in
    #[arg(long, num_args = 1..=2, value_names = ["X.npy", "Y.npy"])]
    calibration: Vec<PathBuf>,
    /// Where to write the pack; the Rust file gets the same name with .rs
    #[arg(short, long)]
    output: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { model, recipe, layers, train, loss, spare_classes, calibration, output, json } =
        arguments;
    let recipe = recipe.map(|path| RecipeFile::read(&path).map(|own| (path, own))).transpose()?;
    // Options win over the file.
    let inference = layers == Some(0);
    let given = RecipeFile {
        model,
        layers: layers.filter(|&layers| layers > 0).map(layer_count).transpose()?,
        train: (!train.is_empty()).then(|| Repeated::all(&train)),
        loss: loss.map(LossArgument::loss),
        spare_classes,
        ..RecipeFile::default()
    };
    let own = given.or(&recipe.as_ref().map(|(_, own)| own.clone()).unwrap_or_default());
    let Some(path) = &own.model else {
        return Err(misused("the recipe's file names no model: give <MODEL>".into()));
    };
    let read = || recipe.iter().map(|(path, _)| path).chain(&calibration).chain([path]).map(PathBuf::as_path);
    for written in [&output, &output.with_extension("rs")] {
        ensure_apart(written, read())?;
    }
    let model = calibrated_by(own.open()?, &calibration)?;
    let model = model.with_spare_classes(own.spare_classes.unwrap_or(0).into())?;
    let tail = if inference { TailPlan::default() } else { own.tail(&model)? };
    pack(&model, &tail, recipe.map(|(path, _)| (path, own)).as_ref(), &output, json)
}

fn layer_count(layers: usize) -> Result<u16> {
    u16::try_from(layers).map_err(|_| misused(format!("--layers {layers}: no network has as many")))
}

fn pack(
    model: &Model,
    tail: &TailPlan,
    recipe: Option<&(PathBuf, RecipeFile)>,
    output: &Path,
    json: bool,
) -> Result<()> {
    let file = model.pack(tail)?;
    let rust = output.with_extension("rs");
    if rust == output {
        bail!(
            "{}: the pack would be overwritten by its Rust file; choose another extension",
            output.display()
        );
    }
    let write = |path: &Path, bytes: &[u8]| {
        write_file(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    let constants = match recipe {
        Some((path, own)) => {
            own.rust(&file, output, Firmware::Application).with_context(|| path.display().to_string())?
        }
        None => inspect::constants(&file, output)?,
    };
    write(output, file.bytes())?;
    write(&rust, constants.as_bytes())?;
    let sizes = file.pack().sizes();
    if json {
        let object = serde_json::json!({
            "pack": output, "rust": rust, "bytes": file.bytes().len(), "pack_crc32": file.pack().crc32(),
            "tail_parameters": sizes.tail_parameters, "feature_length": sizes.feature_length,
            "statistics_bytes": file.pack().statistics().map_or(0, |own| Statistics::bytes(own.classes(), own.features())),
            "classes": file.pack().known_classes(), "spare_classes": file.pack().spare_classes(),
        });
        print_json(object)
    } else {
        let (bytes, parameters) = (file.bytes().len(), sizes.tail_parameters);
        let (output, rust) = (output.display(), rust.display());
        print(format_args!("{output}: {bytes} bytes, {parameters} trainable parameters\n{rust}: constants"))?;
        for layer in file.pack().trained_layers() {
            let chosen = file.pack().chosen_inputs(&layer);
            if !chosen.is_empty() {
                let step = usize::from(layer.index);
                let by = if model.network.energies.contains_key(&step) { "gradients" } else { "weights" };
                let (index, of) = (model.network.steps[step].index, layer.input_channels());
                let listed = chosen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                let count = chosen.len();
                print(format_args!("operator {index}: {count} of {of} channels, by their {by}: {listed}"))?;
            }
        }
        Ok(())
    }
}
