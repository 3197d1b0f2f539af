//! `finetune`: pretrained networks on small data sets, the bundled one and those that lie in the data folder.

use super::comparison::{Comparison, Entry, Source, table};
use super::contenders::{Contender, Protocol, SGD, SMOOTHED, asam, sam};
use super::corpus;
use super::ledger::Ledger;
use super::result::{Findings, Progress, Row, table_by_noise};
use super::shipped::SHIPPED;
use super::start::Start;
use super::task::Task;
use super::trial::{Draw, Setting};
use anyhow::Result;
use std::path::Path;

const METHODS: [Contender; 5] =
    [SGD, SMOOTHED, sam("SAM, m = 1", 1), asam("ASAM, m = 1", 1), asam("ASAM, m = 16", 16)];

/// A data set under one condition.
struct Case {
    name: &'static str,
    base: Draw,
    noises: &'static [u32],
}

impl Case {
    fn entries(&self, quick: bool) -> Vec<Entry> {
        let settings = |contender: &Contender| match self.base.start {
            Start::Factory => contender.settings(quick),
            _ => contender.settings_from_scratch(quick),
        };
        let entry = |contender: &Contender| Entry {
            method: contender.name.into(),
            variable: String::new(),
            source: Source::ForNoise(settings(contender)),
        };
        let shipped = Entry {
            method: SHIPPED.into(),
            variable: String::new(),
            source: Source::Fixed(Setting::DEFAULT),
        };
        METHODS.iter().map(entry).chain(std::iter::once(shipped)).collect()
    }

    /// What the table is of.
    fn note(&self, own: &Protocol, factory: f64) -> String {
        let known = match self.base.start {
            Start::Factory => format!(" Factory: {:.1} %.", 100.0 * factory),
            _ => String::new(),
        };
        format!(
            "{} held-out subjects, {} draws, {} samples a class or as many as there are.{known}",
            own.subjects.len(),
            own.subjects.len() * own.evaluation.len(),
            self.base.per_class
        )
    }
}

/// The tables' names are those of the cases.
fn cases() -> Vec<Case> {
    let all = |task: Task| Case { name: task.title(), base: corpus::usual(task), noises: &[0, 20, 40] };
    let few = Draw { per_class: 2, ..corpus::usual(Task::Digits) };
    vec![
        all(Task::Wearers),
        all(Task::Digits),
        Case { name: "new speaker, 20 labels in all", base: few, noises: &[0] },
        Case { noises: &[0, 20], ..all(Task::Keywords) },
        all(Task::GasDrift),
        all(Task::Gestures),
    ]
}

/// Runs it. What is not in the data folder is skipped, and said so.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol, seed: u64, folder: &Path) -> Result<Progress> {
    let (mut rows, mut missing): (Vec<Row>, _) = (Vec::new(), 0);
    let (mut tables, mut skipped) = (Vec::new(), Vec::new());
    for case in cases() {
        let (name, quick) = (case.name, protocol.quick);
        if let Some(path) = case.base.task.missing(folder) {
            eprintln!("SKIPPED: {name}: there is no {}; name its folder with --data-folder", path.display());
            skipped.push((name, path));
            continue;
        }
        let own = Protocol::of(case.base, seed, quick);
        let noises = if quick { vec![case.noises[case.noises.len() - 1]] } else { case.noises.to_vec() };
        let comparison = Comparison { table: name, entries: case.entries(quick), noises, baseline: 0 };
        match table(&comparison, &own, ledger)? {
            Ok(found) => rows.extend(found),
            Err(runs) => missing += runs,
        }
        if missing == 0 {
            let factory = own.factory(ledger, comparison.noises[0])?;
            tables.push((name, case.note(&own, factory)));
        }
    }
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let mut findings = Findings { name: "finetune", rows, section: String::new(), figures: Vec::new() };
    findings.section = "## Other data\n\nPretrained networks on a subject that they do not know, each method tuned for the task and the share of flipped \
        labels on the other subjects; the recipe that ships as it is. Speech runs through MLPerf Tiny's keyword network; its head (64 -> 32 \
        -> 10), the gas network (128 -> 32 -> 6) and the wand's (96 -> 24 -> 3) are trained by this crate on the subjects that are known \
        and quantized. Accuracy in percent of the requantized network and difference to SGD.\n\n"
        .into();
    for (name, text) in tables {
        findings.section += &format!(
            "### {}{}\n\n{text}\n\n{}",
            name[..1].to_uppercase(),
            &name[1..],
            table_by_noise(&findings, name)
        );
    }
    for (name, path) in skipped {
        findings.section += &corpus::skipped(name, &path);
    }
    Ok(Progress::Done(findings))
}
