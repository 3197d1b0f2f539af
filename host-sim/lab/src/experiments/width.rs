//! `width`: does the gain grow with the tail's size? Hidden layers from random weights: one of 16 to 1,024 units, and up to six of 64.

use super::comparison::{Comparison, Entry, Source, complete};
use super::contenders::{Contender, Protocol, SGD, SMOOTHED, asam, sam};
use super::corpus;
use super::figure::{Chart, Series};
use super::ledger::Ledger;
use super::result::{Figure, Findings, Progress, Row, table_by_noise};
use super::start::Start;
use super::task::Task;
use super::trial::Draw;
use anyhow::Result;
use std::path::Path;

/// Units of a layer, and hidden layers.
const SHAPES: [(u16, u8); 6] = [(16, 1), (64, 1), (256, 1), (1024, 1), (64, 3), (64, 6)];
const NOISE: u32 = 20;
const RATES: [f32; 5] = [0.005, 0.01, 0.02, 0.05, 0.1];
const EPOCHS: u16 = 20;
const METHODS: [Contender; 4] = [SGD, SMOOTHED, sam("SAM", 1).in_nats(), asam("ASAM", 1).in_nats()];
/// The tables' names.
pub const WEARERS: &str = "wearers, 192 latents, 63 samples";
/// The other one's.
pub const MNIST_1D: &str = "MNIST-1D, 40 values, 200 samples";

fn protocols(protocol: &Protocol, seed: u64, folder: &Path) -> Vec<(&'static str, Protocol)> {
    let mut all = vec![(WEARERS, protocol.clone(), (10, 2))];
    if Task::Mnist1d.missing(folder).is_none() {
        let own = Protocol::of(corpus::usual(Task::Mnist1d), seed, protocol.quick);
        all.push((MNIST_1D, own, (6, 3)));
    }
    let thin = |(name, mut own, (subjects, draws)): (&'static str, Protocol, (usize, usize))| {
        own.subjects.truncate(subjects);
        own.selection.truncate(1);
        own.evaluation.truncate(draws);
        (name, own)
    };
    all.into_iter().map(thin).collect()
}

fn comparison(name: &'static str, (units, layers): (u16, u8), quick: bool) -> Comparison {
    let hidden = if layers == 1 { String::new() } else { format!("{layers} x ") };
    let rates = if quick { &RATES[2..3] } else { &RATES[..] };
    let entry = |contender: &Contender| Entry {
        method: contender.name.into(),
        variable: format!("{hidden}{units} units"),
        source: Source::ForNoise(rates.iter().map(|&rate| contender.middle(rate, EPOCHS)).collect()),
    };
    let entries = METHODS.iter().map(entry).collect();
    Comparison { table: name, entries, noises: vec![NOISE], baseline: 0 }
}

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol, seed: u64, folder: &Path) -> Result<Progress> {
    let shapes = if protocol.quick { &SHAPES[..1] } else { &SHAPES[..] };
    let (mut rows, mut missing) = (Vec::new(), 0);
    for (name, own) in protocols(protocol, seed, folder) {
        for &(units, layers) in shapes {
            let base =
                Draw { start: Start::Hidden { units, layers }, layers: 1 + usize::from(layers), ..own.base };
            let own = Protocol { base, ..own.clone() };
            let comparison = comparison(name, (units, layers), protocol.quick);
            match complete(std::slice::from_ref(&comparison), &own, ledger)? {
                0 => rows.extend(comparison.rows(&own, ledger)?),
                runs => missing += runs,
            }
        }
    }
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let figures = vec![Figure { name: "width".into(), svg: chart(&rows, shapes).svg()? }];
    let mut findings = Findings { name: "width", rows, section: String::new(), figures };
    findings.section = format!(
        "## Width and depth\n\nHidden layers from random weights, drawn anew in every draw, {NOISE} % of the labels flipped. The learning rate is chosen \
        among 5 (0.005 to 0.1) on one draw of each other wearer, or part of MNIST-1D's samples; {EPOCHS} epochs, a middle strength of the regularizer \
        (smoothing 0.2, rho 0.3 nats); 2 draws of each of ten wearers, 3 of each of six parts. Accuracy in int8, percent, and difference to SGD.\n\n\
        ![Difference to SGD by width](evidence/width.svg)\n\n"
    );
    if let Some(path) = Task::Mnist1d.missing(folder) {
        findings.section += &corpus::skipped("MNIST-1D", &path);
    }
    for name in [WEARERS, MNIST_1D] {
        if findings.table(name).next().is_some() {
            findings.section += &format!("### {name}\n\n{}", table_by_noise(&findings, name));
        }
    }
    Ok(Progress::Done(findings))
}

/// One hidden layer: a line per method and task.
fn chart(rows: &[Row], shapes: &[(u16, u8)]) -> Chart {
    let widths = || shapes.iter().filter(|(_, layers)| *layers == 1).map(|(units, _)| f64::from(*units));
    let line = |task: &str, method: &str| {
        let own = rows.iter().filter(|row| row.table == task && row.method == method);
        let points = own.zip(widths()).filter_map(|(row, width)| Some((width, row.difference?.draws)));
        Series {
            name: format!("{method}, {}", &task[..task.find(',').unwrap_or(0)]),
            points: points.collect(),
        }
    };
    let pairs =
        [WEARERS, MNIST_1D].into_iter().flat_map(|task| METHODS[1..].iter().map(move |m| (task, m.name)));
    Chart {
        title: format!("Difference to SGD by width, {NOISE} % flipped"),
        x: "hidden units".into(),
        y: "points".into(),
        logarithmic: true,
        series: pairs
            .map(|(task, method)| line(task, method))
            .filter(|line| !line.points.is_empty())
            .collect(),
    }
}
