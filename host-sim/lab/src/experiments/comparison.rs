//! Methods side by side on the evaluation draws, each with what was chosen without them.

use super::contenders::{Contender, Protocol};
use super::ledger::Ledger;
use super::result::Row;
use super::statistics::Estimate;
use super::trial::{Draw, Setting, Trial};
use anyhow::{Context, Result};
use flatmin::{Method, RhoUnit};
use rayon::prelude::*;

/// Where an entry's hyperparameters come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Chosen among these at the very share of flipped labels that is reported.
    ForNoise(Vec<Setting>),
    /// Chosen among these once, by the mean over these shares.
    Once(Vec<Setting>, Vec<u32>),
    /// Chosen likewise among these at the share that is reported, then run with another rho.
    WithRho(Vec<Setting>, f32),
    /// Chosen likewise among these at the share that is reported, then run with something else in it.
    Changed(Vec<Setting>, Change),
    /// Given.
    Fixed(Setting),
}

/// What is changed in a setting that was chosen without it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Another method, with this rho in nats.
    Ascent(Method, f32),
    /// The best epoch by a fifth of the samples, which is held out, in place of the last.
    BestEpoch,
}

impl Change {
    fn of(self, setting: Setting) -> Setting {
        match self {
            Self::Ascent(method, rho) => Setting { method, rho, rho_unit: RhoUnit::Nats, ..setting },
            Self::BestEpoch => Setting { held_out: 0.2, ..setting },
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The method.
    pub method: String,
    /// What the experiment varies beside.
    pub variable: String,
    /// Its hyperparameters.
    pub source: Source,
}

impl Entry {
    /// A contender tuned for the share of flipped labels at hand.
    pub fn tuned(contender: &Contender, quick: bool) -> Self {
        Self {
            method: contender.name.to_owned(),
            variable: String::new(),
            source: Source::ForNoise(contender.settings(quick)),
        }
    }

    fn setting(
        &self,
        protocol: &Protocol,
        ledger: &Ledger,
        noise: u32,
        without: Option<usize>,
    ) -> Result<Setting> {
        match &self.source {
            Source::ForNoise(settings) => protocol.choose(ledger, settings, &[noise], without),
            Source::Once(settings, noises) => protocol.choose(ledger, settings, noises, without),
            Source::WithRho(settings, rho) => {
                Ok(Setting { rho: *rho, ..protocol.choose(ledger, settings, &[noise], without)? })
            }
            Source::Changed(settings, change) => {
                Ok(change.of(protocol.choose(ledger, settings, &[noise], without)?))
            }
            Source::Fixed(setting) => Ok(*setting),
        }
    }

    /// What has to be run before a choice can be made for results at `noise`.
    fn selection(&self, protocol: &Protocol, noise: u32) -> Vec<Trial> {
        let (settings, noises) = match &self.source {
            Source::ForNoise(settings) | Source::WithRho(settings, _) | Source::Changed(settings, _) => {
                (settings, vec![noise])
            }
            Source::Once(settings, noises) => (settings, noises.clone()),
            Source::Fixed(_) => return Vec::new(),
        };
        let draws = noises.into_iter().flat_map(|noise| protocol.draws(&protocol.selection, noise));
        draws.flat_map(|draw| settings.iter().map(move |&setting| Trial { draw, setting })).collect()
    }
}

/// Runs one table and hands its rows on, or how many runs are missing.
///
/// # Errors
/// Those of the runs.
pub fn table(
    comparison: &Comparison,
    protocol: &Protocol,
    ledger: &mut Ledger,
) -> Result<Result<Vec<Row>, usize>> {
    match complete(std::slice::from_ref(comparison), protocol, ledger)? {
        0 => Ok(Ok(comparison.rows(protocol, ledger)?)),
        missing => Ok(Err(missing)),
    }
}

/// A table of differences to one baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Its name.
    pub table: &'static str,
    /// Its rows.
    pub entries: Vec<Entry>,
    /// Shares of flipped labels in percent.
    pub noises: Vec<u32>,
    /// Which entry the others are compared with.
    pub baseline: usize,
}

impl Comparison {
    /// All trials that choices rest on.
    pub fn selection(&self, protocol: &Protocol) -> Vec<Trial> {
        let pairs = self.noises.iter().flat_map(|&noise| self.entries.iter().map(move |e| (e, noise)));
        pairs.flat_map(|(entry, noise)| entry.selection(protocol, noise)).collect()
    }

