//! `noisy-labels`: what each method makes of adaptation windows whose labels are partly wrong.

use super::comparison::{Comparison, Entry, Source, complete};
use super::contenders::{CONTENDERS, Protocol, SGD};
use super::figure::{Chart, Series};
use super::ledger::Ledger;
use super::result::{Figure, Findings, Progress, Row, difference, markdown};
use super::statistics::Interval;
use super::trial::{Setting, Targets};
use anyhow::Result;

/// Shares of flipped labels in percent.
const NOISES: [u32; 5] = [0, 20, 40, 60, 80];
/// What one recipe for all is chosen for: nobody knows the share of wrong labels beforehand, and most are right.
const USUAL: [u32; 3] = [0, 20, 40];

/// The tables' names.
pub const PER_NOISE: &str = "tuned for the share of flipped labels";
/// One recipe for all shares, against SGD that has one recipe as well.
pub const ONE_RECIPE: &str = "one recipe for 0, 20 and 40 %";
/// The same, against SGD tuned for the very share.
pub const ONE_AGAINST_TUNED: &str = "one recipe against SGD tuned for the share";
/// The method of the row whose recipe is chosen among all trials of all methods.
pub const BEST: &str = "best of all methods";
/// Which contenders share a figure.
const FIGURES: [(&str, &str, &[usize]); 2] = [
    ("noisy-labels", "SGD, SAM, ASAM", &[0, 1, 2, 3, 4, 5]),
    ("noisy-labels-others", "remedies of other kinds", &[0, 1, 6, 7, 8, 9, 10]),
];
/// Against label smoothing.
pub const AGAINST_SMOOTHING: &str = "against label smoothing";

fn comparisons(protocol: &Protocol) -> Vec<Comparison> {
    let quick = protocol.quick;
    let noises = |all: &[u32]| if quick { vec![0, 40] } else { all.to_vec() };
    let tuned: Vec<Entry> = CONTENDERS.iter().map(|c| Entry::tuned(c, quick)).collect();
    let mut once: Vec<Entry> = (CONTENDERS.iter())
        .map(|c| Entry {
            method: c.name.to_owned(),
            variable: String::new(),
            source: Source::Once(c.settings(quick), noises(&USUAL)),
        })
        .collect();
    // What a device can run.
    let all =
        CONTENDERS.iter().flat_map(|c| c.settings(quick)).filter(|s| s.targets == Targets::Labels).collect();
    once.push(Entry {
        method: BEST.into(),
        variable: String::new(),
        source: Source::Once(all, noises(&USUAL)),
    });
    let mut against = vec![Entry { method: "SGD, tuned for the share".into(), ..Entry::tuned(&SGD, quick) }];
    against.extend(once.clone());
    against.push(Entry {
        method: "Recipe::DEFAULT".into(),
        variable: String::new(),
        source: Source::Fixed(Setting::DEFAULT),
    });
    vec![
        Comparison { table: PER_NOISE, entries: tuned.clone(), noises: noises(&NOISES), baseline: 0 },
        Comparison { table: AGAINST_SMOOTHING, entries: tuned, noises: noises(&NOISES), baseline: 1 },
        Comparison { table: ONE_RECIPE, entries: once, noises: noises(&USUAL), baseline: 0 },
        Comparison { table: ONE_AGAINST_TUNED, entries: against, noises: noises(&USUAL), baseline: 0 },
    ]
}

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let comparisons = comparisons(protocol);
    let missing = complete(&comparisons, protocol, ledger)?;
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let mut rows: Vec<Row> = Vec::new();
    for comparison in &comparisons {
        rows.extend(comparison.rows(protocol, ledger)?);
    }
    let mut findings = Findings { name: "noisy-labels", rows, section: String::new(), figures: Vec::new() };
    let noises = &comparisons[0].noises;
    let factory = protocol.factory(ledger, 0)?;
    for (name, title, members) in FIGURES {
        let svg = chart(&findings, title, members, noises, factory).svg()?;
        findings.figures.push(Figure { name: name.into(), svg });
    }
    findings.section = section(&findings, factory, noises);
    Ok(Progress::Done(findings))
}

