//! `cost`: what each method and optimizer makes of the same multiply-adds: SGD for more epochs, or SAM?

use super::comparison::{Comparison, Entry, Source, complete};
use super::contenders::{ADAM, Contender, Protocol, SGD, SMOOTHED, asam, sam, sam_on};
use super::figure::{Chart, Series};
use super::ledger::Ledger;
use super::result::{Figure, Findings, Progress, Row, difference, markdown};
use super::trial::{Draw, Setting, Trial};
use anyhow::Result;

/// Budgets: the multiply-adds of so many epochs of SGD.
const BUDGETS: [u16; 4] = [5, 10, 20, 40];
const NOISE: u32 = 20;
const METHODS: [Contender; 12] = [
    SGD,
    SMOOTHED,
    sam("SAM, m = 1", 1),
    asam("ASAM, m = 1", 1),
    asam("ASAM, m = 1", 1).every("ASAM, m = 1, every 4th step", 4),
    sam("SAM, m = 16", 16),
    sam("SAM, m = 16", 16).every("SAM, m = 16, every 4th step", 4),
    sam_on("SAM-ON, m = 1", 1),
    ADAM,
    sam("SAM, m = 1", 1).around_adam("AdamW with SAM, m = 1"),
    SGD.warmed("SGD, warm-up", WARM_UP),
    sam("SAM, m = 1", 1).warmed("SAM, m = 1, warm-up", WARM_UP),
];
/// Evaluation draws a wearer.
const DRAWS: usize = 3;
/// Share of the steps.
const WARM_UP: f32 = 0.1;
/// Which methods share a figure.
const FIGURES: [(&str, &str, &[usize]); 2] = [
    ("cost", "SGD, SAM, ASAM", &[0, 1, 2, 3, 4, 5]),
    ("cost-optimizers", "further optimizers", &[0, 6, 7, 8, 9, 10, 11]),
];
/// Epochs of the run that prices are taken of.
const PRICED: u16 = 4;
/// The table's name.
pub const TABLE: &str = "accuracy at the same multiply-adds";

/// What an epoch of a method takes.
struct Price {
    /// Multiply-adds, in those of SGD's epoch.
    work: f64,
    /// Bytes of the arena.
    ram: usize,
}

impl Price {
    /// Epochs that a budget of SGD's epochs pays for, at least one.
    fn epochs(&self, budget: u16) -> u16 {
        (f64::from(budget) / self.work).round().clamp(1.0, f64::from(u16::MAX)) as u16
    }
}

/// Prices by the counters of one run each; `None` where another shard has to do it.
fn prices(ledger: &mut Ledger, protocol: &Protocol, methods: &[Contender]) -> Result<Option<Vec<Price>>> {
    let (subject, seed) = (protocol.subjects[0], protocol.selection[0]);
    let draw = Draw { subject, seed, noise: NOISE, ..protocol.base };
    let settings: Vec<Setting> = methods.iter().map(|own| own.middle(0.002, PRICED)).collect();
    let trials: Vec<Trial> = settings.iter().map(|&setting| Trial { draw, setting }).collect();
    if ledger.complete("prices", &trials)? > 0 {
        return Ok(None);
    }
    let sgd = ledger.outcome(draw, settings[0])?.macs as f64;
    let price = |&setting: &Setting| {
        let work = ledger.outcome(draw, setting)?.macs as f64 / sgd;
        let ram = ledger.bench().with_stand(draw, false, |stand| {
            let samples = u16::try_from(stand.samples.len())?;
            Ok(stand.tuner.pack().sizes().train_bytes(&setting.recipe(0, samples)))
        })?;
        Ok(Price { work, ram })
    };
    settings.iter().map(price).collect::<Result<_>>().map(Some)
}

