//! "Which recipe when": sentences that are filled, and where need be turned round, by the figures.

use super::result::{Findings, Row, difference};
use super::shipped::{self, SHIPPED};
use super::statistics::Estimate;
use super::{
    cost, early_stopping, last_layer, learning_rate, noisy_labels, rho, scratch, sharpness_batch, width,
};

/// The page's first section; what an experiment that was not run would say is left out.
pub fn guide(findings: &[Findings], factory: f64) -> String {
    let of = |name: &str| findings.iter().find(|own| own.name == name);
    let mut text = String::from("## Which recipe when\n\n");
    if let Some(own) = of("shipped") {
        text += &fixed(own);
    }
    if let Some(own) = of("finetune") {
        text += &elsewhere(own);
    }
    if let Some(own) = of("noisy-labels") {
        text += &requirement(own);
        text += &tuned(own, factory);
    }
    if let Some(own) = of("learning-rate") {
        text += &untuned(own, factory);
    }
    if let Some(own) = of("sharpness-batch") {
        text += &batch(own);
    }
    if let Some(own) = of("last-layer") {
        text += &last(own);
    }
    if let Some(own) = of("rho") {
        text += &radius(own);
    }
    if let Some(own) = of("cost") {
        text += &price(own);
    }
    if let Some(own) = of("early-stopping") {
        text += &by_method(
            own,
            early_stopping::TABLE,
            "**A fifth held out, and the best epoch by it**, against SGD on all samples to the end",
        );
    }
    if let Some(own) = of("scratch") {
        for (table, what) in [
            (scratch::HEAD, "A new head"),
            (scratch::TWO, "Two new layers"),
            (scratch::ALL, "A whole new network"),
        ] {
            text += &by_method(own, table, &format!("**{what}** from random weights, against SGD on it"));
        }
    }
    if let Some(own) = of("width") {
        text += &by_method(own, width::TABLE, "**Width**, against SGD on the same tail");
    }
    if let Some(own) = of("minima") {
        text += &curvature(own);
        text += &bits(own);
    }
    text + "\n"
}

/// The default beside what it is to be measured by: the factory's tail, and SGD that somebody tuned.
fn fixed(own: &Findings) -> String {
    let mut text = String::from("- **When nobody can tune**: the recipe that ships");
    if let Some(row) = own.rows.iter().find(|row| row.method == SHIPPED) {
        text += &format!(" ({})", row.setting);
    }
    text += ", against SGD tuned for each condition on other subjects; in brackets the points above the factory's tail:\n";
    let mut tables: Vec<&str> = own.rows.iter().map(|row| row.table.as_str()).collect();
    tables.dedup();
    for table in tables {
        let cells = own.table(table).filter(|row| row.method == SHIPPED).filter_map(|row| {
            let factory = own.table(table).find(|other| {
                (other.method.as_str(), other.noise, &other.variable)
                    == (shipped::FACTORY, row.noise, &row.variable)
            })?;
            let few = if row.variable.is_empty() { "" } else { ", few" };
            let above = row.value.wearers.mean - factory.value.wearers.mean;
            Some(format!(
                "{} % flipped{few} {} ({above:+.1})",
                row.noise,
                difference(row.difference.as_ref()?)
            ))
        });
        let cells: Vec<String> = cells.collect();
        text += &format!("  - {}: {}.\n", table.trim_start_matches("fixed recipes: "), cells.join("; "));
    }
    text
}

/// Whether a method that was tuned is better anywhere than SGD that was tuned.
fn elsewhere(own: &Findings) -> String {
    let mut text = String::from(
        "- **When somebody tunes**, on other data, against SGD tuned as well: differences that stay clear of zero for further subjects",
    );
    let (mut clear, mut all) = (Vec::new(), 0);
    for row in own.rows.iter().filter(|row| row.method != SHIPPED) {
        let Some(estimate) = &row.difference else { continue };
        all += 1;
        if estimate.wearers.excludes_zero() {
            clear.push(format!(
                "{} at {}, {} % flipped {}",
                row.method,
                row.table,
                row.noise,
                difference(estimate)
            ));
        }
    }
    text += &format!(" are {} of {all}: {}.\n", clear.len(), clear.join("; "));
    text
}

