//! Without a command: every bundled wearer, held out in turn, by every method on one layer, two and all.

use crate::answer::{bar, json, note, print, print_json};
use crate::arguments::{
    BasisArguments, CompactArguments, FurtherArguments, JudgementArguments, PageArguments, PartsArguments,
    StepArguments, TuneOptions,
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use flatmin::{Method, Recipe};
use flatmin_model::packer::TailPlan;
use flatmin_sim::report::{Overview, Part, Report, TuningRun};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, Tail, Training, train};
use flatmin_sim::wearers::WEARERS;
use indicatif::ProgressBar;
use rayon::prelude::*;
use std::path::PathBuf;

/// The main job's options.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    basis: BasisArguments,
    #[command(flatten)]
    parts: PartsArguments,
    #[command(flatten)]
    steps: StepArguments,
    #[command(flatten)]
    compact: CompactArguments,
    #[command(flatten)]
    judgement: JudgementArguments,
    #[command(flatten)]
    page: PageArguments,
}

impl Arguments {
    /// These options, and from the recipe's file what they leave out.
    pub fn read(self) -> Result<TuneOptions> {
        let Self { basis, parts, steps, compact, judgement, page } = self;
        basis.read(FurtherArguments { parts, steps, compact, judgement, page, ..Default::default() })
    }
}

/// Shares of flipped labels where none is named.
const NOISES: [f64; 3] = [0.0, 0.2, 0.4];
/// Layers that the report's page is of, where it has a choice.
const PAGE_LAYERS: usize = 2;

/// What is done to every subject.
struct Plan {
    tail: TailPlan,
    noise: f64,
    start: Start,
    integer: bool,
    trainings: Vec<Training>,
}

pub fn run(options: &TuneOptions) -> Result<()> {
    ensure!(
        options.recipe_file.model.is_none(),
        "the bundled wearers have models of their own: `flatmin tune --recipe` takes the recipe's"
    );
    let clean = TuneOptions { label_noise: Some(0.0), ..options.clone() };
    let subjects = (1..=WEARERS).map(|w| clean.wearer(w)?.calibrated(w)).collect::<Result<Vec<_>>>()?;
    let first = subjects.first().context("there is a first wearer")?;
    let all = first.model.network.trainable_layers();
    let plans = plans(options, first)?;
    let jobs: usize = plans.iter().map(|plan| plan.trainings.len() * subjects.len()).sum();
    let bar = bar(jobs as u64, "runs, {eta} left")?;
    let parts = (plans.into_iter())
        .map(|plan| {
            let noisy: Vec<Subject> =
                subjects.iter().map(|own| own.clone().with_label_noise(plan.noise, options.seed())).collect();
            let runs = tuned(&noisy, &plan, &bar)?;
            let settings = TuneOptions { label_noise: Some(plan.noise), ..options.clone() }
                .settings(&plan.tail, plan.start);
            let report = Report::new("Held-out wearers, bundled model".to_owned(), &noisy, settings, runs);
            let layers = plan.tail.layers;
            let closed_form = plan.start == Start::ClosedForm;
            let integer = plan.integer;
            Ok(Part { layers, all: layers == all, closed_form, integer, label_noise: plan.noise, report })
        })
        .collect::<Result<Vec<_>>>()?;
    bar.finish_and_clear();
    show(&Overview { parts }, options)
}

