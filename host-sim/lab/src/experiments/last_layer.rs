//! `last-layer`: the last layer alone, which is all that the smallest devices can tune.

use super::comparison::{Comparison, Entry, complete};
use super::contenders::{Contender, Protocol, SGD, SMOOTHED, asam, sam};
use super::ledger::Ledger;
use super::result::{Findings, Progress, table_by_noise};
use super::trial::Draw;
use anyhow::Result;

const METHODS: [Contender; 4] =
    [SGD, SMOOTHED, sam("SAM, m = 1", 1).in_nats(), asam("ASAM, m = 1", 1).in_nats()];
/// The table's name.
pub const TABLE: &str = "the last layer alone";

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let protocol = Protocol { base: Draw { layers: 1, ..protocol.base }, ..protocol.clone() };
    let entries = METHODS.iter().map(|contender| Entry::tuned(contender, protocol.quick)).collect();
    let noises = if protocol.quick { vec![40] } else { vec![0, 20, 40] };
    let comparison = Comparison { table: TABLE, entries, noises, baseline: 0 };
    let missing = complete(std::slice::from_ref(&comparison), &protocol, ledger)?;
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let rows = comparison.rows(&protocol, ledger)?;
    let mut findings = Findings { name: "last-layer", rows, section: String::new(), figures: Vec::new() };
    findings.section = format!(
        "## The last layer alone\n\n455 parameters in place of 12,807. Each method tuned for the share of flipped labels, as \
        above. Accuracy in percent and difference to SGD.\n\n{}",
        table_by_noise(&findings, TABLE)
    );
    Ok(Progress::Done(findings))
}