/// A line a method.
fn by_method(own: &Findings, table: &str, title: &str) -> String {
    let mut methods: Vec<&str> = Vec::new();
    for row in own.table(table).filter(|row| row.difference.is_some()) {
        if !methods.contains(&row.method.as_str()) {
            methods.push(&row.method);
        }
    }
    if methods.is_empty() {
        return String::new();
    }
    let mut text = format!("- {title}:\n");
    for method in methods {
        let rows = own.table(table).filter(|row| row.method == method);
        let cells = rows.filter_map(|row| {
            let estimate = row.difference.as_ref()?;
            let place = if row.variable.contains("units") {
                row.variable.clone()
            } else {
                format!("{} % flipped", row.noise)
            };
            Some(format!("{place} {} ({})", difference(estimate), verdict(estimate)))
        });
        text += &format!("  - {method}: {}.\n", cells.collect::<Vec<_>>().join("; "));
    }
    text
}

fn curvature(own: &Findings) -> String {
    let cells =
        ["largest eigenvalue of the Hessian", "trace of the Hessian"].into_iter().flat_map(|measure| {
            own.table(measure).filter_map(move |row| {
                Some(format!("{measure}, {} {}", row.method, difference(row.difference.as_ref()?)))
            })
        });
    format!(
        "- **Curvature**, 20 % flipped, each method tuned, against SGD: {}.\n",
        cells.collect::<Vec<_>>().join("; ")
    )
}

/// What the interval over wearers allows to say.
fn verdict(estimate: &Estimate) -> &'static str {
    let interval = estimate.wearers;
    match (interval.low > 0.0, interval.high < 0.0) {
        (true, _) => "better",
        (_, true) => "worse",
        _ => "no difference that could be told",
    }
}

fn differences<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let cells = rows.filter_map(|row| {
        let estimate = row.difference.as_ref()?;
        Some(format!("{} % flipped {} ({})", row.noise, difference(estimate), verdict(estimate)))
    });
    cells.collect::<Vec<_>>().join("; ")
}

fn requirement(own: &Findings) -> String {
    let mut text = String::new();
    for (method, what) in [
        ("Recipe::DEFAULT", "**The recipe that ships**"),
        (
            noisy_labels::BEST,
            "**The recipe that all trials of all methods together choose for 0, 20 and 40 %**",
        ),
    ] {
        let row = |noise| own.row(noisy_labels::ONE_AGAINST_TUNED, method, noise);
        let (Some(clean), Some(noisy)) = (row(0), row(20)) else { continue };
        let (Some(at_clean), Some(at_noisy)) = (&clean.difference, &noisy.difference) else { continue };
        let holds =
            at_noisy.wearers.mean >= 2.0 && at_noisy.wearers.low > 1.0 && at_clean.wearers.high >= 0.0;
        text += &format!(
            "- {what} ({}) against SGD tuned for the very share: {}. That a default beat tuned SGD by 2 points with 20 % \
            flipped, the interval above 1, and were not worse with clean labels, {}.\n",
            noisy.setting,
            differences(own.table(noisy_labels::ONE_AGAINST_TUNED).filter(|row| row.method == method)),
            if holds { "holds" } else { "does **not** hold" }
        );
    }
    text
}

fn tuned(own: &Findings, factory: f64) -> String {
    let mut text = String::new();
    for (method, title) in [
        ("SAM, m = 1", "**SAM** where every method is tuned, against SGD"),
        ("ASAM, m = 1", "**ASAM** likewise"),
        ("SGD, label smoothing", "**Label smoothing** likewise, which costs nothing"),
    ] {
        let rows = own.table(noisy_labels::PER_NOISE).filter(|row| row.method == method);
        text += &format!("- {title}: {}.\n", differences(rows));
    }
    let below: Vec<String> = (own.table(noisy_labels::PER_NOISE))
        .filter(|row| row.value.wearers.mean < 100.0 * factory)
        .map(|row| format!("{} at {} % ({:.1})", row.method, row.noise, row.value.wearers.mean))
        .collect();
    text += &match below.as_slice() {
        [] => format!(
            "- **Against the factory** ({:.1} %): every method, tuned, stays above it on average.\n",
            100.0 * factory
        ),
        below => format!(
            "- **Worse than the factory** ({:.1} %), though tuned: {}.\n",
            100.0 * factory,
            below.join("; ")
        ),
    };
    text
}

