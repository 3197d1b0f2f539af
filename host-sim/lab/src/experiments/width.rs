//! `width`: does the gain grow with the tail's width? One hidden layer of 16 to 1,024 units, from random weights.

use super::comparison::{Comparison, Entry, Source, table};
use super::contenders::{Contender, Protocol, SGD, SMOOTHED, asam, sam};
use super::figure::{Chart, Series};
use super::ledger::Ledger;
use super::result::{Figure, Findings, Progress, table_by_noise};
use super::start::Start;
use super::trial::Draw;
use anyhow::Result;

const WIDTHS: [u16; 4] = [16, 64, 256, 1024];
const NOISE: u32 = 20;
const EPOCHS: u16 = 20;
/// Evaluation draws a wearer.
const DRAWS: usize = 2;
const METHODS: [Contender; 4] =
    [SGD, SMOOTHED, sam("SAM, m = 1", 1).in_nats(), asam("ASAM, m = 1", 1).in_nats()];
/// The table's name.
pub const TABLE: &str = "hidden units of a tail from random weights";

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let widths = if protocol.quick { &WIDTHS[..1] } else { &WIDTHS[..] };
    let (mut rows, mut missing) = (Vec::new(), 0);
    for &width in widths {
        let mut own =
            Protocol { base: Draw { start: Start::Hidden(width), ..protocol.base }, ..protocol.clone() };
        own.selection.truncate(1);
        own.evaluation.truncate(DRAWS);
        let entry = |contender: &Contender| Entry {
            method: contender.name.into(),
            variable: format!("{width} units"),
            source: Source::ForNoise(
                [0.002, 0.005, 0.01, 0.02, 0.05].map(|rate| contender.middle(rate, EPOCHS)).to_vec(),
            ),
        };
        let entries = METHODS.iter().map(entry).collect();
        match table(&Comparison { table: TABLE, entries, noises: vec![NOISE], baseline: 0 }, &own, ledger)? {
            Ok(own) => rows.extend(own),
            Err(runs) => missing += runs,
        }
    }
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let series = METHODS[1..].iter().map(|contender| Series {
        name: contender.name.to_owned(),
        points: (rows.iter().filter(|row| row.method == contender.name).zip(widths))
            .filter_map(|(row, &width)| Some((f64::from(width), row.difference?.draws)))
            .collect(),
    });
    let chart = Chart {
        title: format!("Difference to SGD by width, {NOISE} % flipped"),
        x: "hidden units".into(),
        y: "points".into(),
        logarithmic: true,
        series: series.collect(),
    };
    let figures = vec![Figure { name: "width".into(), svg: chart.svg()? }];
    let mut findings = Findings { name: "width", rows, section: String::new(), figures };
    findings.section = format!(
        "## Width\n\nA hidden layer of 16 to 1,024 units between the bundled network's 192 latents and its 7 classes, drawn anew in every draw. The \
        learning rate is chosen among 5, {EPOCHS} epochs, a middle strength of the regularizer; {DRAWS} draws a wearer. Accuracy in percent and \
        difference to SGD.\n\n![Difference to SGD by width](evidence/width.svg)\n\n{}",
        table_by_noise(&findings, TABLE)
    );
    Ok(Progress::Done(findings))
}
