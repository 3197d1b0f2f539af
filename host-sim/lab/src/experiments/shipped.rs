//! `shipped`: recipes that are fixed beforehand, for all tasks, all shares of flipped labels and few labels, against
//! SGD that was tuned for each of them: what a default may be.

use super::comparison::{Comparison, Entry, Source, table};
use super::contenders::{Protocol, SGD};
use super::corpus;
use super::ledger::Ledger;
use super::result::{Findings, Progress, Row, difference, markdown};
use super::statistics::Estimate;
use super::task::Task;
use super::trial::{Draw, Setting};
use anyhow::Result;
use flatmin::Method;
use std::path::Path;

/// The recipe that ships.
pub const SHIPPED: &str = "Recipe::DEFAULT";
/// The row of the factory's own accuracy.
pub const FACTORY: &str = "factory, not tuned";
const NOISES: [u32; 3] = [0, 20, 40];
const TASKS: [Task; 4] = [Task::Wearers, Task::Digits, Task::GasDrift, Task::Gestures];

/// Those that a look at the selection draws of `finetune` left.
fn candidates() -> Vec<(String, Setting)> {
    let sgd = |learning_rate: f32, label_smoothing: f32| Setting {
        method: Method::Sgd,
        rho: 0.0,
        learning_rate,
        label_smoothing,
        ..Setting::FINGERPRINT
    };
    let with = |method: Method, rho: f32, base: Setting| Setting { method, rho, ..base };
    let settings = [
        sgd(0.002, 0.0),
        sgd(0.002, 0.2),
        sgd(0.002, 0.4),
        sgd(0.005, 0.2),
        with(Method::Sam, 0.02, sgd(0.002, 0.2)),
        with(Method::Sam, 0.05, sgd(0.002, 0.2)),
        with(Method::Asam, 0.2, sgd(0.002, 0.2)),
        with(Method::Asam, 0.5, sgd(0.002, 0.2)),
        with(Method::Asam, 0.5, sgd(0.005, 0.0)),
    ];
    let named = settings.into_iter().map(|setting| (setting.to_string(), setting));
    named.chain(std::iter::once((SHIPPED.to_owned(), Setting::DEFAULT))).collect()
}

/// The table of a task.
pub fn name(task: Task) -> String {
    format!("fixed recipes: {}", task.title())
}

/// The table of a task on draws of the next seed.
pub fn fresh_name(task: Task) -> String {
    format!("{FRESH}{}", task.title())
}

/// What the names of tables on draws of the next seed begin with.
pub const FRESH: &str = "fresh draws: ";
/// SGD with the step and the smoothing of the recipe that ships.
pub const SAME_STEP: &str = "SGD, same step and smoothing";

/// What is measured of a task.
struct Measured {
    rows: Vec<Row>,
    /// Of the factory's tail, by condition.
    factories: Vec<f64>,
    missing: usize,
}

/// All conditions of a task; choices by the draws of `seed`, results of those of `judged`.
fn measure(
    ledger: &mut Ledger,
    task: Task,
    entries: &[Entry],
    (seed, judged): (u64, u64),
    quick: bool,
) -> Result<Measured> {
    let few = Draw { per_class: 2, ..corpus::usual(task) };
    let noises = if quick { vec![40] } else { NOISES.to_vec() };
    let mut measured = Measured { rows: Vec::new(), factories: Vec::new(), missing: 0 };
    for (label, base, noises) in [("", corpus::usual(task), noises), ("few", few, vec![0])] {
        let evaluation = Protocol::of(base, judged, quick).sweep().evaluation;
        let own = Protocol { evaluation, ..Protocol::of(base, seed, quick) };
        let entries = entries.iter().map(|entry| Entry { variable: label.into(), ..entry.clone() }).collect();
        let comparison = Comparison { table: "", entries, noises, baseline: 0 };
        match table(&comparison, &own, ledger)? {
            Ok(found) => {
                for &noise in &comparison.noises {
                    measured.factories.push(100.0 * own.factory(ledger, noise)?);
                }
                measured.rows.extend(found);
            }
            Err(runs) => measured.missing += runs,
        }
    }
    Ok(measured)
}

