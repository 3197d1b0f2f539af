//! `sharpness-batch`: samples that share one ascent, from one to the minibatch.

use super::comparison::{Comparison, Entry, Source, complete};
use super::contenders::{Contender, Protocol, SGD, asam, sam};
use super::figure::{Chart, Series};
use super::ledger::Ledger;
use super::result::{Figure, Findings, Progress, table_by_noise};
use anyhow::Result;

/// m, up to the minibatch.
const BATCHES: [u16; 5] = [1, 2, 4, 8, 16];
/// The table's name.
pub const TABLE: &str = "samples that share an ascent";

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let quick = protocol.quick;
    let batches = if quick { vec![1, 16] } else { BATCHES.to_vec() };
    let entry = |contender: Contender, m: u16| Entry {
        method: contender.name.into(),
        variable: format!("m = {m}"),
        source: Source::ForNoise(contender.settings(quick)),
    };
    let mut entries = vec![Entry::tuned(&SGD, quick)];
    entries.extend(batches.iter().map(|&m| entry(sam("SAM", m), m)));
    entries.extend(batches.iter().map(|&m| entry(asam("ASAM", m), m)));
    let noises = if quick { vec![40] } else { vec![20, 40] };
    let comparison = Comparison { table: TABLE, entries, noises: noises.clone(), baseline: 0 };
    let missing = complete(std::slice::from_ref(&comparison), protocol, ledger)?;
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let rows = comparison.rows(protocol, ledger)?;
    let mut series = Vec::new();
    for &noise in &noises {
        for method in ["SAM", "ASAM"] {
            let own = rows.iter().filter(|row| row.method == method && row.noise == noise);
            let points =
                own.zip(&batches).filter_map(|(row, &m)| Some((f64::from(m), row.difference?.draws)));
            series.push(Series { name: format!("{method}, {noise} % flipped"), points: points.collect() });
        }
    }
    let chart = Chart {
        title: "Difference to SGD by samples that share an ascent".into(),
        x: "m, samples an ascent".into(),
        y: "points".into(),
        logarithmic: true,
        series,
    };
    let mut findings =
        Findings { name: "sharpness-batch", rows, section: String::new(), figures: Vec::new() };
    findings.figures.push(Figure { name: "sharpness-batch".into(), svg: chart.svg()? });
    findings.section = format!(
        "## Samples that share an ascent\n\nEach m tuned for itself, 12 trials each. Accuracy in percent and \
        difference to SGD. Bars in the figure: 95 % over draws of these wearers.\n\n\
        ![Difference to SGD by m](evidence/sharpness-batch.svg)\n\n{}",
        table_by_noise(&findings, TABLE)
    );
    Ok(Progress::Done(findings))
}
