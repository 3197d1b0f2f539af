//! `scratch`: tails that begin with random weights: a new head, two new layers, and a whole small network.

use super::comparison::{Comparison, Entry, Source, table};
use super::contenders::{Contender, Protocol, SGD, SMOOTHED, asam, sam};
use super::ledger::Ledger;
use super::result::{Findings, Progress, table_by_noise};
use super::start::Start;
use super::trial::Draw;
use anyhow::Result;

const METHODS: [Contender; 4] =
    [SGD, SMOOTHED, sam("SAM, m = 1", 1).in_nats(), asam("ASAM, m = 1", 1).in_nats()];
/// Layers with weights of the bundled network.
const WHOLE: usize = 7;
/// The tables' names.
pub const HEAD: &str = "a new head on the pretrained front";
/// Two layers from scratch.
pub const TWO: &str = "two new layers on the pretrained front";
/// All layers from scratch.
pub const ALL: &str = "the whole network";

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let noises = if protocol.quick { vec![0] } else { vec![0, 20] };
    let (mut rows, mut missing) = (Vec::new(), 0);
    for (name, start, layers) in
        [(HEAD, Start::NewHead, 2), (TWO, Start::Random, 2), (ALL, Start::Random, WHOLE)]
    {
        let whole = layers == WHOLE;
        if whole && protocol.quick {
            continue;
        }
        let mut own = Protocol { base: Draw { start, layers, ..protocol.base }, ..protocol.sweep() };
        let entry = |contender: &Contender| {
            let mut settings = contender.settings_from_scratch(protocol.quick);
            if whole {
                // A run of these is a hundred times as long.
                settings.retain(|setting| setting.epochs == 20 && setting.learning_rate >= 0.025);
            }
            Entry {
                method: contender.name.into(),
                variable: String::new(),
                source: Source::ForNoise(settings),
            }
        };
        own.selection.truncate(1);
        if whole {
            own.evaluation.truncate(2);
        }
        let entries = METHODS.iter().map(entry).collect();
        let noises = if whole { vec![0] } else { noises.clone() };
        match table(&Comparison { table: name, entries, noises, baseline: 0 }, &own, ledger)? {
            Ok(own) => rows.extend(own),
            Err(runs) => missing += runs,
        }
    }
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let mut findings = Findings { name: "scratch", rows, section: String::new(), figures: Vec::new() };
    findings.section = format!(
        "## From random weights\n\nThe bundled task, weights drawn anew in every draw (He's bounds, biases 0); 12 trials a method \
        as above, at about five times the learning rates and twice the epochs, chosen on one draw of \
        each other wearer; {draws} draws a wearer. The whole network (7 layers, 15,839 parameters) is tuned among 3 trials and judged on 2 draws a wearer: a run of it costs a hundred of the others. Accuracy \
        in percent and difference to SGD.\n\n",
        draws = protocol.sweep().evaluation.len()
    );
    for name in [HEAD, TWO, ALL] {
        if findings.table(name).next().is_some() {
            findings.section += &format!(
                "{}{}:\n\n{}",
                name[..1].to_uppercase(),
                &name[1..],
                table_by_noise(&findings, name)
            );
        }
    }
    Ok(Progress::Done(findings))
}
