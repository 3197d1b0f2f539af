//! `scratch`: training from random weights: a whole convolutional network on MNIST-1D, a new head, and two new layers.

use super::comparison::{Change, Comparison, Entry, Source, table};
use super::contenders::{Contender, Protocol, SGD, SMOOTHED, asam, sam};
use super::corpus;
use super::ledger::Ledger;
use super::result::{Findings, Progress, table_by_noise};
use super::start::Start;
use super::task::Task;
use super::trial::{Draw, Setting};
use anyhow::Result;
use flatmin::{Method, Recipe};
use std::path::Path;

const METHODS: [Contender; 4] = [SGD, SMOOTHED, sam("SAM", 1).in_nats(), asam("ASAM", 1).in_nats()];
const NOISES: [u32; 2] = [0, 40];
/// The tables' names.
pub const WHOLE: &str = "MNIST-1D, the whole convolutional network";
/// The last layer from scratch.
pub const HEAD: &str = "wearers, a new head on the pretrained front";
/// Two layers from scratch.
pub const TWO: &str = "wearers, two new layers on the pretrained front";

/// Learning rates that are tried, each with two strengths: of the wearers' layers, and of MNIST-1D's network.
const RATES: [[f32; 3]; 2] = [[0.01, 0.025, 0.05], [0.05, 0.1, 0.2]];
/// Epochs of both.
const EPOCHS: [u16; 2] = [20, 60];

/// Six trials of one of the two; nine of SGD, whose least decay is what the others train with.
fn trials(contender: &Contender, of: usize, quick: bool) -> Vec<Setting> {
    let rates = if quick { &RATES[of][1..2] } else { &RATES[of][..] };
    let strengths = if contender.name == SGD.name { 0..3 } else { 1..3 };
    let each = |&rate: &f32| strengths.clone().map(move |strength| contender.at(rate, EPOCHS[of], strength));
    rates.iter().flat_map(each).collect()
}

/// What is compared: tuned methods, the ascents at the default's rho with what SGD was tuned to, and the best epoch of both.
fn entries(settings: impl Fn(&Contender) -> Vec<Setting>) -> Vec<Entry> {
    let entry = |method: &str, variable: &str, source: Source| Entry {
        method: method.into(),
        variable: variable.into(),
        source,
    };
    let tuned = METHODS.iter().map(|own| entry(own.name, "tuned", Source::ForNoise(settings(own))));
    let rho = Recipe::DEFAULT.rho;
    let untuned = [("SAM", Method::Sam), ("ASAM", Method::Asam)].map(|(name, method)| {
        let change = Change::Ascent(method, rho);
        entry(name, "rho 0.3, else as SGD", Source::Changed(settings(&SGD), change))
    });
    let stopped = [0, 2, 3].map(|own: usize| {
        let source = Source::Changed(settings(&METHODS[own]), Change::BestEpoch);
        entry(METHODS[own].name, "tuned, best epoch", source)
    });
    tuned.chain(untuned).chain(stopped).collect()
}

/// Six tenths of MNIST-1D's samples, five draws of flipped labels, weights and order for each: 30.
fn mnist1d(seed: u64, quick: bool) -> Protocol {
    let mut own = Protocol::of(corpus::usual(Task::Mnist1d), seed, quick);
    let (subjects, draws) = if quick { (2, 1) } else { (6, 5) };
    own.subjects.truncate(subjects);
    own.selection.truncate(1);
    own.evaluation.truncate(draws);
    own
}

/// Three draws of each wearer: 30.
fn wearers(protocol: &Protocol, start: Start) -> Protocol {
    let mut own = Protocol { base: Draw { start, layers: 2, ..protocol.base }, ..protocol.clone() };
    own.selection.truncate(1);
    own.evaluation.truncate(3);
    own
}

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol, seed: u64, folder: &Path) -> Result<Progress> {
    let quick = protocol.quick;
    let noises = if quick { NOISES[..1].to_vec() } else { NOISES.to_vec() };
    let scratch = |own: &Contender| trials(own, 0, quick);
    let (mut rows, mut missing, mut skipped) = (Vec::new(), 0, String::new());
    let mut tables = vec![
        (HEAD, wearers(protocol, Start::NewHead), entries(scratch)),
        (TWO, wearers(protocol, Start::Random), entries(scratch)),
    ];
    match Task::Mnist1d.missing(folder) {
        Some(path) => skipped = corpus::skipped("MNIST-1D", &path),
        None => {
            let mut entries = entries(|own| trials(own, 1, quick));
            // A run costs ten of the others: what is tuned, alone.
            entries.truncate(METHODS.len());
            tables.push((WHOLE, mnist1d(seed, quick), entries));
        }
    }
    for (name, own, entries) in tables {
        let comparison = Comparison { table: name, entries, noises: noises.clone(), baseline: 0 };
        match table(&comparison, &own, ledger)? {
            Ok(own) => rows.extend(own),
            Err(runs) => missing += runs,
        }
    }
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let mut findings = Findings { name: "scratch", rows, section: String::new(), figures: Vec::new() };
    findings.section = format!(
        "## From random weights\n\nAll trained weights are drawn anew in every draw (He's bounds, biases 0). Six trials per method, nine of SGD: three rates ({:?} of \
        the wearers' layers, {:?} of MNIST-1D's network), each with two strengths (smoothing 0.1 and 0.2, rho 0.1 and 0.3 nats) or three (decay 0.001, which the others have, too, 0.01 and 0.03), {} and \
        {} epochs. **Wearers**: chosen on one draw of each other wearer; 3 draws of each, 30 in all. **MNIST-1D**: three convolutions of 16 channels and a \
        dense head, all of them trained on 200 samples; chosen on one draw of each of the five other parts of the samples, 5 draws of each part, 30 in all, \
        tested on the same 1,000 samples. 'rho 0.3, else as SGD' is the default's ascent at the rate and decay that SGD was tuned to; 'best epoch' holds a \
        fifth out and ends with the epoch that does best on it. Accuracy in int8, percent, and difference to tuned SGD.\n\n{skipped}",
        RATES[0], RATES[1], EPOCHS[0], EPOCHS[1]
    );
    for name in [HEAD, TWO, WHOLE] {
        if findings.table(name).next().is_some() {
            findings.section += &format!("### {name}\n\n{}", table_by_noise(&findings, name));
        }
    }
    Ok(Progress::Done(findings))
}
