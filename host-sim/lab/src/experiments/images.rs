//! `images`: JPEG artefacts for MLPerf Tiny's ResNet-8, whose last layers are tuned. Minutes for a few runs.

use super::comparison::{Comparison, Entry, Source, table};
use super::contenders::{Contender, Protocol, SGD, SMOOTHED, asam, sam};
use super::corpus;
use super::ledger::Ledger;
use super::result::{Findings, Progress, table_by_noise};
use super::task::Task;
use anyhow::Result;
use std::path::Path;

const METHODS: [Contender; 4] = [SGD, SMOOTHED, sam("SAM, m = 1", 1), asam("ASAM, m = 1", 1)];
const LEARNING_RATES: [f32; 3] = [0.001, 0.005, 0.02];
const EPOCHS: u16 = 3;
/// Evaluation draws a subject.
const DRAWS: usize = 10;
/// The table's name.
pub const TABLE: &str = "JPEG images, ResNet-8";

/// Runs it. Where the data folder has no images, it says so.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol, seed: u64, folder: &Path) -> Result<Progress> {
    let mut findings =
        Findings { name: "images", rows: Vec::new(), section: String::new(), figures: Vec::new() };
    findings.section = "## Images\n\n".into();
    if let Some(path) = Task::Images.missing(folder) {
        eprintln!("SKIPPED: {TABLE}: there is no {}; name its folder with --data-folder", path.display());
        findings.section += &corpus::skipped(TABLE, &path);
        return Ok(Progress::Done(findings));
    }
    let base = corpus::usual(Task::Images);
    let mut own = Protocol::of(base, seed, protocol.quick);
    own.selection.truncate(1);
    own.evaluation.truncate(if protocol.quick { 1 } else { DRAWS });
    let epochs = if protocol.quick { 1 } else { EPOCHS };
    let rates = if protocol.quick { &LEARNING_RATES[..1] } else { &LEARNING_RATES[..] };
    let entry = |contender: &Contender| Entry {
        method: contender.name.into(),
        variable: String::new(),
        source: Source::ForNoise(rates.iter().map(|&rate| contender.middle(rate, epochs)).collect()),
    };
    let entries = METHODS.iter().map(entry).collect();
    let comparison = Comparison { table: TABLE, entries, noises: vec![0], baseline: 0 };
    findings.rows = match table(&comparison, &own, ledger)? {
        Ok(rows) => rows,
        Err(missing) => return Ok(Progress::Missing(missing)),
    };
    findings.section += &format!(
        "CIFAR-10 as JPEG of quality 75 for MLPerf Tiny's ResNet-8, which knows it without; the last {} layers with weights are tuned with {} \
        images a class, right labels, {epochs} epochs, a middle strength of the regularizer, the learning rate chosen among {} on the other subject. The two \
        subjects are other images of the same kind, {} draws each: intervals over two subjects say little. Factory: {:.1} %. Accuracy in percent and difference to SGD.\n\n{}",
        base.layers,
        base.per_class,
        rates.len(),
        own.evaluation.len(),
        100.0 * own.factory(ledger, 0)?,
        table_by_noise(&findings, TABLE)
    );
    Ok(Progress::Done(findings))
}
