//! `cost`: accuracy against multiply-adds: SGD for more epochs, or SAM?

use super::Progress;
use super::comparison::{Comparison, Entry, Source, complete};
use super::contenders::{ADAM, Contender, Protocol, SGD, SMOOTHED, asam, sam, sam_on};
use super::figure::{Chart, Series};
use super::ledger::Ledger;
use super::result::{Figure, Findings, markdown};
use anyhow::Result;

const EPOCHS: [u16; 4] = [5, 10, 20, 40];
const NOISE: u32 = 20;
const METHODS: [Contender; 7] = [
    SGD,
    SMOOTHED,
    sam("SAM, m = 1", 1),
    asam("ASAM, m = 1", 1),
    asam("ASAM, m = 16", 16),
    sam_on("SAM-ON, m = 1", 1),
    ADAM,
];
/// The table's name.
pub const TABLE: &str = "accuracy against multiply-adds";

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let protocol = &protocol.sweep();
    let epochs = if protocol.quick { vec![5, 20] } else { EPOCHS.to_vec() };
    let methods = if protocol.quick { &METHODS[..3] } else { &METHODS[..] };
    let mut comparisons = Vec::new();
    for &epochs in &epochs {
        let entry = |contender: &Contender| Entry {
            method: contender.name.into(),
            variable: format!("{epochs} epochs"),
            source: Source::ForNoise(contender.settings_for(epochs, protocol.quick)),
        };
        let entries = methods.iter().map(entry).collect();
        comparisons.push(Comparison { table: TABLE, entries, noises: vec![NOISE], baseline: 0 });
    }
    let missing = complete(&comparisons, protocol, ledger)?;
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let mut rows = Vec::new();
    for comparison in &comparisons {
        rows.extend(comparison.rows(protocol, ledger)?);
    }
    let series = methods.iter().map(|contender| {
        let own = rows.iter().filter(|row| row.method == contender.name);
        let points = own.map(|row| (row.macs.unwrap_or(0.0) / 1e6, row.value.draws));
        Series { name: contender.name.to_owned(), points: points.collect() }
    });
    let chart = Chart {
        title: format!("Accuracy against multiply-adds, {NOISE} % flipped"),
        x: "million multiply-adds of tuning".into(),
        y: "test accuracy, %".into(),
        logarithmic: true,
        series: series.collect(),
    };
    let header = ["method", "epochs", "million multiply-adds", "accuracy, %", "all wearers choose"];
    let cells: Vec<Vec<String>> = (rows.iter())
        .map(|row| {
            let accuracy = format!("{:.2}", row.value.wearers.mean);
            let macs = format!("{:.0}", row.macs.unwrap_or(0.0) / 1e6);
            vec![row.method.clone(), row.variable.replace(" epochs", ""), macs, accuracy, row.setting.clone()]
        })
        .collect();
    let section = format!(
        "## Cost\n\n{NOISE} % of the labels flipped. For every method and number of epochs, the learning rate is chosen among 6 on other wearers, with a middle strength of the regularizer; 10 draws a wearer. Multiply-adds are those of the tuning \
        steps, 63 windows an epoch; RAM is the same for all methods with m = 1, those with m above 1 need a gradient \
        buffer of 4 bytes a parameter more, AdamW 2.125 bytes.\n\n\
        ![Accuracy against multiply-adds](evidence/cost.svg)\n\n{}",
        markdown(&header.map(str::to_owned), &cells)
    );
    let figures = vec![Figure { name: "cost".into(), svg: chart.svg()? }];
    Ok(Progress::Done(Findings { name: "cost", rows, section, figures }))
}
