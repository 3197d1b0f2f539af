//! Results as JSON lines in a folder: what is there is not computed again. Shards write files of their own; any
//! number of files merge by lying in one folder.

use super::bench::Bench;
use super::trial::{Draw, Outcome, Setting, Trial};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A part of the work: `index` of `count`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err("must be I/N with I from 1 to N, such as 2/8".into()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// [`Bench::fingerprint`] of the code that computed it.
    code: u32,
    trial: Trial,
    outcome: Outcome,
}

/// All results known so far.
pub struct Ledger {
    bench: Bench,
    code: u32,
    folder: PathBuf,
    shard: Option<Shard>,
    known: HashMap<String, Outcome>,
}

impl Ledger {
    /// Opens the folder, making it where there is none; `data` has the tasks that are not bundled.
    ///
    /// # Errors
    /// Files that cannot be read, or a line that is none of ours.
    pub fn open(folder: &Path, data: &Path, shard: Option<Shard>) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let bench = Bench::new(data.to_owned());
        let code = bench.fingerprint()?;
        let mut ledger = Self { bench, code, folder: folder.to_owned(), shard, known: HashMap::new() };
        let mut others = 0;
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                others += ledger.read(&path)?;
            }
        }
        if others > 0 {
            eprintln!("{}: {others} results of other versions of the code are left out", folder.display());
        }
        Ok(ledger)
    }

    fn read(&mut self, path: &Path) -> Result<usize> {
        let context = || format!("cannot read {}", path.display());
        let mut reader = BufReader::new(File::open(path).with_context(context)?);
        let (mut others, mut number, mut text) = (0, 0, String::new());
        loop {
            text.clear();
            number += 1;
            if reader.read_line(&mut text).with_context(context)? == 0 {
                return Ok(others);
            }
            match serde_json::from_str::<Line>(&text) {
                Ok(line) if line.code == self.code => {
                    self.known.insert(line.trial.key(), line.outcome);
                }
                Ok(_) => others += 1,
                // What an interruption cut off is computed again.
                Err(_) if !text.ends_with('\n') => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("{}, line {number}", path.display()));
                }
            }
        }
    }

    /// Whether this is a part of the work alone.
    pub fn is_shard(&self) -> bool {
        self.shard.is_some()
    }

    /// The bench, for what is more than a trial.
    pub fn bench(&self) -> &Bench {
        &self.bench
    }

    /// Computes those of `trials` that are not known, or this shard's part of them. Returns how many are still
    /// missing: 0 unless other shards have them to do.
    ///
    /// # Errors
    /// What the runtime refuses, and files that cannot be written.
    pub fn complete(&mut self, title: &str, trials: &[Trial]) -> Result<usize> {
        let mut groups: BTreeMap<Draw, Vec<Setting>> = BTreeMap::new();
        for trial in trials {
            let group = groups.entry(trial.draw).or_default();
            if !group.contains(&trial.setting) {
                group.push(trial.setting);
            }
        }
        // A draw belongs to the same shard, whatever is known already.
        let own = |index: usize| self.shard.is_none_or(|shard| index % shard.count + 1 == shard.index);
        let work: Vec<(Draw, Vec<Setting>)> = (groups.iter().enumerate())
            .filter(|(index, _)| own(*index))
            .map(|(_, (&draw, settings))| {
                let open =
                    |setting: &&Setting| !self.known.contains_key(&Trial { draw, setting: **setting }.key());
                (draw, settings.iter().filter(open).copied().collect::<Vec<_>>())
            })
            .filter(|(_, settings)| !settings.is_empty())
            .collect();
        if !work.is_empty() {
            self.compute(title, &work)?;
        }
        let all = groups
            .iter()
            .flat_map(|(&draw, settings)| settings.iter().map(move |&setting| Trial { draw, setting }.key()));
        Ok(all.filter(|key| !self.known.contains_key(key)).count())
    }

    fn compute(&mut self, title: &str, work: &[(Draw, Vec<Setting>)]) -> Result<()> {
        let name = match self.shard {
            None => "results.jsonl".to_owned(),
            Some(Shard { index, count }) => format!("results-{index}-of-{count}.jsonl"),
        };
        let path = self.folder.join(name);
        let context = || format!("cannot write {}", path.display());
        drop_cut_line(&path).with_context(context)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).with_context(context)?;
        let file = Mutex::new(file);
        let count: usize = work.iter().map(|(_, settings)| settings.len()).sum();
        let bar = ProgressBar::new(count as u64);
        let template = "{msg}: {bar:40} {pos}/{len} runs, {eta} left";
        bar.set_style(ProgressStyle::with_template(template)?);
        bar.set_message(title.to_owned());
        let (bench, code) = (&self.bench, self.code);
        let results: Vec<Vec<(Trial, Outcome)>> = (work.par_iter())
            .map(|(draw, settings)| {
                let results = bench.run(*draw, settings)?;
                let mut text = String::new();
                for &(trial, outcome) in &results {
                    text += &serde_json::to_string(&Line { code, trial, outcome })?;
                    text.push('\n');
                }
                let mut file = file.lock().map_err(|_| anyhow::anyhow!("another run has failed"))?;
                file.write_all(text.as_bytes()).with_context(context)?;
                bar.inc(results.len() as u64);
                Ok(results)
            })
            .collect::<Result<_>>()?;
        bar.finish_and_clear();
        self.known.extend(results.into_iter().flatten().map(|(trial, outcome)| (trial.key(), outcome)));
        Ok(())
    }

    /// Accuracy of the int8 network that the draw's subject starts from.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn factory(&self, draw: Draw) -> Result<f64> {
        self.bench.factory(draw)
    }

    /// The result of a trial.
    ///
    /// # Errors
    /// It was not computed.
    pub fn outcome(&self, draw: Draw, setting: Setting) -> Result<&Outcome> {
        let key = Trial { draw, setting }.key();
        self.known.get(&key).with_context(|| format!("no result for trial {key}"))
    }
}

/// Takes off what an interruption left of a last line.
fn drop_cut_line(path: &Path) -> std::io::Result<()> {
    let Ok(bytes) = fs::read(path) else { return Ok(()) };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(())
}
