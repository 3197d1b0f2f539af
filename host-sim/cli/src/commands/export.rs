//! `flatmin export`: the tuned layers written back into the .tflite.

use crate::answer::{bar, print, print_json};
use crate::arguments::{
    Adaptation, BasisArguments, CompactArguments, FurtherArguments, JudgementArguments, LossArguments,
    PageArguments, PartsArguments, SpareArguments, StepArguments, TuneOptions,
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use flatmin_model::output::{ensure_apart, write_file};
use flatmin_sim::subject::Subject;
use flatmin_sim::{delta, export};
use std::path::{Path, PathBuf};

/// Tune, and write the tuned layers back into the .tflite: it answers as the tuned device does
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  flatmin export --wearer 3 --method asam -o tuned.tflite\n  \
    flatmin export model.tflite --data x.npy y.npy --method sam -o tuned.tflite\n  \
    flatmin export --layers 7 --integer -o tuned.tflite\n  \
    flatmin export model.tflite --data x.npy y.npy --method closed-form -o tuned.tflite")]
pub struct Arguments {
    /// A full-integer int8 .tflite; without it the bundled model of --wearer
    #[arg(requires = "data")]
    model: Option<PathBuf>,
    #[command(flatten)]
    adaptation: Adaptation,
    /// Where to write the tuned .tflite
    #[arg(short, long)]
    output: PathBuf,
    /// Also write what of the tail differs from the factory's: `flatmin device restore` takes it
    #[arg(long, value_name = "FILE")]
    delta: Option<PathBuf>,
    #[command(flatten)]
    basis: BasisArguments,
    #[command(flatten)]
    parts: PartsArguments,
    #[command(flatten)]
    spare: SpareArguments,
    #[command(flatten)]
    steps: StepArguments,
    #[command(flatten)]
    loss: LossArguments,
    #[command(flatten)]
    judgement: JudgementArguments,
    #[command(flatten)]
    compact: CompactArguments,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { model, adaptation, output, delta, basis, parts, spare, steps, loss, judgement, compact } =
        arguments;
    let page = PageArguments::default();
    let options = basis.read(FurtherArguments { parts, spare, steps, loss, judgement, compact, page })?;
    options.without_compact_closed_form()?;
    let model = adaptation.model(model.as_deref(), &options);
    let read = || model.into_iter().chain(adaptation.files());
    ensure_apart(&output, read())?;
    if let Some(delta) = &delta {
        ensure_apart(delta, read())?;
        ensure!(*delta != output, "{}: --output and --delta are one file", output.display());
    }
    let subject = adaptation.calibrated_subject(model, &options)?;
    export_tuned(&subject, (&output, delta.as_deref()), &options)
}

/// With the default recipe's method unless another is asked for.
fn export_tuned(
    subject: &Subject,
    (output, delta): (&Path, Option<&Path>),
    options: &TuneOptions,
) -> Result<()> {
    let tail = options.tail(subject)?;
    let options = &options.for_tail(subject, &tail)?;
    let training = options.one_training(options.start(subject, &tail)?);
    let bar = bar(if training.steps { options.epochs() } else { 0 }, "epochs, {eta} left")?;
    let export = export::export(subject, &tail, &training, || bar.inc(1))?;
    bar.finish_and_clear();
    write_file(output, &export.bytes).with_context(|| format!("cannot write {}", output.display()))?;
    let delta_bytes = match delta {
        Some(path) => {
            let file = subject.model.pack(&tail)?;
            let bytes = delta::encode(&file, &export.tail)?;
            write_file(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
            Some(bytes.len())
        }
        None => None,
    };
    let (bytes, checked, method) = (export.bytes.len(), export.checked, training.name());
    if options.json {
        print_json(serde_json::json!({
            "output": output, "bytes": bytes, "method": method, "layers": tail.layers, "samples_checked": checked,
            "delta": delta, "delta_bytes": delta_bytes,
        }))
    } else {
        let path = output.display();
        print(format_args!(
            "{path}: {bytes} bytes, {} layer(s) tuned with {method}; {checked} test samples answered as by the tuned device",
            tail.layers
        ))
    }
}
