//! `flatmin tune --auto`: the search's progress and what it prints.

use crate::answer::{json, print, print_json};
use crate::arguments::TuneOptions;
use anyhow::{Context, Result, bail};
use flatmin::Loss;
use flatmin_sim::auto::{Score, Search, candidates, search};
use flatmin_sim::report::Report;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, method_name, tune};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::time::Duration;

/// Candidates that the table shows; `--json` has all.
const SHOWN: usize = 12;

/// Chooses a recipe, tunes with it, and tests on the samples that had no say.
pub fn run(subject: &Subject, seconds: f64, options: &TuneOptions, page: Option<&Path>) -> Result<()> {
    if options.is_judged() {
        bail!("--auto judges by splits of its own: leave out --held-out and --keep-best");
    }
    options.without_recipe()?;
    if subject.model.network.loss() == Loss::SquaredError {
        bail!("--auto compares accuracies, and a squared error has none");
    }
    let tail = options.tail(subject)?;
    let method = options.one_method();
    let candidates = candidates(method, options.seed());
    if let (Some(method), true) = (method, candidates.is_empty()) {
        bail!(
            "--auto has no recipes of {}: leave out --method, or take sgd, sam or asam",
            method_name(method)
        );
    }
    let bar = ProgressBar::new(1_000);
    bar.set_style(ProgressStyle::with_template(
        "choosing: {bar:40} {percent} % of the time, {elapsed} gone",
    )?);
    let budget = Duration::try_from_secs_f64(seconds).context("--auto")?;
    let search = search(subject, &tail, &candidates, budget, options.seed(), |share| {
        bar.set_position((1_000.0 * share) as u64);
    })?;
    bar.finish_and_clear();
    let (setting, _) = search.chosen().context("no recipe was tried")?;
    let recipe = setting.recipe(options.seed(), u16::try_from(subject.adaptation.len())?);
    let run = tune(subject, &tail, recipe, || {})?;
    let mut settings = options.settings(&tail, Start::Factory);
    settings.retain(|(name, _)| {
        !["sharpness batch m", "learning rate", "label smoothing", "weight decay", "epochs"]
            .contains(&&**name)
    });
    settings.push(("recipe".into(), setting.to_string()));
    let title = format!("{}, recipe chosen in {:.0} s", subject.name, search.seconds);
    let report = Report::new(title, std::slice::from_ref(subject), settings, vec![run]);
    if let Some(page) = page {
        report.write_html(page)?;
        eprintln!("report: {}", page.display());
    }
    if options.json {
        let mut fields = json(&report);
        let mut recipe = serde_json::to_value(recipe)?;
        recipe["method"] = fields["runs"][0]["method"].clone();
        fields["auto"] = serde_json::json!({
            "seconds": search.seconds, "recipe": recipe, "factory": search.factory,
            "tried": search.tried, "left": search.left,
        });
        return print_json(&fields);
    }
    print(table(&search))?;
    print(report.to_text())
}

fn table(search: &Search) -> String {
    let line = |name: &str, score: &Score| {
        format!("{:6.1} %  {:8.3}  {:6}  {name}\n", 100.0 * score.accuracy, score.loss, score.splits)
    };
    let mut text = "right on samples that were not tuned on, mean loss, splits, recipe:\n".to_owned();
    text += &line("the factory's tail", &search.factory);
    for score in search.tried.iter().take(SHOWN) {
        text += &line(&score.setting.map_or(String::new(), |setting| setting.to_string()), score);
    }
    let hidden = search.tried.len().saturating_sub(SHOWN);
    text += &format!(
        "{} recipes tried ({hidden} not shown), {} left out for want of time",
        search.tried.len(),
        search.left
    );
    if search.tried.first().is_none_or(|best| best.accuracy <= search.factory.accuracy) {
        text += "\nnone does better than the factory's tail on these samples: keep that one";
    }
    text
}