/// Runs it.
///
/// # Errors
/// Those of the runs.
pub fn run(ledger: &mut Ledger, protocol: &Protocol) -> Result<Progress> {
    let mut protocol = protocol.sweep();
    protocol.selection.truncate(1);
    protocol.evaluation.truncate(DRAWS);
    let protocol = &protocol;
    let budgets = if protocol.quick { vec![5] } else { BUDGETS.to_vec() };
    let Some(prices) = prices(ledger, protocol, &METHODS)? else {
        return Ok(Progress::Missing(METHODS.len()));
    };
    let comparisons: Vec<Comparison> = (budgets.iter())
        .map(|&budget| {
            let entry = |(contender, price): (&Contender, &Price)| Entry {
                method: contender.name.into(),
                variable: variable(budget),
                source: Source::ForNoise(contender.settings_for(price.epochs(budget), protocol.quick)),
            };
            let entries = METHODS.iter().zip(&prices).map(entry).collect();
            Comparison { table: TABLE, entries, noises: vec![NOISE], baseline: 0 }
        })
        .collect();
    let missing = complete(&comparisons, protocol, ledger)?;
    if missing > 0 {
        return Ok(Progress::Missing(missing));
    }
    let mut rows = Vec::new();
    for comparison in &comparisons {
        rows.extend(comparison.rows(protocol, ledger)?);
    }
    let mut findings = Findings { name: "cost", rows, section: String::new(), figures: Vec::new() };
    for (name, title, members) in FIGURES {
        let svg = chart(&findings.rows, title, members).svg()?;
        findings.figures.push(Figure { name: name.into(), svg });
    }
    findings.section = section(&findings, &prices, &budgets, protocol.evaluation.len());
    Ok(Progress::Done(findings))
}

/// A budget's name in tables.
pub fn variable(budget: u16) -> String {
    format!("the work of {budget} epochs of SGD")
}

fn chart(rows: &[Row], title: &str, members: &[usize]) -> Chart {
    let series = members.iter().map(|&index| {
        let name = METHODS[index].name;
        let own = rows.iter().filter(|row| row.method == name);
        let points = own.map(|row| (row.macs.unwrap_or(0.0) / 1e6, row.value.draws));
        Series { name: name.to_owned(), points: points.collect() }
    });
    Chart {
        title: format!("Accuracy against multiply-adds: {title} ({NOISE} % flipped)"),
        x: "million multiply-adds of tuning".into(),
        y: "test accuracy, %".into(),
        logarithmic: true,
        series: series.collect(),
    }
}

fn section(findings: &Findings, prices: &[Price], budgets: &[u16], draws: usize) -> String {
    let mut header = vec!["method".to_owned(), "work of an epoch".into(), "RAM, bytes".into()];
    header.extend(budgets.iter().map(|budget| format!("{budget} epochs of SGD")));
    let cells: Vec<Vec<String>> = (METHODS.iter().zip(prices))
        .map(|(contender, price)| {
            let own = findings.rows.iter().filter(|row| row.method == contender.name);
            let cells = own.map(|row| {
                let accuracy = format!("{:.2}", row.value.wearers.mean);
                row.difference.as_ref().map_or(accuracy.clone(), |d| format!("{accuracy}: {}", difference(d)))
            });
            let fixed = [contender.name.to_owned(), format!("{:.2}", price.work), format!("{}", price.ram)];
            fixed.into_iter().chain(cells).collect()
        })
        .collect();
    format!(
        "## Cost\n\nEvery method gets the same multiply-adds: those of {} epochs of SGD, for which a dearer method has fewer epochs of its own. \
        {NOISE} % of the labels flipped. The learning rate is chosen among 6 on one draw of each other wearer, with a middle strength of the \
        regularizer; {} draws a wearer. 'Every 4th step' ascends in one step of four, which is what LookSAM saves; SAM-ON moves biases alone; AdamW has a fifth of the \
        learning rates, and moments in 8 bits; warm-up is over {:.0} % of the steps. Work counts multiply-adds, in SGD's; RAM is the whole \
        arena, with room for 63 windows. Instructions a step are counted by `flatmin emulate`. Accuracy in percent and difference to SGD of the same work.\n\n\
        ![Accuracy against multiply-adds](evidence/cost.svg)\n\n![The same for further optimizers](evidence/cost-optimizers.svg)\n\n{}",
        budgets.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
        draws,
        100.0 * WARM_UP,
        markdown(&header, &cells)
    )
}
