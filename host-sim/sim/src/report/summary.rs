//! Means over subjects, their standard errors, and differences paired by subject.

use std::iter;

use crc::{CRC_32_ISO_HDLC, Crc};
use serde::Serialize;

use super::{Anomalies, TuningRun};

/// The method that the others are compared with.
pub(super) const BASELINE: &str = "sgd";

/// A mean over subjects.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Arithmetic mean; 0 of nothing.
    pub mean: f64,
    /// `s / sqrt(n)` with `s^2 = sum (x - mean)^2 / (n - 1)`; `None` for fewer than two subjects, but for one subject's gain
    /// over the factory, where it is over the test samples.
    pub standard_error: Option<f64>,
    /// Number of subjects `n`.
    pub count: usize,
}

impl Estimate {
    /// Mean and standard error of one value a subject.
    fn of(values: &[f64]) -> Self {
        let count = values.len();
        let mean = values.iter().fold(0.0, |sum, x| sum + x) / count.max(1) as f64;
        let standard_error = (count > 1).then(|| {
            let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
            (squares / (count - 1) as f64 / count as f64).sqrt()
        });
        Self { mean, standard_error, count }
    }
}

/// One method over all of its subjects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodSummary {
    /// `sgd`, `sam` or `asam`.
    pub method: String,
    /// Radius of the perturbation, if it was the same in every run.
    pub rho: Option<f32>,
    /// What that is measured in: `nats` or `weights`.
    pub rho_unit: Option<&'static str>,
    /// Test accuracy with the tail in f32.
    pub accuracy_f32: Estimate,
    /// Test accuracy with the tail requantized to int8.
    pub accuracy_int8: Estimate,
    /// int8 accuracy minus the factory's, paired by subject.
    pub over_factory: Estimate,
    /// f32 accuracy minus SGD's, over the subjects that have both; `None` for SGD and without SGD.
    pub over_sgd_f32: Option<Estimate>,
    /// int8 accuracy minus SGD's, in the same way.
    pub over_sgd_int8: Option<Estimate>,
    /// Cross-entropy on the test set.
    pub loss: Estimate,
    /// Rise of a sample's loss at its own worst step.
    pub sharpness: Estimate,
    /// Largest eigenvalue of the loss's Hessian, where it was measured.
    pub lambda_max: Option<Estimate>,
    /// RAM by purpose in bytes, of the run that takes most.
    pub memory: Vec<(String, usize)>,
    /// RAM that training takes in all, in bytes, of the run that takes most.
    pub train_ram_bytes: usize,
    /// Trainable parameters, of the run that has most.
    pub tail_parameters: usize,
    /// Seconds that solving and stepping took, mean over the runs.
    pub train_seconds: f64,
    /// Multiply-accumulates of a run, mean over the runs.
    pub macs: u64,
    /// Instructions of a run, mean over the runs that counted them.
    pub instructions: Option<u64>,
    /// Instructions of the trunk on one sample, mean over the runs that counted them.
    pub instructions_trunk: Option<u64>,
    /// Instructions of one step on a full minibatch, mean over the runs that counted them.
    pub instructions_step: Option<u64>,
    /// All RAM of a firmware by purpose, of the run that takes most; empty on the desktop.
    pub ram: Vec<(String, usize)>,
    /// All RAM of a firmware as announced, of the same run.
    pub ram_announced_bytes: Option<usize>,
    /// Runs whose tuned tail was accepted, and runs that held samples out to judge it; `None` where none did.
    pub accepted: Option<(usize, usize)>,
    /// Means over the runs of autoencoders; `None` without one.
    pub anomalies: Option<Anomalies>,
    /// The one run's CRC-32; of several, the CRC-32 of their little-endian CRCs in order.
    pub weights_crc32: u32,
}

/// What table, page and JSON show of a report's runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Number of subjects.
    pub subjects: usize,
    /// Test accuracy of the int8 model as shipped, over subjects.
    pub factory_accuracy: Estimate,
    /// The methods, in the order in which they first appear.
    pub methods: Vec<MethodSummary>,
}

impl Summary {
    /// Aggregates by method. Several runs of one subject by one method count as one, by their mean.
    pub(super) fn of(runs: &[TuningRun]) -> Self {
        let all: Vec<&TuningRun> = runs.iter().collect();
        let factory = by_subject(&all, |run| run.factory_accuracy);
        let baseline = runs_of(runs, BASELINE);
        let methods = distinct(runs.iter().map(|run| run.method.as_str()));
        Self {
            subjects: factory.len(),
            factory_accuracy: estimate(&factory),
            methods: methods
                .into_iter()
                .map(|method| summarize(method, &runs_of(runs, method), &baseline))
                .collect(),
        }
    }

