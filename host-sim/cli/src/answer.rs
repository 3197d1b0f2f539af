//! Answers on standard output: a line, a report's table, or one JSON object.

use crate::arguments::TuneOptions;
pub use crate::notes::{Verbosity, bar, note};
use anyhow::{Context, Result};
use flatmin_model::json::{document, parts};
use flatmin_sim::report::Report;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// The answer, on standard output. Whoever reads it may stop at any line.
pub fn print(answer: impl std::fmt::Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{answer}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

pub fn show(report: Report, options: &TuneOptions, page: Option<&Path>) -> Result<()> {
    if let Some(page) = page {
        report.write_html(page)?;
        note(format_args!("report: {}", page.display()));
    }
    if Verbosity::current().verbose {
        report.settings.iter().for_each(|(name, value)| eprintln!("{name}: {value}"));
    }
    report.runs.iter().flat_map(|run| &run.warnings).for_each(|warning| eprintln!("warning: {warning}"));
    if options.json { print_json(json(&report)) } else { print(report.to_text()) }
}

/// The answer as one JSON object with the schema's version.
pub fn print_json(content: impl Serialize) -> Result<()> {
    print(document(content)?)
}

/// The table's fields: one entry a method, means over the subjects, with the subjects' own runs inside.
pub fn json(report: &Report) -> serde_json::Value {
    let summary = report.summary();
    let runs: Vec<_> = summary
        .methods
        .iter()
        .map(|m| {
            let own: Vec<_> = report.runs.iter().filter(|r| r.method == m.method).collect();
            let mut fields = serde_json::json!({
                "method": m.method, "rho": m.rho, "rho_unit": m.rho_unit,
                "accuracy_f32": m.accuracy_f32.mean, "accuracy_int8": m.accuracy_int8.mean,
                "loss": m.loss.mean, "sharpness": m.sharpness.mean,
                "train_ram_bytes": m.train_ram_bytes, "memory": parts(&m.memory),
                "tail_parameters": m.tail_parameters, "macs": m.macs,
                "weights_crc32": m.weights_crc32, "instructions": m.instructions,
                "subjects": own,
            });
            if let Some(own) = m.lambda_max {
                fields["lambda_max"] = own.mean.into();
            }
            if let Some((accepted, of)) = m.accepted {
                fields["accepted"] = accepted.into();
                fields["kept_factory"] = (of - accepted).into();
            }
            if m.instructions.is_some() {
                fields["instructions_trunk"] = m.instructions_trunk.into();
                fields["instructions_step"] = m.instructions_step.into();
                fields["ram"] = serde_json::json!(parts(&m.ram));
                fields["ram_announced_bytes"] = m.ram_announced_bytes.into();
            }
            fields
        })
        .collect();
    let mut object = serde_json::json!({ "factory_accuracy": summary.factory_accuracy.mean, "runs": runs });
    if let Some(split) = &report.split {
        object["split"] = serde_json::json!(split);
    }
    if !report.warnings.is_empty() {
        object["warnings"] = report.warnings.clone().into();
    }
    object
}
