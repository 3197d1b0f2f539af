//! The table in the terminal.

use std::fmt;

use flatmin_model::table::Table;

use super::format::{
    NOTHING, crc, grouped, method_label, method_name, percent_estimate, points_estimate, si, significant,
};
use super::summary::Row;
use super::{MethodSummary, Summary};

impl Summary {
    /// The methods against the factory model, and RAM by purpose: what the terminal shows.
    pub fn to_table(&self) -> String {
        let mut text = format!("{}\n", self.methods_table());
        let (board, instructions) = (self.board_memory(), self.instructions());
        if self.methods.iter().any(|m| m.anomalies.is_some()) {
            text.push_str(&format!("\n{}\n", self.anomalies_table()));
        }
        // The board's RAM has the arena's parts in it.
        if !board.is_empty() {
            text.push_str(&format!("\n{}\n", self.by_method("RAM of the board in bytes", board)));
        } else if !self.methods.is_empty() {
            text.push_str(&format!("\n{}\n", self.memory_table()));
        }
        if !instructions.is_empty() {
            text.push_str(&format!("\n{}\n", self.by_method("instructions", instructions)));
        }
        if self.methods.iter().any(|m| m.accepted.is_some_and(|(accepted, of)| accepted < of)) {
            text.push_str(
                "\n Not accepted: the samples do not show it to be better; the factory's tail was kept.\n",
            );
        }
        if self.subjects > 1 {
            text.push_str(&format!(
                "\n Means over {} subjects ± standard error; differences are paired by subject.\n",
                self.subjects
            ));
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// One row for the factory model, one a method.
    fn methods_table(&self) -> Table {
        let counted = self.methods.iter().any(|m| m.instructions.is_some());
        let compared = self.compares();
        let mut header = vec!["", "acc. f32", "acc. int8"];
        header.extend(compared.then_some("vs SGD, pp"));
        let curved = self.methods.iter().any(|m| m.lambda_max.is_some());
        header.extend(["loss", "sharpness"]);
        header.extend(curved.then_some("λ max"));
        header.extend(["RAM, bytes", "MACs"]);
        header.extend(counted.then_some("instr."));
        let judged = self.methods.iter().any(|m| m.accepted.is_some());
        header.extend(judged.then_some("accepted"));
        header.push("CRC-32");

        let mut table = Table::new(1, &header);
        let factory = percent_estimate(&self.factory_accuracy);
        let mut row = vec!["factory".to_owned(), NOTHING.to_owned(), factory];
        row.resize(header.len(), NOTHING.to_owned());
        table.add_row(row);
        for method in &self.methods {
            table.add_row(method_row(method, compared, curved, counted, judged));
        }
        table
    }

    /// Errors of an autoencoder, and how they tell anomalies, before and after.
    fn anomalies_table(&self) -> Table {
        let areas = self.methods.iter().filter_map(|m| m.anomalies);
        let areas = areas.clone().any(|a| a.factory_auc.is_some() || a.tuned_auc.is_some());
        let mut header = vec!["int8, test set", "squared error before", "after"];
        header.extend(areas.then_some(["AUC before", "after"]).into_iter().flatten());
        let mut table = Table::new(1, &header);
        for method in &self.methods {
            let Some(own) = &method.anomalies else { continue };
            let area = |area: Option<f64>| area.map_or_else(|| NOTHING.to_owned(), |a| format!("{a:.3}"));
            let mut row =
                vec![method_label(method), significant(own.factory_error), significant(own.tuned_error)];
            if areas {
                row.extend([area(own.factory_auc), area(own.tuned_auc)]);
            }
            table.add_row(row);
        }
        table
    }

    /// RAM by purpose, one column a method.
    fn memory_table(&self) -> Table {
        let bytes = |m: &MethodSummary, purpose: &str| m.bytes_for(purpose).map(|bytes| bytes as u64);
        let own = |purpose| (purpose, self.methods.iter().map(|m| bytes(m, purpose)).collect());
        let totals = self.methods.iter().map(|m| Some(m.train_ram_bytes as u64)).collect();
        let used = |row: &Row| row.1.iter().flatten().any(|&bytes| bytes > 0);
        let rows = self.purposes().into_iter().map(own).filter(used).chain([("in all", totals)]);
        self.by_method("RAM in bytes by purpose", rows.collect())
    }

    /// Rows with a column a method.
    fn by_method(&self, title: &str, rows: Vec<Row>) -> Table {
        let names: Vec<String> = self.methods.iter().map(|m| method_name(&m.method)).collect();
        let mut header = vec![title];
        header.extend(names.iter().map(String::as_str));
        let mut table = Table::new(1, &header);
        for (name, figures) in rows {
            let cells = figures.iter().map(|f| {
                f.map_or_else(|| NOTHING.to_owned(), |f| usize::try_from(f).map_or(f.to_string(), grouped))
            });
            table.add_row(std::iter::chain([name.to_owned()], cells));
        }
        table
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_table())
    }
}

/// The cells of one method.
fn method_row(
    method: &MethodSummary,
    compared: bool,
    curved: bool,
    counted: bool,
    judged: bool,
) -> Vec<String> {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let mut row = vec![
        method_label(method),
        percent_estimate(&method.accuracy_f32),
        percent_estimate(&method.accuracy_int8),
    ];
    if compared {
        row.push(or_nothing(method.over_sgd_int8.as_ref().map(points_estimate)));
    }
    row.extend([significant(method.loss.mean), significant(method.sharpness.mean)]);
    if curved {
        row.push(or_nothing(method.lambda_max.map(|own| significant(own.mean))));
    }
    row.extend([grouped(method.train_ram_bytes), si(method.macs)]);
    if counted {
        row.push(or_nothing(method.instructions.map(si)));
    }
    if judged {
        row.push(or_nothing(method.accepted.map(|(accepted, of)| match (accepted, of) {
            (1, 1) => "yes".to_owned(),
            (0, 1) => "kept factory".to_owned(),
            _ => format!("{accepted} of {of}"),
        })));
    }
    row.push(crc(method.weights_crc32));
    row
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn factory_comes_first_and_it_all_fits() {
        let report = samples::report(5, 12);
        let text = report.summary().to_table();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 120), "{text}");
        assert!(lines[0].contains("acc. int8") && lines[0].contains("instr."), "{text}");
        assert!(lines[2].starts_with(" factory"), "{text}");
        assert!(lines[3].starts_with(" SGD"), "{text}");
        assert!(lines[5].starts_with(" ASAM, ρ 0.5 weights"), "{text}");
        assert!(text.contains("RAM in bytes by purpose") && text.contains("in all"), "{text}");
        assert!(text.ends_with("paired by subject."), "{text}");
    }

    #[test]
    fn one_subject_has_no_errors_and_its_own_crc() {
        let report = samples::report(1, 3);
        let text = report.summary().to_table();
        assert!(!text.contains('±'), "{text}");
        for run in &report.runs {
            assert!(text.contains(&format!("0x{:08x}", run.weights_crc32)), "{text}");
        }
    }

    #[test]
    fn a_board_adds_its_own_tables() {
        let mut report = samples::report(1, 0);
        report.runs.truncate(1);
        report.runs[0].ram = vec![
            ("arena".to_owned(), 1024),
            ("gradient f32".to_owned(), 0),
            ("stack, measured".to_owned(), 300),
        ];
        report.runs[0].ram_announced_bytes = Some(1400);
        report.runs[0].instructions_step = Some(1_423_813);
        let text = report.summary().to_table();
        let ends = |name: &str, end: &str| {
            let mut lines = text.lines().skip_while(|line| !line.contains("RAM of the board"));
            lines.any(|line| line.trim_start().starts_with(name) && line.ends_with(end))
        };
        assert!(!text.contains("gradient f32"), "what takes none has no row: {text}");
        assert!(ends("in all", " 1\u{202f}324") && ends("announced", " 1\u{202f}400"), "{text}");
        assert!(
            ends("step, one minibatch", " 1\u{202f}423\u{202f}813") && ends("trunk, one sample", " –"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_shown_as_nothing() {
        let mut report = samples::report(1, 0);
        report.runs[0].loss = f64::NAN;
        let text = report.summary().to_string();
        assert!(!text.contains("NaN"), "{text}");
        report.runs.clear();
        assert!(!report.summary().to_string().contains("NaN"));
    }
}
