//! "Which recipe when": sentences that are filled, and where need be turned round, by the figures.

use super::result::{Findings, Row, difference, markdown};
use super::shipped::{self, SHIPPED};
use super::statistics::Estimate;
use super::{
    cost, early_stopping, last_layer, learning_rate, minima, noisy_labels, rho, scales, scratch,
    sharpness_batch, width,
};

/// The page's first section; what an experiment that was not run would say is left out.
pub fn guide(findings: &[Findings], factory: f64) -> String {
    let of = |name: &str| findings.iter().find(|own| own.name == name);
    let mut text = String::from(
        "## Which recipe when\n\nEvery sentence is filled in, and where need be turned round, by the tables further down. Differences are in points of \
        accuracy, with the 95 % interval for a further subject; 'better' and 'worse' stand where it leaves out zero.\n\n",
    );
    let parts: [(&str, &str, Part); 14] = [
        ("When nobody can tune", "shipped", fixed),
        ("What was asked of the default", "noisy-labels", requirement),
        ("When somebody tunes", "finetune", elsewhere),
        ("", "images", images),
        ("", "noisy-labels", tuned),
        ("Step size, and what to tune", "learning-rate", untuned),
        ("", "early-stopping", early),
        ("", "cost", price),
        ("", "sharpness-batch", batch),
        ("", "rho", radius),
        ("", "scales", carried),
        ("Which layers", "last-layer", last),
        ("", "scratch", from_scratch),
        ("", "width", wide),
    ];
    for (title, name, part) in parts {
        let Some(own) = of(name) else { continue };
        if !title.is_empty() {
            text += &format!("### {title}\n\n");
        }
        text += &part(own, factory);
    }
    if let Some(own) = of("minima") {
        text += &format!("### Flat minima\n\n{}", flatness(own));
    }
    text
}

type Part = fn(&Findings, f64) -> String;

/// What the interval over subjects allows to say, of several rows: where better, where worse, and of the others how far
/// they are apart.
fn judged<'a>(rows: impl Iterator<Item = &'a Row>, place: impl Fn(&Row) -> String) -> String {
    let (mut better, mut worse, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let Some(estimate) = &row.difference else { continue };
        let told = || format!("{} ({})", place(row), difference(estimate));
        match (estimate.wearers.low > 0.0, estimate.wearers.high < 0.0) {
            (true, _) => better.push(told()),
            (_, true) => worse.push(told()),
            _ => open.push(estimate.wearers.mean),
        }
    }
    let clear = [("**better** at ", better), ("**worse** at ", worse)];
    let told = clear.iter().filter(|(_, places)| !places.is_empty());
    let mut parts: Vec<String> = told.map(|(what, places)| format!("{what}{}", places.join(", "))).collect();
    let (low, high) = ends(open.iter().copied());
    let range = if open.len() == 1 { format!("{low:+.2}") } else { format!("{low:+.2} to {high:+.2}") };
    match (open.is_empty(), parts.is_empty()) {
        (true, _) => {}
        (_, true) => parts.push(format!("no difference to be told ({range})")),
        _ => parts.push(format!("elsewhere none to be told ({range})")),
    }
    parts.join("; ")
}

fn flipped(row: &Row) -> String {
    format!("{} %", row.noise)
}

fn variable(row: &Row) -> String {
    row.variable.clone()
}

/// Methods of a table that have a difference, in order.
fn methods<'a>(own: &'a Findings, table: &'a str) -> Vec<&'a str> {
    let mut methods: Vec<&str> = Vec::new();
    for row in own.table(table).filter(|row| row.difference.is_some()) {
        if !methods.contains(&row.method.as_str()) {
            methods.push(&row.method);
        }
    }
    methods
}

/// A line a method.
fn by_method(own: &Findings, table: &str, title: &str, place: impl Fn(&Row) -> String) -> String {
    let lines = methods(own, table).into_iter().map(|method| {
        let rows = own.table(table).filter(|row| row.method == method);
        format!("  - {method}: {}.\n", judged(rows, &place))
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("- {title}:\n{lines}") }
}

fn condition(row: &Row) -> String {
    format!("{} % flipped{}", row.noise, if row.variable.is_empty() { "" } else { ", 2 labels a class" })
}

/// A row of the same condition.
fn beside<'a>(own: &'a Findings, row: &Row, method: &str) -> Option<&'a Row> {
    own.rows.iter().find(|other| {
        (&other.table, other.noise, &other.variable) == (&row.table, row.noise, &row.variable)
            && other.method == method
    })
}

