//! `flatmin plan`: what to train within a budget.

use crate::answer::{print, print_json};
use crate::arguments::quantity::{parse_bytes, parse_count};
use crate::arguments::{Adaptation, TuneArguments, TuneOptions, misused};
use anyhow::{Context, Result};
use clap::Args;
use flatmin::Recipe;
use flatmin_model::output::write_file;
use flatmin_sim::planning::{self, Budget};
use flatmin_sim::subject::Subject;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;

/// Layers that a plan looks back.
const PLANNED_LAYERS: usize = 8;

/// Search what to train: which layers, and what of them, within a budget of RAM and multiply-adds; half
/// of each class is kept for the final test
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  flatmin plan --wearer 1 --ram 96K\n  \
    flatmin plan model.tflite --ram 64K --macs 2000000 --data x.npy y.npy --method sam --report plan.html")]
pub struct Arguments {
    /// A full-integer int8 .tflite or QDQ .onnx; without it the bundled model of --wearer
    #[arg(requires = "data")]
    model: Option<PathBuf>,
    /// All RAM that a firmware may take: such as 65536, 64K, 96KiB or 0.1M
    #[arg(long, value_parser = parse_bytes)]
    ram: Option<usize>,
    /// Multiply-adds that a sample's share of a step may take, such as 2000000 or 2M
    #[arg(long, value_parser = parse_count)]
    macs: Option<u64>,
    #[command(flatten)]
    adaptation: Adaptation,
    /// --layers is how far back to search (default: 8), --method what to train with (default: sam)
    #[command(flatten)]
    options: TuneArguments,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { model, ram, macs, adaptation, options } = arguments;
    let options = options.read()?;
    options.without_choice()?;
    let subject = adaptation.subject(model.as_deref(), &options)?.labelled("plan")?;
    let own = options.recipe_file.budget;
    let Some(ram_bytes) = ram.or(own.ram) else {
        return Err(misused("--ram is needed, or a recipe's file with a budget".into()));
    };
    plan(&subject, Budget { ram_bytes, step_macs: macs.or(own.macs) }, &options)
}

/// With the default recipe's method unless another is asked for.
fn plan(subject: &Subject, budget: Budget, options: &TuneOptions) -> Result<()> {
    let method = options.one_method().unwrap_or(Recipe::DEFAULT.method);
    let depth = options.layers().unwrap_or(PLANNED_LAYERS);
    let bar = ProgressBar::new(1);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} plans tried, {eta} left")?);
    let findings = planning::search(subject, options.recipe(method), budget, depth, &bar)?;
    bar.finish_and_clear();
    if let Some(page) = &options.report {
        let table = findings.to_string().replace('&', "&amp;").replace('<', "&lt;");
        let svg = findings.svg()?;
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>flatmin plan</title>\n{svg}\n\
             <pre>{table}</pre>\n</html>\n"
        );
        write_file(page, html.as_bytes()).with_context(|| format!("cannot write {}", page.display()))?;
        eprintln!("report: {}", page.display());
    }
    if options.json { print_json(&findings) } else { print(findings) }
}
