//! `learning-rate`: what happens when nobody tunes: the same number of epochs at every learning rate, each method's
//! regularizer at a middle strength fixed beforehand.

use super::comparison::{Comparison, Entry, Source, complete};
use super::contenders::{Contender, LEARNING_RATES, Protocol, SGD, SMOOTHED, asam, sam};
use super::figure::{Chart, Series};
use super::ledger::Ledger;
use super::result::{Figure, Findings, Progress, table_by_noise};
use anyhow::Result;

const EPOCHS: u16 = 30;
const METHODS: [Contender; 4] =
    [SGD, SMOOTHED, sam("SAM, m = 1", 1).in_nats(), asam("ASAM, m = 1", 1).in_nats()];
/// The table's name.
pub const TABLE: &str = "learning rates that nobody tuned";

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let protocol = &protocol.sweep();
    let rates = if protocol.quick { vec![0.001, 0.02] } else { LEARNING_RATES.to_vec() };
    let noises = if protocol.quick { vec![40] } else { vec![0, 20, 40] };
    let comparisons: Vec<Comparison> = (rates.iter())
        .map(|&rate| {
            let entry = |contender: &Contender| Entry {
                method: contender.name.into(),
                variable: format!("lr {rate}"),
                source: Source::Fixed(contender.middle(rate, EPOCHS)),
            };
            let entries = METHODS.iter().map(entry).collect();
            Comparison { table: TABLE, entries, noises: noises.clone(), baseline: 0 }
        })
        .collect();
    let missing = complete(&comparisons, protocol, ledger)?;
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let mut rows = Vec::new();
    for comparison in &comparisons {
        rows.extend(comparison.rows(protocol, ledger)?);
    }
    let mut findings = Findings { name: "learning-rate", rows, section: String::new(), figures: Vec::new() };
    let mut figures = String::new();
    for &noise in noises.iter().filter(|noise| **noise > 0) {
        let series = METHODS.iter().map(|contender| {
            let own = findings.rows.iter().filter(|row| row.method == contender.name && row.noise == noise);
            let points = own.zip(&rates).map(|(row, &rate)| (f64::from(rate), row.value.draws));
            Series { name: contender.name.to_owned(), points: points.collect() }
        });
        let chart = Chart {
            title: format!("{EPOCHS} epochs, {noise} % flipped"),
            x: "learning rate".into(),
            y: "test accuracy, %".into(),
            logarithmic: true,
            series: series.collect(),
        };
        let name = format!("learning-rate-{noise}");
        figures += &format!("![Accuracy by learning rate, {noise} % flipped](evidence/{name}.svg)\n\n");
        findings.figures.push(Figure { name, svg: chart.svg()? });
    }
    findings.section = format!(
        "## When nobody tunes\n\nA device cannot tune: it has no labels to spare, and no time. Here every method runs \
        {EPOCHS} epochs at every learning rate, with a middle strength of its regularizer: smoothing 0.2, rho 0.3 nats. Nothing is chosen; {draws} draws a wearer. Accuracy in percent and difference to SGD at the same learning rate.\n\n\
        {figures}{}",
        table_by_noise(&findings, TABLE),
        draws = protocol.evaluation.len()
    );
    Ok(Progress::Done(findings))
}