    /// All trials that results rest on, once the selection is complete.
    ///
    /// # Errors
    /// The selection is not complete.
    pub fn evaluation(&self, protocol: &Protocol, ledger: &Ledger) -> Result<Vec<Trial>> {
        let mut trials = Vec::new();
        for entry in &self.entries {
            for &noise in &self.noises {
                for &subject in &protocol.subjects {
                    let setting = entry.setting(protocol, ledger, noise, Some(subject))?;
                    let draw = |&seed: &u64| Draw { subject, seed, noise, ..protocol.base };
                    trials.extend(protocol.evaluation.iter().map(|seed| Trial { draw: draw(seed), setting }));
                }
            }
        }
        Ok(trials)
    }

    /// The table.
    ///
    /// # Errors
    /// Trials are missing.
    pub fn rows(&self, protocol: &Protocol, ledger: &Ledger) -> Result<Vec<Row>> {
        let baseline = self.entries.get(self.baseline).context("the table has no such baseline")?;
        let comparisons = (self.entries.len().saturating_sub(1)) * self.noises.len();
        let cells: Vec<(&Entry, u32)> =
            self.noises.iter().flat_map(|&noise| self.entries.iter().map(move |e| (e, noise))).collect();
        (cells.par_iter())
            .map(|&(entry, noise)| {
                let own = Chosen::new(entry, protocol, ledger, noise)?;
                let other = Chosen::new(baseline, protocol, ledger, noise)?;
                let accuracy =
                    |chosen: &Chosen, draw| anyhow::Ok(100.0 * chosen.outcome(ledger, draw)?.accuracy);
                let values = protocol.per_draw(noise, |draw| accuracy(&own, draw))?;
                let differences =
                    protocol.per_draw(noise, |draw| Ok(accuracy(&own, draw)? - accuracy(&other, draw)?))?;
                let mean = |value: &dyn Fn(&super::trial::Outcome) -> f64| -> Result<f64> {
                    let values = protocol.per_draw(noise, |draw| Ok(value(own.outcome(ledger, draw)?)))?;
                    let count = values.iter().map(Vec::len).sum::<usize>().max(1) as f64;
                    Ok(values.iter().flatten().sum::<f64>() / count)
                };
                Ok(Row {
                    table: self.table.to_owned(),
                    method: entry.method.clone(),
                    noise,
                    variable: entry.variable.clone(),
                    value: Estimate::of(&values, 1),
                    difference: (entry != baseline).then(|| Estimate::of(&differences, comparisons)),
                    baseline: if entry == baseline { String::new() } else { baseline.method.clone() },
                    setting: entry.setting(protocol, ledger, noise, None)?.to_string(),
                    macs: Some(mean(&|outcome| outcome.macs as f64)?),
                    sharpness: Some(mean(&|outcome| outcome.sharpness)?),
                    accuracy_f32: Some(100.0 * mean(&|outcome| outcome.accuracy_f32)?),
                })
            })
            .collect()
    }
}

/// What each subject runs with.
struct Chosen(Vec<(usize, Setting)>);

impl Chosen {
    fn new(entry: &Entry, protocol: &Protocol, ledger: &Ledger, noise: u32) -> Result<Self> {
        let settings = protocol
            .subjects
            .iter()
            .map(|&subject| Ok((subject, entry.setting(protocol, ledger, noise, Some(subject))?)));
        Ok(Self(settings.collect::<Result<_>>()?))
    }

    fn outcome<'l>(&self, ledger: &'l Ledger, draw: Draw) -> Result<&'l super::trial::Outcome> {
        let own = self.0.iter().find(|(subject, _)| *subject == draw.subject);
        ledger.outcome(draw, own.context("a subject without a choice")?.1)
    }
}

/// Runs what the comparisons rest on: choices first, then results. Returns what is still missing.
///
/// # Errors
/// Those of the runs.
pub fn complete(comparisons: &[Comparison], protocol: &Protocol, ledger: &mut Ledger) -> Result<usize> {
    let selection: Vec<Trial> = comparisons.iter().flat_map(|c| c.selection(protocol)).collect();
    let missing = ledger.complete("choosing", &selection)?;
    if missing > 0 {
        return Ok(missing);
    }
    let mut evaluation = Vec::new();
    for comparison in comparisons {
        evaluation.extend(comparison.evaluation(protocol, ledger)?);
    }
    ledger.complete("judging", &evaluation)
}