    /// Whether methods are compared with SGD: only over several subjects, since a difference of one has no interval.
    pub(super) fn compares(&self) -> bool {
        self.methods.iter().any(|m| m.over_sgd_int8.is_some_and(|own| own.standard_error.is_some()))
    }

    /// Every purpose that RAM is taken for, in the order in which it first appears.
    pub(super) fn purposes(&self) -> Vec<&str> {
        let memory = self.methods.iter().flat_map(|method| &method.memory);
        distinct(memory.map(|(purpose, _)| purpose.as_str()))
    }
}

/// A row of figures: a name, and one figure a method.
pub(super) type Row<'a> = (&'a str, Vec<Option<u64>>);

impl Summary {
    fn row<'a>(&self, name: &'a str, figure: impl Fn(&MethodSummary) -> Option<u64>) -> Row<'a> {
        (name, self.methods.iter().map(figure).collect())
    }

    /// All RAM of the board as the linker and the painted stack say, beside what was announced, but for what takes none; empty
    /// on the desktop.
    pub(super) fn board_memory(&self) -> Vec<Row<'_>> {
        let purposes = self.methods.iter().flat_map(|m| m.ram.iter().map(|(purpose, _)| purpose.as_str()));
        let bytes = |m: &MethodSummary, purpose: &str| {
            let (_, bytes) = m.ram.iter().find(|(name, _)| name == purpose)?;
            Some(*bytes as u64)
        };
        let purposes = distinct(purposes).into_iter();
        let mut rows: Vec<Row> = purposes.map(|purpose| self.row(purpose, |m| bytes(m, purpose))).collect();
        rows.retain(|(_, figures)| figures.iter().flatten().any(|&bytes| bytes > 0));
        if !rows.is_empty() {
            let sum = |m: &MethodSummary| m.ram.iter().map(|(_, bytes)| *bytes as u64).sum();
            rows.push(self.row("in all", |m| Some(sum(m)).filter(|_| !m.ram.is_empty())));
            rows.push(self.row("announced", |m| m.ram_announced_bytes.map(|bytes| bytes as u64)));
        }
        rows
    }

    /// What was counted, to the instruction; empty where nothing was.
    pub(super) fn instructions(&self) -> Vec<Row<'_>> {
        if self.methods.iter().all(|m| m.instructions.is_none()) {
            return Vec::new();
        }
        vec![
            self.row("trunk, one sample", |m| m.instructions_trunk),
            self.row("step, one minibatch", |m| m.instructions_step),
            self.row("whole run", |m| m.instructions),
        ]
    }
}

impl MethodSummary {
    /// Bytes for one purpose, or `None` if this method does not have it.
    pub(super) fn bytes_for(&self, purpose: &str) -> Option<usize> {
        let mut found = self.memory.iter().filter(|(name, _)| name == purpose);
        let (_, first) = found.next()?;
        Some(found.fold(*first, |sum, (_, bytes)| sum + bytes))
    }
}

