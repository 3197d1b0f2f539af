//! Rows of the tables of training.

use serde::Serialize;

/// One build's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// rustc's `target-cpu`; empty for the target's own.
    pub target_cpu: &'static str,
    /// Instructions.
    pub instructions: u64,
    /// Estimated cycles on a Cortex-M4; none where the code is another core's.
    pub m4_cycles_estimate: Option<u64>,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Input and output.
    pub shape: String,
    /// Multiply-adds.
    pub macs: u64,
    /// Instructions of the build that takes the fewest.
    pub instructions: u64,
    /// Estimated cycles of the build that takes the fewest.
    pub m4_cycles_estimate: Option<u64>,
    /// Every build's.
    pub builds: Vec<Figures>,
    /// The best other library's instructions.
    pub peer_instructions: Option<u64>,
    /// Ours divided by theirs.
    pub ratio: Option<f64>,
}
