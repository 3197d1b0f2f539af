//! `early-stopping`: a fifth of the labelled samples held out, and the best epoch by them: what those who have labels
//! to spare gain by it, and what it costs the others.

use super::comparison::{Comparison, Entry, Source, table};
use super::contenders::{Contender, Protocol, SGD, SMOOTHED, asam, sam};
use super::ledger::Ledger;
use super::result::{Findings, Progress, table_by_noise};
use super::trial::Setting;
use anyhow::Result;

/// Two of nine windows a class.
const HELD_OUT: f32 = 0.2;
const METHODS: [Contender; 4] = [SGD, SMOOTHED, sam("SAM, m = 1", 1), asam("ASAM, m = 1", 1)];
/// The table's name.
pub const TABLE: &str = "best epoch by held-out samples";

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let mut protocol = protocol.sweep();
    protocol.selection.truncate(1);
    let protocol = &protocol;
    let quick = protocol.quick;
    let mut entries = vec![Entry { variable: "all samples, last epoch".into(), ..Entry::tuned(&SGD, quick) }];
    entries.extend(METHODS.iter().map(|contender| {
        let early = |setting: Setting| Setting { held_out: HELD_OUT, ..setting };
        let settings = contender.settings(quick).into_iter().map(early).collect();
        Entry {
            method: contender.name.into(),
            variable: "early stopping".into(),
            source: Source::ForNoise(settings),
        }
    }));
    let noises = if quick { vec![40] } else { vec![0, 20, 40] };
    let comparison = Comparison { table: TABLE, entries, noises, baseline: 0 };
    let rows = match table(&comparison, protocol, ledger)? {
        Ok(rows) => rows,
        Err(missing) => return Ok(Progress::Missing(missing)),
    };
    let mut findings = Findings { name: "early-stopping", rows, section: String::new(), figures: Vec::new() };
    findings.section = format!(
        "## Early stopping\n\nThe second protocol: {} % of every class's samples are not trained on; the run ends with the epoch that answers most of them \
        rightly (`Recipe::held_out`, `keep_best`). Their labels are flipped like the others': a device knows no better. Tuned as above but on one draw a \
        wearer, {draws} draws a \
        wearer. Accuracy in percent and difference to SGD that trains on all samples to the end.\n\n{}",
        100.0 * HELD_OUT,
        table_by_noise(&findings, TABLE),
        draws = protocol.evaluation.len()
    );
    Ok(Progress::Done(findings))
}