/// Layers by layers, and for each the shares of flipped labels. The head in closed form is one of the last layer.
fn plans(options: &TuneOptions, subject: &Subject) -> Result<Vec<Plan>> {
    let all = subject.model.network.trainable_layers();
    let tail = |layers| subject.model.tail_plan(Some(layers), options.train());
    let depths = options.layers().map_or_else(|| vec![1, 2, all], |layers| vec![layers]);
    let noises = options.label_noise.map_or_else(|| NOISES.to_vec(), |share| vec![share]);
    let mut plans = Vec::new();
    for (place, &layers) in depths.iter().enumerate() {
        for &noise in &noises {
            let tail = tail(layers)?;
            let options = &options.for_tail(subject, &tail)?;
            let start = options.start(subject, &tail)?;
            let mut trainings = options.trainings(start);
            if place == 0 && options.recipe_file.recipe.method.is_none() && options.tuner() == Tail::Full {
                trainings.insert(0, Training::closed_form(options.recipe(Recipe::DEFAULT.method)));
            }
            // The page shows the way of its layers alone.
            trainings.iter_mut().for_each(|own| own.curve = layers == PAGE_LAYERS || depths.len() == 1);
            plans.push(Plan { tail, noise, start, integer: options.tuner() != Tail::Full, trainings });
        }
    }
    if options.layers().is_none() && options.is_plain() {
        for &noise in &noises {
            plans.extend(factory_plan(options, subject, tail(all)?, noise)?);
        }
        for &noise in &noises {
            plans.push(integer_plan(options, subject, tail(all)?, noise)?);
        }
    }
    Ok(plans)
}

/// All layers from the factory's weights, as those of a model without the factory's statistics are trained, by SGD and ASAM: where
/// ASAM helps. `None` where the rows above begin there.
fn factory_plan(
    options: &TuneOptions,
    subject: &Subject,
    tail: TailPlan,
    noise: f64,
) -> Result<Option<Plan>> {
    let options = &options.for_tail(subject, &tail)?;
    if options.start(subject, &tail)? == Start::Factory {
        return Ok(None);
    }
    let mut trainings = options.trainings(Start::Factory);
    trainings.retain(|own| own.recipe.method != Method::Sam);
    trainings.iter_mut().for_each(|own| own.curve = false);
    Ok(Some(Plan { tail, noise, start: Start::Factory, integer: false, trainings }))
}

/// All layers in integers, by the method that takes least.
fn integer_plan(options: &TuneOptions, subject: &Subject, tail: TailPlan, noise: f64) -> Result<Plan> {
    let options = &options.in_integers(subject, &tail)?;
    let start = options.start(subject, &tail)?;
    let mut trainings = options.trainings(start);
    trainings.retain(|own| own.recipe.method == Method::Sgd);
    trainings.iter_mut().for_each(|own| own.curve = false);
    Ok(Plan { tail, noise, start, integer: true, trainings })
}

fn tuned(subjects: &[Subject], plan: &Plan, bar: &ProgressBar) -> Result<Vec<TuningRun>> {
    let jobs: Vec<(&Subject, &Training)> =
        subjects.iter().flat_map(|s| plan.trainings.iter().map(move |training| (s, training))).collect();
    let run = |(subject, training): &(&Subject, &Training)| {
        let run = train(subject, &plan.tail, training, || {});
        bar.inc(1);
        run.with_context(|| format!("tuning with {}", training.name()))
    };
    jobs.par_iter().map(run).collect()
}

fn show(overview: &Overview, options: &TuneOptions) -> Result<()> {
    let page = if options.json { None } else { Some(PathBuf::from("flatmin-report.html")) };
    if let Some(page) = options.report.clone().or(page) {
        let parts = &overview.parts;
        let part = parts.iter().find(|part| part.layers == PAGE_LAYERS).or(parts.first());
        overview.write_html(part.context("one run at least is asked for")?, &page)?;
        note(format_args!("report: {}", page.display()));
    }
    if !options.json {
        return print(overview.to_text());
    }
    let mut runs = Vec::new();
    for part in &overview.parts {
        let mut own = json(&part.report);
        for run in own["runs"].as_array_mut().into_iter().flatten() {
            run["layers"] = part.layers.into();
            run["start"] = if part.closed_form { "closed-form" } else { "factory" }.into();
            run["integer"] = part.integer.into();
            run["label_noise"] = part.label_noise.into();
            runs.push(run.take());
        }
    }
    let factory = overview.factory().map(|own| own.mean);
    print_json(serde_json::json!({ "factory_accuracy": factory, "runs": runs }))
}