impl Measured {
    /// Its rows under a table's name, those of the factory first.
    fn named(&self, table: &str) -> Vec<Row> {
        let baselines = self.rows.iter().filter(|row| row.baseline.is_empty());
        let factories = baselines.zip(&self.factories).map(|(row, &value)| Row {
            method: FACTORY.into(),
            value: Estimate::exact(value),
            setting: String::new(),
            ..row.clone()
        });
        let all = factories.chain(self.rows.iter().cloned());
        all.map(|row| Row { table: table.to_owned(), ..row }).collect()
    }
}

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol, seed: u64, folder: &Path) -> Result<Progress> {
    let quick = protocol.quick;
    let tuned = Entry { method: "SGD, tuned for each".into(), ..Entry::tuned(&SGD, quick) };
    let fixed = |(method, setting)| Entry { method, variable: String::new(), source: Source::Fixed(setting) };
    let all: Vec<Entry> = std::iter::once(tuned.clone()).chain(candidates().into_iter().map(fixed)).collect();
    let same_step = Setting { method: Method::Sgd, rho: 0.0, ..Setting::DEFAULT };
    let confirmed =
        [tuned, fixed((SAME_STEP.to_owned(), same_step)), fixed((SHIPPED.to_owned(), Setting::DEFAULT))];
    let (mut rows, mut missing, mut first, mut fresh) = (Vec::new(), 0, String::new(), String::new());
    for task in TASKS {
        if let Some(path) = task.missing(folder) {
            eprintln!(
                "SKIPPED: {}: there is no {}; name its folder with --data-folder",
                task.title(),
                path.display()
            );
            first += &corpus::skipped(task.title(), &path);
            continue;
        }
        for (table, entries, judged, text) in [
            (name(task), &all[..], seed, &mut first),
            (fresh_name(task), &confirmed[..], seed.saturating_add(1), &mut fresh),
        ] {
            let measured = measure(ledger, task, entries, (seed, judged), quick)?;
            missing += measured.missing;
            *text += &section(task, &measured.rows, &measured.factories);
            rows.extend(measured.named(&table));
        }
    }
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let section = format!(
        "## Recipes for all\n\nRecipes that are the same for every task and share of flipped labels, against SGD tuned for each of them \
        on other subjects. Accuracy in percent and difference; 'few' has 2 clean labels a class.\n\n{first}\
        ## The recipe that ships, on fresh draws\n\nThe recipe was settled with the tables above in view. Here it is judged on the draws of the \
        next seed ({}), which had no say in any choice; SGD is tuned as above.\n\n{fresh}",
        seed.saturating_add(1)
    );
    Ok(Progress::Done(Findings { name: "shipped", rows, section, figures: Vec::new() }))
}

fn section(task: Task, rows: &[Row], factories: &[f64]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let conditions: Vec<&Row> = rows.iter().filter(|row| row.method == first.method).collect();
    let mut header = vec!["recipe".to_owned()];
    header.extend(
        conditions.iter().map(|row| {
            format!("{} % flipped{}", row.noise, if row.variable.is_empty() { "" } else { ", few" })
        }),
    );
    let factory = factories.iter().map(|factory| format!("{factory:.2}"));
    let mut lines = vec![std::iter::once(FACTORY.to_owned()).chain(factory).collect::<Vec<_>>()];
    let mut methods: Vec<&str> = Vec::new();
    for row in rows {
        if !methods.contains(&row.method.as_str()) {
            methods.push(&row.method);
        }
    }
    for method in methods {
        let cells = rows.iter().filter(|row| row.method == method).map(|row| {
            let own = format!("{:.2}", row.value.wearers.mean);
            row.difference.as_ref().map_or(own.clone(), |d| format!("{own}: {}", difference(d)))
        });
        lines.push(std::iter::once(method.to_owned()).chain(cells).collect());
    }
    let title = task.title();
    format!("### {}{}\n\n{}", title[..1].to_uppercase(), &title[1..], markdown(&header, &lines))
}
