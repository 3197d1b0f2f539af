//! `flatmin tune --auto`: `plan` without a budget, then a run with what it advises.

use super::plan::found;
use crate::answer::{json, note, print, print_json};
use crate::arguments::TuneOptions;
use anyhow::{Context, Result, bail};
use flatmin_model::recipe_file::RecipeFile;
use flatmin_sim::planning::{Budget, Findings, Tails};
use flatmin_sim::report::Report;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, Training, train};
use std::path::Path;

/// Chooses a recipe, tunes with it, and tests on the samples that had no say.
pub fn run(subject: &Subject, trials: usize, options: &TuneOptions, page: Option<&Path>) -> Result<()> {
    if options.is_judged() {
        bail!("--auto judges by splits of its own: leave out --held-out and --keep-best");
    }
    options.without_compact()?;
    options.without_spare_classes()?;
    let tails = match options.given.layers {
        Some(_) => Tails::Only(options.tail(subject)?),
        None => Tails::Within(super::plan::PLANNED_LAYERS),
    };
    let own = options.recipe_file.budget;
    let budget = Budget { ram_bytes: own.ram, step_macs: own.macs };
    let findings = found(subject, &tails, budget, trials, options)?;
    let Some(recipe) = &findings.recipe else {
        if options.json {
            return print_json(serde_json::json!({
                "factory_accuracy": findings.factory_test_accuracy, "runs": [], "auto": findings,
            }));
        }
        return print(findings);
    };
    let report = tuned(subject, recipe, &findings, options)?;
    if let Some(page) = page {
        report.write_html(page)?;
        note(format_args!("report: {}", page.display()));
    }
    if options.json {
        let mut fields = json(&report);
        fields["auto"] = serde_json::to_value(&findings)?;
        return print_json(&fields);
    }
    print(&findings)?;
    print(report.to_text())
}

fn tuned(
    subject: &Subject,
    recipe: &RecipeFile,
    findings: &Findings,
    options: &TuneOptions,
) -> Result<Report> {
    let method = recipe.recipe.method.context("a recipe has a method")?;
    let start = recipe.start.unwrap_or(Start::Factory);
    let chosen = TuneOptions { recipe_file: recipe.clone(), ..options.clone() };
    let tail = chosen.tail(subject)?;
    let run = train(subject, &tail, &Training::of(recipe, method, start), || {})?;
    let title = format!("{}, recipe chosen in {} trials", subject.name, findings.trials);
    Ok(Report::new(title, std::slice::from_ref(subject), chosen.settings(&tail, start), vec![run]))
}
