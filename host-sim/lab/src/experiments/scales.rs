//! `scales`: what carries a rho over: the latents' scale, the channels' scales, and the same rho in pretraining.

use super::comparison::{Comparison, Entry, Source, table};
use super::contenders::{Contender, LEARNING_RATES, Protocol, SGD, asam, sam};
use super::corpus;
use super::ledger::Ledger;
use super::result::{Findings, Progress, Row, table_by_noise};
use super::start::{Pretraining, Start};
use super::task::Task;
use super::trial::{Draw, LatentUnit, Setting};
use anyhow::Result;
use std::path::Path;

const EPOCHS: u16 = 30;
const NOISE: u32 = 20;
const METHODS: [Contender; 3] = [SGD, sam("SAM, m = 1", 1), asam("ASAM, m = 1", 1)];
/// Draws a subject of the bundled task.
const DRAWS: usize = 2;
/// The tables' names.
pub const UNITS: &str = "the latents' scale";
/// Channels that were rescaled.
pub const CHANNELS: &str = "channels rescaled by powers of two";
/// Pretraining with the same method.
pub const BOTH: &str = "one rho in pretraining and fine-tuning";

/// A table of which every part has a baseline of its own.
struct Part {
    table: &'static str,
    base: Draw,
    variable: String,
    entries: Vec<(String, Vec<Setting>)>,
}

fn rates(contender: &Contender) -> Vec<Setting> {
    LEARNING_RATES.map(|rate| contender.middle(rate, EPOCHS)).to_vec()
}

fn parts(quick: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    let digits = corpus::usual(Task::Digits);
    for (base, task) in [(Draw::WEARERS, "wearers"), (digits, "digits")] {
        for (unit, name) in [(LatentUnit::Packed, "1/128 a step"), (LatentUnit::Model, "the model's own")] {
            let mut entries = vec![("SGD".to_owned(), rates(&SGD))];
            for (contender, radii) in [(METHODS[1], [0.02f32, 0.1, 0.5]), (METHODS[2], [0.2, 1.0, 5.0])] {
                for rho in radii {
                    let settings =
                        rates(&contender).into_iter().map(|setting| Setting { rho, ..setting }).collect();
                    entries.push((format!("{}, rho = {rho}", contender.name), settings));
                }
            }
            parts.push(Part {
                table: UNITS,
                base: Draw { unit, ..base },
                variable: format!("{task}, {name}"),
                entries,
            });
        }
    }
    for powers in [0, 3] {
        let start = if powers == 0 { Start::Factory } else { Start::Rescaled(powers) };
        let variable = if powers == 0 { "as packed".into() } else { format!("2^-{powers} to 2^{powers}") };
        let entries = METHODS.iter().map(|c| (c.name.to_owned(), vec![c.middle(0.002, EPOCHS)])).collect();
        parts.push(Part { table: CHANNELS, base: Draw { start, ..Draw::WEARERS }, variable, entries });
    }
    for (start, name) in [
        (Start::Factory, "pretrained with SGD"),
        (Start::After(Pretraining::Sam), "pretrained with SAM, rho 0.1"),
        (Start::After(Pretraining::Asam), "pretrained with ASAM, rho 1"),
    ] {
        let entries = METHODS.iter().map(|contender| (contender.name.to_owned(), rates(contender))).collect();
        parts.push(Part { table: BOTH, base: Draw { start, ..digits }, variable: name.into(), entries });
    }
    if quick {
        parts.retain(|part| part.table == CHANNELS);
    }
    parts
}

/// Runs it. What is not in the data folder is skipped, and said so.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol, seed: u64, folder: &Path) -> Result<Progress> {
    let (mut rows, mut missing): (Vec<Row>, _) = (Vec::new(), 0);
    for Part { table: name, base, variable, entries } in parts(protocol.quick) {
        if let Some(path) = base.task.missing(folder) {
            eprintln!(
                "SKIPPED: {name}, {variable}: there is no {}; name its folder with --data-folder",
                path.display()
            );
            continue;
        }
        let mut own = Protocol::of(base, seed, protocol.quick);
        own.selection.truncate(1);
        own.evaluation.truncate(if base.task == Task::Wearers { DRAWS } else { own.evaluation.len() });
        let entries = entries.into_iter().map(|(method, settings)| {
            let source = match settings.as_slice() {
                [only] => Source::Fixed(*only),
                _ => Source::ForNoise(settings),
            };
            Entry { method, variable: variable.clone(), source }
        });
        let comparison =
            Comparison { table: name, entries: entries.collect(), noises: vec![NOISE], baseline: 0 };
        match table(&comparison, &own, ledger)? {
            Ok(found) => rows.extend(found),
            Err(runs) => missing += runs,
        }
    }
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let mut findings = Findings { name: "scales", rows, section: String::new(), figures: Vec::new() };
    let mut text = format!(
        "## What carries a rho over\n\n{NOISE} % of the labels flipped, {EPOCHS} epochs, the learning rate chosen among 6 on other subjects. `flatmin \
        pack` gives int8 latents of every model the same unit, 1/128 of the tail's a step, and folds the rest into the first layer. Differences are to SGD \
        under the same condition.\n\n"
    );
    for (name, note) in [
        (
            UNITS,
            "Each rho as it is, with the packed unit and with the model's own scale; 10 % is chance of the digits",
        ),
        (
            CHANNELS,
            "Hidden channels times powers of two that the next layer undoes: the same function. Learning rate 0.002 and a middle rho for all",
        ),
        (
            BOTH,
            "A new speaker's digits; the head pretrained with each method at the rho that fine-tunes it, or with another; 10 % is chance: that pretraining failed",
        ),
    ] {
        if findings.table(name).next().is_some() {
            text += &format!("{note}:\n\n{}", table_by_noise(&findings, name));
        }
    }
    findings.section = text;
    Ok(Progress::Done(findings))
}