fn untuned(own: &Findings, factory: f64) -> String {
    let find = |method: &str, rate: f32, noise| {
        let variable = format!("lr {rate}");
        own.table(learning_rate::TABLE)
            .find(|row| row.method == method && row.noise == noise && row.variable == variable)
    };
    let mut text = String::new();
    for noise in [0, 20, 40] {
        let cells: Vec<String> = [0.0005f32, 0.005, 0.02]
            .into_iter()
            .filter_map(|rate| {
                let base = find("SGD", rate, noise)?;
                let others =
                    ["SGD, label smoothing", "SAM, m = 1", "ASAM, m = 1"].iter().filter_map(|method| {
                        Some(format!(
                            "{method} {}",
                            difference(find(method, rate, noise)?.difference.as_ref()?)
                        ))
                    });
                let others: Vec<String> = others.collect();
                Some(format!("lr {rate}: SGD {:.1}, {}", base.value.wearers.mean, others.join(", ")))
            })
            .collect();
        if !cells.is_empty() {
            text += &format!("  - {noise} % flipped: {}.\n", cells.join("; "));
        }
    }
    let range = |noise| {
        let values = own.table(learning_rate::TABLE).filter(|row| row.method == "SGD" && row.noise == noise);
        let ends = values.map(|row| row.value.wearers.mean);
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (low, high) = range(40);
    format!(
        "- **Learning rate times epochs matters more than the method**: with 40 % flipped, 30 epochs of SGD give {low:.1} to \
        {high:.1} % by the learning rate alone (factory {:.1}). What the methods add at the same learning rate, untuned:\n{text}",
        100.0 * factory
    )
}

fn batch(own: &Findings) -> String {
    let mut text = String::new();
    for method in ["SAM", "ASAM"] {
        for noise in [20, 40] {
            let rows =
                || own.table(sharpness_batch::TABLE).filter(|r| r.method == method && r.noise == noise);
            let cells: Vec<String> = rows()
                .filter_map(|row| Some(format!("{} {}", row.variable, difference(row.difference.as_ref()?))))
                .collect();
            text += &format!("  - {method}, {noise} % flipped: {}.\n", cells.join("; "));
        }
    }
    format!(
        "- **m = 1** costs the least (no gradient buffer, no second pass over stored weights). Against tuned SGD:\n{text}"
    )
}

fn last(own: &Findings) -> String {
    let rows = |method: &'static str| own.table(last_layer::TABLE).filter(move |row| row.method == method);
    format!(
        "- **The last layer alone**, against SGD on it: SAM {}. ASAM {}. Label smoothing {}.\n",
        differences(rows("SAM, m = 1")),
        differences(rows("ASAM, m = 1")),
        differences(rows("SGD, label smoothing"))
    )
}

fn radius(own: &Findings) -> String {
    let mut text = String::new();
    for method in ["SAM, m = 1", "ASAM, m = 1"] {
        let safe: Vec<&str> = (own.table(rho::TABLE))
            .filter(|row| row.method == method && row.noise == 20)
            .filter(|row| row.difference.as_ref().is_some_and(|d| d.wearers.mean > -0.5))
            .map(|row| row.variable.trim_start_matches("rho = "))
            .collect();
        text += &format!(" {method}: rho {}.", safe.join(", "));
    }
    format!("- **rho** within half a point of tuned SGD or above it, 20 % flipped:{text}\n")
}

fn price(own: &Findings) -> String {
    let mut best: Vec<(String, f64, f64)> = Vec::new();
    for row in own.table(cost::TABLE) {
        let (accuracy, macs) = (row.value.wearers.mean, row.macs.unwrap_or(0.0) / 1e6);
        match best.iter_mut().find(|(method, _, _)| *method == row.method) {
            Some(known) if known.1 < accuracy => *known = (row.method.clone(), accuracy, macs),
            Some(_) => {}
            None => best.push((row.method.clone(), accuracy, macs)),
        }
    }
    let cells: Vec<String> = (best.iter())
        .map(|(method, accuracy, macs)| {
            format!("{method} {accuracy:.2} % at {macs:.0} million multiply-adds")
        })
        .collect();
    format!("- **Cost**, 20 % flipped, the best of each over its epochs: {}.\n", cells.join("; "))
}

fn bits(own: &Findings) -> String {
    let cells = own.rows.iter().filter(|row| row.table.ends_with("bits a weight")).filter_map(|row| {
        let bits = row.table.trim_start_matches("accuracy, ").trim_end_matches(" a weight");
        (row.method == "ASAM, m = 1")
            .then(|| Some(format!("{bits} {}", difference(row.difference.as_ref()?))))?
    });
    format!(
        "- **Few bits a weight**: ASAM against SGD, 20 % flipped, both tuned: {}.\n",
        cells.collect::<Vec<_>>().join("; ")
    )
}
