//! `flatmin plan`: what to train, and how, within a budget.

use crate::answer::{bar, note, print, print_json};
use crate::arguments::quantity::{parse_bytes, parse_count};
use crate::arguments::{
    Adaptation, BasisArguments, FurtherArguments, LossArguments, PageArguments, StepArguments, TuneOptions,
    misused,
};
use anyhow::{Context, Result};
use clap::{Args, value_parser};
use flatmin_model::output::{ensure_apart, write_file};
use flatmin_sim::planning::{self, Budget, Findings, TRIALS, Tails};
use flatmin_sim::subject::Subject;
use std::path::{Path, PathBuf};

/// Layers that a plan looks back.
pub const PLANNED_LAYERS: usize = 8;

/// Search what to train and how: which layers, what of them, the method and its hyperparameters, within a budget of RAM and
/// multiply-adds. Half of each class is kept for the final test. The answer is a recipe that every command takes
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  flatmin plan --wearer 1 --ram 96K\n  \
    flatmin plan model.tflite --ram 64K --macs 2M --data x.npy y.npy -o recipe.toml --report plan.html",
    mut_arg("layers", |own| own.help("Layers with weights to search, counted from the end (default: 8)")))]
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
    /// Runs to find out by: more of them try more, and judge the better ones more often. The default, the head in closed
    /// form and steps from it take 6 each in any case
    #[arg(long, value_name = "N", default_value_t = TRIALS as u32, value_parser = value_parser!(u32).range(1..=1_000_000))]
    trials: u32,
    /// Write the recipe here: for --recipe
    #[arg(short, long, value_name = "recipe.toml")]
    output: Option<PathBuf>,
    #[command(flatten)]
    adaptation: Adaptation,
    /// What options name is not searched.
    #[command(flatten)]
    basis: BasisArguments,
    #[command(flatten)]
    steps: StepArguments,
    #[command(flatten)]
    loss: LossArguments,
    #[command(flatten)]
    page: PageArguments,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { model, ram, macs, trials, output, adaptation, basis, steps, loss, page } = arguments;
    let options = basis.read(FurtherArguments { steps, loss, page, ..Default::default() })?;
    options.without_choice()?;
    let own = options.recipe_file.budget;
    let Some(ram_bytes) = ram.or(own.ram) else {
        return Err(misused("--ram is needed, or a recipe's file with a budget".into()));
    };
    let model = adaptation.model(model.as_deref(), &options);
    if let Some(output) = &output {
        ensure_apart(output, model.into_iter().chain(adaptation.files()))?;
    }
    let subject = adaptation.calibrated_subject(model, &options)?.labelled("plan")?;
    let budget = Budget { ram_bytes: Some(ram_bytes), step_macs: macs.or(own.macs) };
    let tails = Tails::Within(options.given.layers.map_or(PLANNED_LAYERS, usize::from));
    let mut findings = found(&subject, &tails, budget, trials as usize, &options)?;
    if let Some(recipe) = &mut findings.recipe {
        recipe.model = model.map(Path::to_path_buf);
    }
    if let Some(page) = &options.report {
        write_page(&findings, page)?;
    }
    if let (Some(output), Some(recipe)) = (&output, &findings.recipe) {
        recipe.write(output)?;
    }
    if options.json {
        return print_json(&findings);
    }
    print(&findings)?;
    match (&findings.recipe, &output) {
        (Some(_), Some(output)) => print(format_args!("the recipe: {}", output.display())),
        (Some(recipe), None) => print(format_args!("\n{}", recipe.to_text()?.trim_end())),
        (None, Some(output)) => print(format_args!("{} is not written", output.display())),
        (None, None) => Ok(()),
    }
}

/// The search, with a bar.
pub fn found(
    subject: &Subject,
    tails: &Tails,
    budget: Budget,
    trials: usize,
    options: &TuneOptions,
) -> Result<Findings> {
    let bar = bar(trials as u64, "trials, {eta} left")?;
    let findings = planning::search(subject, &options.searched(), tails, budget, trials, &bar)?;
    bar.finish_and_clear();
    Ok(findings)
}

fn write_page(findings: &Findings, page: &Path) -> Result<()> {
    let table = findings.to_string().replace('&', "&amp;").replace('<', "&lt;");
    let svg = findings.svg()?;
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>flatmin plan</title>\n{svg}\n\
         <pre>{table}</pre>\n</html>\n"
    );
    write_file(page, html.as_bytes()).with_context(|| format!("cannot write {}", page.display()))?;
    note(format_args!("report: {}", page.display()));
    Ok(())
}
