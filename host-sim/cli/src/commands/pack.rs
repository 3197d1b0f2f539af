//! `flatmin pack`: the device format, and its constants in Rust.

use crate::answer::{print, print_json};
use crate::arguments::{LossArgument, calibrated_by, misused};
use anyhow::{Context, Result, bail};
use clap::Args;
use flatmin::internals::closed_form::Statistics;
use flatmin_model::inspect;
use flatmin_model::model::Model;
use flatmin_model::output::{ensure_apart, write_file};
use flatmin_model::packer::{TailPlan, Trains};
use flatmin_model::recipe_file::RecipeFile;
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
    /// What of each layer is trained, first to last; the rest whole
    #[arg(long, value_delimiter = ',', value_name = "WHAT,WHAT")]
    train: Vec<Trains>,
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
    let own = recipe.as_ref().map(|(_, own)| own.clone()).unwrap_or_default();
    let Some(path) = model.or_else(|| own.model.clone()) else {
        return Err(misused("the recipe's file names no model: give <MODEL>".into()));
    };
    let read =
        || recipe.iter().map(|(path, _)| path).chain(&calibration).chain([&path]).map(PathBuf::as_path);
    for written in [&output, &output.with_extension("rs")] {
        ensure_apart(written, read())?;
    }
    let layers = layers.or(own.layers.map(usize::from));
    let train = if train.is_empty() { own.train.clone().unwrap_or_default() } else { train };
    let spare_classes = spare_classes.or(own.spare_classes).unwrap_or(0).into();
    let model = Model::open(&path)?.with_loss(loss.map(LossArgument::loss).or(own.loss));
    let model = calibrated_by(model, &calibration)?.with_spare_classes(spare_classes)?;
    // The closed form solves the last layer.
    let layers = layers.or(own.is_closed_form().then_some(1));
    let tail = if layers == Some(0) { TailPlan::default() } else { model.tail_plan(layers, &train)? };
    pack(&model, &tail, recipe.as_ref(), &output, json)
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
    let mut constants = inspect::constants(&file, output)?;
    if let Some((path, own)) = recipe {
        constants += &own.constants(&file).with_context(|| path.display().to_string())?;
    }
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
        print(format_args!("{output}: {bytes} bytes, {parameters} trainable parameters\n{rust}: constants"))
    }
}