fn chart(findings: &Findings, title: &str, members: &[usize], noises: &[u32], factory: f64) -> Chart {
    let series = members.iter().map(|&index| {
        let name = CONTENDERS[index].name;
        let point =
            |&noise: &u32| Some((f64::from(noise), findings.row(PER_NOISE, name, noise)?.value.draws));
        Series { name: name.to_owned(), points: noises.iter().filter_map(point).collect() }
    });
    let flat = Series {
        name: "factory, not tuned".into(),
        points: noises.iter().map(|&noise| (f64::from(noise), Interval::exact(100.0 * factory))).collect(),
    };
    Chart {
        title: format!("Accuracy of the tuned int8 network: {title}"),
        x: "flipped labels, %".into(),
        y: "test accuracy, %".into(),
        logarithmic: false,
        series: std::iter::once(flat).chain(series).collect(),
    }
}

fn section(findings: &Findings, factory: f64, noises: &[u32]) -> String {
    let mut text = String::from("## Noisy labels\n\n");
    text += "A share of the 63 adaptation labels (9 windows a class) is flipped to another class at random; test labels \
        are right. The last two dense layers are tuned. Accuracy of the requantized int8 network in percent; its 95 % \
        interval over draws of these wearers is drawn, that over wearers is in the CSV.\n\n\
        ![Accuracy against the share of flipped labels](evidence/noisy-labels.svg)\n\n\
        ![The same for smoothing beside SAM, mixup and bootstrap](evidence/noisy-labels-others.svg)\n\n";
    let mut header = vec!["method".to_owned()];
    header.extend(noises.iter().map(|noise| format!("{noise} % flipped")));
    let mut rows = vec![
        std::iter::once("factory, not tuned".to_owned())
            .chain(noises.iter().map(|_| format!("{:.1}", 100.0 * factory)))
            .collect::<Vec<_>>(),
    ];
    let methods = CONTENDERS.map(|contender| contender.name);
    let cells = |table: &str, method: &str, cell: &dyn Fn(&Row) -> String| {
        let own = noises.iter().map(|&noise| findings.row(table, method, noise).map_or("".into(), cell));
        std::iter::once(method.to_owned()).chain(own).collect::<Vec<_>>()
    };
    rows.extend(methods.map(|m| cells(PER_NOISE, m, &|row| format!("{:.2}", row.value.wearers.mean))));
    text += "Each method tuned for the share of flipped labels, on other wearers:\n\n";
    text += &markdown(&header, &rows);
    for (table, baseline, title) in [
        (PER_NOISE, 0, "Difference to SGD, points, with its 95 % interval over wearers"),
        (AGAINST_SMOOTHING, 1, "Difference to SGD with label smoothing, likewise"),
    ] {
        let others = methods.iter().enumerate().filter(|(index, _)| *index != baseline);
        let rows: Vec<_> = (others)
            .map(|(_, m)| cells(table, m, &|row| row.difference.as_ref().map_or("".into(), difference)))
            .collect();
        text += &format!("{title}:\n\n{}", markdown(&header, &rows));
    }
    for (table, title) in [
        (
            ONE_RECIPE,
            "One recipe for all shares, chosen by its mean over 0, 20 and 40 %; difference to SGD that has \
            one recipe as well",
        ),
        (
            ONE_AGAINST_TUNED,
            "The same recipes against SGD that was tuned for the very share (which nobody knows on a \
            device), and the recipe that ships",
        ),
    ] {
        let noises: Vec<u32> = noises.iter().copied().filter(|noise| *noise <= 40).collect();
        let mut header = vec!["method".to_owned()];
        header.extend(noises.iter().map(|noise| format!("{noise} % flipped")));
        header.push("all wearers choose".into());
        let mut rows = Vec::new();
        for first in findings.table(table).filter(|row| row.noise == noises[0]) {
            let mut cells = vec![first.method.clone()];
            for &noise in &noises {
                cells.push(findings.row(table, &first.method, noise).map_or(String::new(), |row| {
                    let own = format!("{:.2}", row.value.wearers.mean);
                    row.difference.as_ref().map_or(own.clone(), |d| format!("{own}: {}", difference(d)))
                }));
            }
            cells.push(if first.method.contains("for the share") {
                "".into()
            } else {
                first.setting.clone()
            });
            rows.push(cells);
        }
        text += &format!("{title}:\n\n{}", markdown(&header, &rows));
    }
    text
}
