//! `shipped`: recipes that are fixed beforehand, for all tasks, all shares of flipped labels and few labels, against
//! SGD that was tuned for each of them: what a default may be.

use super::comparison::{Comparison, Entry, Source, table};
use super::contenders::{Protocol, SGD};
use super::corpus;
use super::ledger::Ledger;
use super::result::{Findings, Row, difference, markdown};
use super::statistics::Estimate;
use super::task::Task;
use super::trial::{Draw, Setting};
use super::{Progress, page};
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

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol, seed: u64, folder: &Path) -> Result<Progress> {
    let (mut rows, mut missing): (Vec<Row>, _) = (Vec::new(), 0);
    let mut findings =
        Findings { name: "shipped", rows: Vec::new(), section: String::new(), figures: Vec::new() };
    findings.section = "## Recipes for all\n\nRecipes that are the same for every task and share of flipped labels, against SGD tuned for each of them \
        on other subjects. Accuracy in percent and difference; 'few' has 2 clean labels a class.\n\n"
        .into();
    for task in TASKS {
        if let Some(path) = task.missing(folder) {
            eprintln!(
                "SKIPPED: {}: there is no {}; name its folder with --data-folder",
                task.title(),
                path.display()
            );
            findings.section += &format!("SKIPPED for want of its data: {}.\n\n", task.title());
            continue;
        }
        let quick = protocol.quick;
        let few = Draw { per_class: 2, ..corpus::usual(task) };
        let noises = if quick { vec![40] } else { NOISES.to_vec() };
        let mut entries = vec![Entry { method: "SGD, tuned for each".into(), ..Entry::tuned(&SGD, quick) }];
        entries.extend(candidates().into_iter().map(|(method, setting)| Entry {
            method,
            variable: String::new(),
            source: Source::Fixed(setting),
        }));
        let conditions = [("", corpus::usual(task), noises), ("few", few, vec![0])];
        let mut parts = Vec::new();
        let mut factories = Vec::new();
        for (label, base, noises) in conditions {
            let own = Protocol::of(base, seed, quick).sweep();
            let entries =
                entries.iter().map(|entry| Entry { variable: label.into(), ..entry.clone() }).collect();
            let comparison = Comparison { table: "", entries, noises, baseline: 0 };
            match table(&comparison, &own, ledger)? {
                Ok(found) => {
                    for &noise in &comparison.noises {
                        factories.push(100.0 * page::factory(ledger, &own, noise)?);
                    }
                    parts.extend(found.into_iter().map(|row| Row { table: name(task), ..row }));
                }
                Err(runs) => missing += runs,
            }
        }
        findings.section += &section(task, &parts, &factories);
        let tuned: Vec<&Row> = parts.iter().filter(|row| row.baseline.is_empty()).collect();
        let factory = tuned.into_iter().zip(factories).map(|(row, value)| Row {
            method: FACTORY.into(),
            value: Estimate::exact(value),
            setting: String::new(),
            ..row.clone()
        });
        rows.extend(factory.collect::<Vec<_>>());
        rows.extend(parts);
    }
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    findings.rows = rows;
    Ok(Progress::Done(findings))
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