/// The default beside what it is to be measured by: the factory's tail, and SGD that somebody tuned.
fn fixed(own: &Findings, _: f64) -> String {
    let shipped = |fresh: bool| {
        (own.rows.iter())
            .filter(move |row| row.method == SHIPPED && row.table.starts_with(shipped::FRESH) == fresh)
    };
    let Some(setting) = shipped(false).next().map(|row| row.setting.clone()) else { return String::new() };
    let mut text = format!(
        "Use **`Recipe::DEFAULT`** ({setting}). Points above the factory's network, and in brackets against SGD that was tuned for the very condition on other \
        subjects:\n\n"
    );
    let mut header = vec!["data".to_owned()];
    let mut lines: Vec<Vec<String>> = Vec::new();
    for row in shipped(false) {
        let task = row.table.trim_start_matches("fixed recipes: ");
        if lines.last().is_none_or(|line| line[0] != task) {
            lines.push(vec![task.to_owned()]);
        }
        if lines.len() == 1 {
            header.push(condition(row));
        }
        let Some((factory, estimate)) = beside(own, row, shipped::FACTORY).zip(row.difference.as_ref())
        else {
            continue;
        };
        let above = row.value.wearers.mean - factory.value.wearers.mean;
        if let Some(line) = lines.last_mut() {
            line.push(format!("{above:+.1} ({})", difference(estimate)));
        }
    }
    text += &markdown(&header, &lines);
    let whose = |row: &Row| {
        let table = row.table.trim_start_matches("fixed recipes: ").trim_start_matches(shipped::FRESH);
        format!("{table}, {}", condition(row))
    };
    text += &format!("- Against tuned SGD it is {}.\n", judged(shipped(false), whose));
    text += &format!(
        "- **On fresh draws**, which had no say in any choice, it is {}.\n",
        judged(shipped(true), whose)
    );
    let gains: Vec<f64> = shipped(true)
        .filter_map(|row| {
            Some(row.value.wearers.mean - beside(own, row, shipped::FACTORY)?.value.wearers.mean)
        })
        .collect();
    let (low, high) = ends(gains.iter().copied());
    text += &format!(
        "- On these it stands {low:+.1} to {high:+.1} points above the factory's network by condition.\n"
    );
    let ascent = shipped(true).filter_map(|row| {
        Some(row.value.wearers.mean - beside(own, row, shipped::SAME_STEP)?.value.wearers.mean)
    });
    let (low, high) = ends(ascent);
    text += &format!(
        "- **What its ascent adds**: next to SGD with the same step and smoothing it is {low:+.2} to {high:+.2} points by condition, on the same draws.\n"
    );
    let worse = shipped(false).filter(|row| row.difference.is_some_and(|d| d.wearers.high < 0.0));
    let steps: Vec<String> = worse
        .filter_map(|row| {
            let tuned = own.rows.iter().find(|other| {
                (&other.table, other.noise, &other.variable) == (&row.table, row.noise, &row.variable)
                    && !other.setting.is_empty()
                    && other.baseline.is_empty()
            })?;
            Some(format!("{}: {}", whose(row), tuned.setting))
        })
        .collect();
    if !steps.is_empty() {
        text += &format!(
            "- **Where it is worse**, tuned SGD took: {}. `flatmin tune --auto` looks for such settings, where there are labels to choose by.\n",
            steps.join("; ")
        );
    }
    text.push('\n');
    text
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

/// Two points over tuned SGD with wrong labels, and no worse with right ones?
fn requirement(own: &Findings, _: f64) -> String {
    let mut text = String::from(
        "That it beat SGD tuned for the very share by 2 points with 20 % flipped, the interval above 1, and were not worse with clean labels:\n\n",
    );
    for (method, what) in [
        (SHIPPED, "The recipe that ships"),
        (noisy_labels::BEST, "The recipe that all trials of all methods together choose for 0, 20 and 40 %"),
    ] {
        let row = |noise| own.row(noisy_labels::ONE_AGAINST_TUNED, method, noise);
        let Some((clean, noisy)) = row(0).zip(row(20)) else { continue };
        let Some((at_clean, at_noisy)) = clean.difference.as_ref().zip(noisy.difference.as_ref()) else {
            continue;
        };
        let gain = at_noisy.wearers.mean >= 2.0 && at_noisy.wearers.low > 1.0;
        let harmless = at_clean.wearers.high >= 0.0;
        let holds = |holds: bool| if holds { "**holds**" } else { "does **not** hold" };
        text += &format!(
            "- {what} ({}): the gain {}, {} with 20 % flipped; that it does no harm {}, {} with clean labels.\n",
            noisy.setting,
            holds(gain),
            difference(at_noisy),
            holds(harmless),
            difference(at_clean)
        );
    }
    text + "\n"
}

/// Whether a method that was tuned is better anywhere than SGD that was tuned.
fn elsewhere(own: &Findings, _: f64) -> String {
    let told = |row: &&Row| row.difference.is_some() && !row.method.starts_with(SHIPPED);
    let mut names: Vec<&str> = Vec::new();
    for row in own.rows.iter().filter(told) {
        if !names.contains(&row.method.as_str()) {
            names.push(&row.method);
        }
    }
    let (mut lines, mut clear, mut all) = (Vec::new(), 0, 0);
    for name in names {
        let rows: Vec<(&Row, &Estimate)> = (own.rows.iter())
            .filter(|row| row.method == name)
            .filter_map(|row| Some((row, row.difference.as_ref()?)))
            .collect();
        let (low, high) = ends(rows.iter().map(|(_, d)| d.wearers.mean));
        let list = |up: bool| {
            let of = rows.iter().filter(|(_, d)| if up { d.wearers.low > 0.0 } else { d.wearers.high < 0.0 });
            let cells = of.map(|(row, d)| format!("{}, {} %: {}", row.table, row.noise, difference(d)));
            cells.collect::<Vec<_>>()
        };
        let (better, worse) = (list(true), list(false));
        clear += better.len() + worse.len();
        all += rows.len();
        let cell = |list: Vec<String>| if list.is_empty() { "nowhere".into() } else { list.join("; ") };
        lines.push(vec![
            name.to_owned(),
            cell(better),
            cell(worse),
            format!("{low:+.2} to {high:+.2} in {}", rows.len()),
        ]);
    }
    let header = ["method", "better", "worse", "all conditions"].map(str::to_owned);
    format!(
        "Against SGD tuned as well, on all data: {clear} of {all} differences leave out zero, where chance alone makes about {:.0}.\n\n{}",
        0.05 * all as f64,
        markdown(&header, &lines)
    )
}

/// Wrong labels on the bundled task.
fn tuned(own: &Findings, factory: f64) -> String {
    let mut text = by_method(
        own,
        noisy_labels::PER_NOISE,
        "**Wrong labels**, bundled task, each tuned for the share of them, against SGD tuned likewise",
        flipped,
    );
    let below: Vec<String> = (own.table(noisy_labels::PER_NOISE))
        .filter(|row| row.value.wearers.mean < 100.0 * factory)
        .map(|row| format!("{} at {} % ({:.1})", row.method, row.noise, row.value.wearers.mean))
        .collect();
    text += &match below.as_slice() {
        [] => format!(
            "- **Against the factory** ({:.1} %): every method, tuned, stays above it on average.\n\n",
            100.0 * factory
        ),
        below => format!(
            "- **Worse than the factory** ({:.1} %), though tuned: {}.\n\n",
            100.0 * factory,
            below.join("; ")
        ),
    };
    text
}

/// What the learning rate does, and what the methods do at the same one.
fn untuned(own: &Findings, factory: f64) -> String {
    let find = |method: &str, rate: f32, noise| {
        let variable = format!("lr {rate}");
        own.table(learning_rate::TABLE)
            .find(move |row| row.method == method && row.noise == noise && row.variable == variable)
    };
    let range = |noise| {
        let values = own.table(learning_rate::TABLE).filter(|row| row.method == "SGD" && row.noise == noise);
        ends(values.map(|row| row.value.wearers.mean))
    };
    let (low, high) = range(40);
    let widest = methods(own, learning_rate::TABLE)
        .into_iter()
        .filter_map(|method| Some((method, find(method, 0.02, 40)?.difference.as_ref()?)))
        .max_by(|a, b| a.1.wearers.mean.total_cmp(&b.1.wearers.mean));
    let mut text = String::new();
    if let Some((method, most)) = widest {
        let matters = if high - low > most.wearers.mean {
            "matters more than the method"
        } else {
            "matters less than the method"
        };
        text += &format!(
            "- **Learning rate times epochs {matters}**: with 40 % flipped, 30 epochs of SGD give {low:.1} to {high:.1} % by the learning rate alone \
            (factory {:.1} %); at the largest one, where a method helps most, {method} adds {}.\n",
            100.0 * factory,
            difference(most)
        );
    }
    for rate in [0.0005f32, 0.02] {
        let cells: Vec<String> = methods(own, learning_rate::TABLE)
            .into_iter()
            .map(|method| {
                let rows = [0, 20, 40].into_iter().filter_map(|noise| find(method, rate, noise));
                format!("  - {method}: {}.\n", judged(rows, flipped))
            })
            .collect();
        text +=
            &format!("- At a learning rate of {rate}, nothing tuned, against SGD at it:\n{}", cells.concat());
    }
    text
}

fn early(own: &Findings, _: f64) -> String {
    by_method(
        own,
        early_stopping::TABLE,
        "**A fifth held out, and the best epoch by it**, against SGD on all samples to the end",
        flipped,
    )
}

fn price(own: &Findings, _: f64) -> String {
    by_method(
        own,
        cost::TABLE,
        "**The same multiply-adds**, 20 % flipped, against SGD of the same work; epochs of SGD that pay for it",
        |row| row.variable.trim_start_matches("the work of ").trim_end_matches(" epochs of SGD").to_owned(),
    )
}

fn batch(own: &Findings, _: f64) -> String {
    by_method(
        own,
        sharpness_batch::TABLE,
        "**Samples that share an ascent**, against tuned SGD; m = 1 costs the least",
        |row| format!("{}, {} %", row.variable, row.noise),
    )
}

fn radius(own: &Findings, _: f64) -> String {
    let mut text = String::new();
    for method in methods(own, rho::TABLE) {
        let safe: Vec<&str> = (own.table(rho::TABLE))
            .filter(|row| row.method == method && row.noise == 20)
            .filter(|row| row.difference.as_ref().is_some_and(|d| d.wearers.mean > -0.5))
            .map(|row| row.variable.trim_start_matches("rho = "))
            .collect();
        let safe = if safe.is_empty() { "none".into() } else { safe.join(", ") };
        text += &format!(" {method}: {safe}.");
    }
    format!("- **rho** that is no more than half a point below tuned SGD, 20 % flipped:{text}\n")
}

/// Scales of latents and channels, and pretraining.
fn carried(own: &Findings, _: f64) -> String {
    let mut text = by_method(
        own,
        scales::CHANNELS,
        "**Channels rescaled** by powers of two, the same function, against SGD under the same condition",
        variable,
    );
    let failed = own.table(scales::BOTH).any(|row| row.value.wearers.mean < scales::NEAR_CHANCE);
    text += &by_method(
        own,
        scales::BOTH,
        "**One rho in pretraining and fine-tuning**, a new speaker's digits, against SGD from the same start",
        variable,
    );
    if failed {
        text += "  - Where all stand at chance (the tables say where), pretraining with that rho had failed, and nothing is learnt of fine-tuning.\n";
    }
    text + "\n"
}

/// A convolutional tail.
fn images(own: &Findings, _: f64) -> String {
    by_method(
        own,
        super::images::TABLE,
        "**JPEG images, ResNet-8**, right labels, against SGD tuned likewise",
        flipped,
    )
}

fn last(own: &Findings, _: f64) -> String {
    by_method(own, last_layer::TABLE, "**The last layer alone**, against SGD on it", flipped)
}

fn from_scratch(own: &Findings, _: f64) -> String {
    let tables = [
        (scratch::HEAD, "A new head"),
        (scratch::TWO, "Two new layers"),
        (scratch::ALL, "A whole new network"),
    ];
    let lines = tables.map(|(table, what)| {
        by_method(own, table, &format!("**{what}** from random weights, against SGD on it"), flipped)
    });
    lines.concat()
}

fn wide(own: &Findings, _: f64) -> String {
    by_method(own, width::TABLE, "**Width**, 20 % flipped, against SGD on the same tail", variable) + "\n"
}

fn flatness(own: &Findings) -> String {
    let lower = |table: &str| {
        let cells = own.table(table).filter_map(|row| {
            let d = row.difference.as_ref()?;
            let verdict = match (d.wearers.low > 0.0, d.wearers.high < 0.0) {
                (true, _) => "**sharper**",
                (_, true) => "**flatter**",
                _ => "no difference to be told",
            };
            Some(format!("{} {} ({verdict})", row.method, difference(d)))
        });
        cells.collect::<Vec<_>>().join(", ")
    };
    let mut text = String::new();
    for table in [minima::EIGENVALUE, minima::TRACE] {
        text += &format!(
            "- **The {table}**, 20 % flipped, each method tuned, against SGD's: {}.\n",
            lower(table)
        );
    }
    let what = |table: &str| table.trim_start_matches("accuracy, ").to_owned();
    let bought = |row: &&Row| row.table.starts_with("accuracy, ");
    let mut names: Vec<&str> = Vec::new();
    for row in own.rows.iter().filter(bought).filter(|row| row.difference.is_some()) {
        if !names.contains(&row.method.as_str()) {
            names.push(&row.method);
        }
    }
    text += "- **What flatness buys**: accuracy against SGD's with few bits, noise on the weights and flipped bits:\n";
    for name in names {
        let rows = own.rows.iter().filter(bought).filter(|row| row.method == name);
        text += &format!("  - {name}: {}.\n", judged(rows, |row| what(&row.table)));
    }
    text + "\n"
}