/// One method's line of the summary.
fn summarize(method: &str, runs: &[&TuningRun], baseline: &[&TuningRun]) -> MethodSummary {
    let mean = |value: fn(&TuningRun) -> f64| estimate(&by_subject(runs, value));
    let over_sgd = |value: fn(&TuningRun) -> f64| {
        let (ours, theirs) = (by_subject(runs, value), by_subject(baseline, value));
        let differences: Vec<f64> = ours
            .iter()
            .filter_map(|(subject, our)| {
                let (_, their) = theirs.iter().find(|(other, _)| other == subject)?;
                Some(our - their)
            })
            .collect();
        (method != BASELINE && !differences.is_empty()).then(|| Estimate::of(&differences))
    };
    let largest = runs.iter().max_by_key(|run| run.train_ram_bytes);
    let counted = |value: fn(&TuningRun) -> Option<u64>| {
        rounded_mean(&runs.iter().filter_map(|run| value(run)).collect::<Vec<_>>())
    };
    let macs: Vec<u64> = runs.iter().map(|run| run.macs).collect();
    let judged: Vec<bool> = runs.iter().filter_map(|run| Some(run.verdict?.accepted)).collect();
    let accepted = judged.iter().filter(|&&accepted| accepted).count();
    let first = runs.first().map(|run| (run.rho, run.rho_unit));
    let radius = first.filter(|first| runs.iter().all(|run| (run.rho, run.rho_unit) == *first));
    MethodSummary {
        method: method.to_owned(),
        rho: radius.map(|(rho, _)| rho),
        rho_unit: radius.and_then(|(_, unit)| unit),
        accuracy_f32: mean(|run| run.accuracy_f32),
        accuracy_int8: mean(|run| run.accuracy_int8),
        over_factory: match runs {
            [TuningRun { changes: Some(changes), .. }] => changes.gain(),
            _ => mean(|run| run.accuracy_int8 - run.factory_accuracy),
        },
        over_sgd_f32: over_sgd(|run| run.accuracy_f32),
        over_sgd_int8: over_sgd(|run| run.accuracy_int8),
        loss: mean(|run| run.loss),
        sharpness: mean(|run| run.sharpness),
        lambda_max: {
            let own: Vec<f64> = runs.iter().filter_map(|run| run.lambda_max).collect();
            (!own.is_empty()).then(|| Estimate::of(&own))
        },
        train_seconds: mean(|run| run.train_seconds).mean,
        memory: largest.map_or_else(Vec::new, |run| run.memory.clone()),
        train_ram_bytes: largest.map_or(0, |run| run.train_ram_bytes),
        tail_parameters: runs.iter().map(|run| run.tail_parameters).max().unwrap_or(0),
        macs: rounded_mean(&macs).unwrap_or(0),
        instructions: counted(|run| run.instructions),
        instructions_trunk: counted(|run| run.instructions_trunk),
        instructions_step: counted(|run| run.instructions_step),
        ram: largest.map_or_else(Vec::new, |run| run.ram.clone()),
        ram_announced_bytes: largest.and_then(|run| run.ram_announced_bytes),
        accepted: Some((accepted, judged.len())).filter(|_| !judged.is_empty()),
        anomalies: mean_anomalies(runs),
        weights_crc32: combined_crc32(runs.iter().map(|run| run.weights_crc32)),
    }
}

/// Means of errors and areas.
fn mean_anomalies(runs: &[&TuningRun]) -> Option<Anomalies> {
    let all: Vec<Anomalies> = runs.iter().filter_map(|run| run.anomalies).collect();
    let mean = |value: fn(&Anomalies) -> f64| Estimate::of(&all.iter().map(value).collect::<Vec<_>>()).mean;
    let area = |value: fn(&Anomalies) -> Option<f64>| {
        let known: Vec<f64> = all.iter().filter_map(value).collect();
        (!known.is_empty()).then(|| Estimate::of(&known).mean)
    };
    (!all.is_empty()).then(|| Anomalies {
        factory_error: mean(|a| a.factory_error),
        tuned_error: mean(|a| a.tuned_error),
        factory_auc: area(|a| a.factory_auc),
        tuned_auc: area(|a| a.tuned_auc),
    })
}

/// The items without repetitions, in the order in which they first appear.
pub(super) fn distinct<'a>(items: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// The runs of one method.
fn runs_of<'a>(runs: &'a [TuningRun], method: &str) -> Vec<&'a TuningRun> {
    runs.iter().filter(|run| run.method == method).collect()
}

/// One value a subject: the mean over its runs.
fn by_subject<'a>(runs: &[&'a TuningRun], value: impl Fn(&TuningRun) -> f64) -> Vec<(&'a str, f64)> {
    distinct(runs.iter().map(|run| run.subject.as_str()))
        .into_iter()
        .map(|subject| {
            let own = runs.iter().filter(|run| run.subject == subject);
            let values: Vec<f64> = own.map(|run| value(run)).collect();
            (subject, Estimate::of(&values).mean)
        })
        .collect()
}

/// Mean and standard error over subjects.
fn estimate(by_subject: &[(&str, f64)]) -> Estimate {
    let values: Vec<f64> = by_subject.iter().map(|(_, value)| *value).collect();
    Estimate::of(&values)
}

/// The mean, to the nearest integer; `None` of nothing.
fn rounded_mean(values: &[u64]) -> Option<u64> {
    let count = values.len() as u128;
    let sum: u128 = values.iter().map(|&value| u128::from(value)).sum();
    let mean = (sum + count / 2).checked_div(count)?;
    u64::try_from(mean).ok()
}

