//! `rho`: how much it matters to know rho, over two decades, everything else as chosen.

use super::comparison::{Comparison, Entry, Source, complete};
use super::contenders::{Contender, Protocol, SGD, asam, sam};
use super::figure::{Chart, Series};
use super::ledger::Ledger;
use super::result::{Figure, Findings, Progress, table_by_noise};
use anyhow::Result;

/// Radii of SAM, and of ASAM, whose usual ones are ten times as large.
const SAM_RADII: [f32; 7] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
const ASAM_RADII: [f32; 7] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// The table's name.
pub const TABLE: &str = "rho over two decades";

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let quick = protocol.quick;
    let radii = |all: [f32; 7]| if quick { vec![all[0], all[6]] } else { all.to_vec() };
    let noises = if quick { vec![40] } else { vec![0, 20] };
    let methods: [(Contender, Vec<f32>); 2] =
        [(sam("SAM, m = 1", 1), radii(SAM_RADII)), (asam("ASAM, m = 1", 1), radii(ASAM_RADII))];
    let mut entries = vec![Entry::tuned(&SGD, quick)];
    for (contender, radii) in &methods {
        entries.extend(radii.iter().map(|&radius| Entry {
            method: contender.name.into(),
            variable: format!("rho = {radius}"),
            source: Source::WithRho(contender.settings(quick), radius),
        }));
    }
    let comparison = Comparison { table: TABLE, entries, noises: noises.clone(), baseline: 0 };
    let missing = complete(std::slice::from_ref(&comparison), protocol, ledger)?;
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let rows = comparison.rows(protocol, ledger)?;
    let mut series = Vec::new();
    for &noise in &noises {
        for (contender, radii) in &methods {
            let own = rows.iter().filter(|row| row.method == contender.name && row.noise == noise);
            let points =
                own.zip(radii).filter_map(|(row, &radius)| Some((f64::from(radius), row.difference?.draws)));
            let name = format!("{}, {noise} %", contender.name);
            series.push(Series { name, points: points.collect() });
        }
    }
    let chart = Chart {
        title: "Difference to SGD by rho".into(),
        x: "rho".into(),
        y: "points".into(),
        logarithmic: true,
        series,
    };
    let mut findings = Findings { name: "rho", rows, section: String::new(), figures: Vec::new() };
    findings.figures.push(Figure { name: "rho".into(), svg: chart.svg()? });
    findings.section = format!(
        "## How much rho matters\n\nLearning rate and epochs as the method chose them together with its best rho; then \
        rho alone is changed. Accuracy in percent and difference to tuned SGD.\n\n\
        ![Difference to SGD by rho](evidence/rho.svg)\n\n{}",
        table_by_noise(&findings, TABLE)
    );
    Ok(Progress::Done(findings))
}