/// A single CRC as it is; several as the CRC-32 (IEEE 802.3) of their little-endian bytes, in order.
fn combined_crc32(crcs: impl Iterator<Item = u32>) -> u32 {
    let mut crcs = crcs.peekable();
    let first = crcs.next();
    match (first, crcs.peek()) {
        (Some(only), None) => only,
        _ => {
            let ieee = Crc::<u32>::new(&CRC_32_ISO_HDLC);
            let mut digest = ieee.digest();
            for crc in iter::chain(first, crcs) {
                digest.update(&crc.to_le_bytes());
            }
            digest.finalize()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn mean_and_standard_error_by_hand() {
        // Deviations -2, 0, 2: s^2 = 8 / 2 = 4, standard error = 2 / sqrt(3).
        let three = Estimate::of(&[1.0, 3.0, 5.0]);
        assert!(close(three.mean, 3.0) && three.count == 3);
        assert!(close(three.standard_error.unwrap(), 2.0 / 3f64.sqrt()));
        let one = Estimate::of(&[0.5]);
        assert_eq!((one.mean, one.standard_error, one.count), (0.5, None, 1));
        let none = Estimate::of(&[]);
        assert_eq!((none.mean, none.standard_error, none.count), (0.0, None, 0));
    }

    #[test]
    fn differences_are_paired_by_subject() {
        let run = |subject: &str, method: &str, accuracy: f64| TuningRun {
            accuracy_f32: accuracy,
            accuracy_int8: accuracy,
            ..samples::run(subject, method)
        };
        // SAM gains 0.02 and 0.04 where both were run: mean 0.03, s^2 = 2e-4, standard error 0.01.
        // The subjects differ by 0.4, which an unpaired error would show. Wearer 3 has no partner.
        let summary = Summary::of(&[
            run("wearer 1", "sgd", 0.5),
            run("wearer 2", "sgd", 0.9),
            run("wearer 2", "sam", 0.94),
            run("wearer 1", "sam", 0.52),
            run("wearer 3", "sam", 0.1),
        ]);
        let [sgd, sam] = &summary.methods[..] else {
            panic!("two methods, not {}", summary.methods.len());
        };
        assert_eq!((summary.subjects, sgd.over_sgd_int8), (3, None));
        let gain = sam.over_sgd_int8.unwrap();
        assert!(close(gain.mean, 0.03) && close(gain.standard_error.unwrap(), 0.01));
        assert_eq!((gain.count, sam.accuracy_f32.count), (2, 3));
        assert_eq!(sam.over_sgd_f32, sam.over_sgd_int8);
    }

    #[test]
    fn repeated_runs_of_a_subject_count_once() {
        let run = |subject: &str, loss: f64| TuningRun { loss, ..samples::run(subject, "sgd") };
        let summary = Summary::of(&[run("a", 1.0), run("a", 3.0), run("b", 4.0)]);
        // Subject means 2 and 4.
        let loss = summary.methods[0].loss;
        assert!(close(loss.mean, 3.0) && close(loss.standard_error.unwrap(), 1.0));
        assert_eq!((loss.count, summary.subjects), (2, 2));
    }

    #[test]
    fn crc_of_one_is_itself_and_of_several_the_crc_of_their_bytes() {
        assert_eq!(combined_crc32([0xDEAD_BEEF].into_iter()), 0xDEAD_BEEF);
        // "12345678" in two words: the check string of CRC-32 without its last character.
        let words = [u32::from_le_bytes(*b"1234"), u32::from_le_bytes(*b"5678")];
        assert_eq!(combined_crc32(words.into_iter()), 0x9AE0_DAAF);
        assert_eq!(combined_crc32(words.into_iter().rev()), crc_of(b"56781234"));
        assert_eq!(combined_crc32([].into_iter()), 0);
    }

    fn crc_of(bytes: &[u8]) -> u32 {
        Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(bytes)
    }

    #[test]
    fn costs_are_of_the_largest_run_or_rounded_means() {
        let run = |macs: u64, ram: usize, instructions: Option<u64>| TuningRun {
            macs,
            train_ram_bytes: ram,
            memory: vec![("arena".into(), ram)],
            instructions,
            rho: ram as f32,
            ..samples::run(&format!("wearer {macs}"), "sam")
        };
        let summary = Summary::of(&[run(10, 512, None), run(13, 256, Some(7))]);
        let sam = &summary.methods[0];
        assert_eq!((sam.macs, sam.train_ram_bytes), (12, 512));
        assert_eq!(sam.bytes_for("arena"), Some(512));
        assert_eq!((sam.instructions, sam.rho), (Some(7), None));
        assert_eq!(rounded_mean(&[]), None);
    }

    #[test]
    fn no_run_gives_zeros() {
        let summary = Summary::of(&[]);
        assert_eq!((summary.subjects, summary.methods.len()), (0, 0));
        assert_eq!(summary.factory_accuracy.mean.to_bits(), 0, "not -0.0 either");
        let json = serde_json::to_string(&summary).unwrap();
        assert!(!json.contains("null,\"methods\"") && json.contains("\"methods\":[]"));
    }
}
