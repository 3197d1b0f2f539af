//! `flatmin device`: what a device on a line is asked, and what is shown of its answers.

mod arguments;

use crate::answer::{self, print, print_json, show};
use anyhow::{Context, Result, bail, ensure};
pub use arguments::Arguments;
use arguments::{Action, Asked};
use flatmin::Loss;
use flatmin::wire::{Access, Request};
use flatmin::{Drift, Evidence, Version, Watch};
use flatmin_link::device::{self, Device, Progress};
use flatmin_link::emulate::Answer;
use flatmin_link::key;
use flatmin_link::link::{Identity, LinkError};
use flatmin_model::output::write_file;
use flatmin_sim::delta;
use flatmin_sim::objective;
use flatmin_sim::report::{Report, evidence_name};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{SHARPNESS_RHO, Tail, Training, train};
use indicatif::ProgressBar;
use std::path::Path;
use std::time::Duration;

/// What else `tune` is to do.
#[derive(Debug, Clone, Copy)]
struct Wishes {
    commit: bool,
    sliced: bool,
}

/// Carries out one command.
pub fn run(arguments: &Arguments) -> Result<()> {
    let source = &arguments.action.read()?;
    let json = source.options.json;
    let bar = answer::bar(0, "{msg}")?;
    let provisions = matches!(arguments.action, Action::Provision { .. });
    let mut device = arguments.connection.open(source, provisions, &bar)?;
    match &arguments.action {
        Action::Info(_) => info(&mut device, json),
        Action::Tune { commit, sliced, .. } => {
            tune_there(&mut device, source, Wishes { commit: *commit, sliced: *sliced }, &bar)
        }
        Action::Classify(_) => classify(&mut device, &source.subject()?, json),
        Action::Label { class, .. } => label(&mut device, *class, json),
        Action::AddClass(_) => add_class(&mut device, json),
        Action::Commit(_) => change(&mut device, &Request::Commit, json),
        Action::RollBack(_) => change(&mut device, &Request::RollBack, json),
        Action::FactoryReset(_) => change(&mut device, &Request::FactoryReset, json),
        Action::Monitor { interval, count, drift_loss, drift_rise, .. } => {
            let [loss, rise] = [drift_loss, drift_rise].map(|limit| limit.unwrap_or(f32::INFINITY));
            // Other limits begin the means anew.
            let anew = drift_loss.is_some() || drift_rise.is_some();
            if anew || drift_of(&mut device)?.is_some_and(|drift| drift.is_none()) {
                let watch = Watch { samples: 32, rho: SHARPNESS_RHO, loss, rise };
                device.ask(&Request::Watch(Some(watch)))?;
            }
            monitor(&mut device, *interval, *count, json)
        }
        Action::Backup { output, delta, .. } => {
            let show = |done, all| show_bytes(&bar, done, all);
            let bytes = match delta {
                false => device::backup(&mut device, show)?,
                true => device::backup_delta(&mut device, &source.pack()?, show)?,
            };
            bar.finish_and_clear();
            keep(output, &bytes, json)
        }
        Action::Pause { output, .. } => {
            let bytes = device::pause(&mut device, |done, all| show_bytes(&bar, done, all))?;
            bar.finish_and_clear();
            keep(output, &bytes, json)
        }
        Action::Resume { input, .. } => resume(&mut device, source, input, &bar),
        Action::Restore { input, .. } => {
            let context = || input.display().to_string();
            let bytes = std::fs::read(input).with_context(context)?;
            let show = |done, all| show_bytes(&bar, done, all);
            let crc32 = match delta::is_delta(&bytes) {
                false => device::restore(&mut device, &bytes, show),
                true => device::restore_delta(&mut device, &source.pack()?, &bytes, show),
            };
            bar.finish_and_clear();
            let crc32 = crc32.with_context(context)?;
            if json {
                print_json(serde_json::json!({ "weights_crc32": crc32 }))
            } else {
                print(format_args!("in force: weights {crc32:#010x}; `commit` keeps them in flash"))
            }
        }
        Action::Provision { new_key, .. } => {
            let path = new_key.as_deref().or(arguments.connection.key.as_deref());
            provision(
                &mut device,
                path.context("provision takes --key: the file for the device's key")?,
                json,
            )
        }
        Action::Diff { sample, .. } => diff(&mut device, source, *sample),
    }
}

fn label(device: &mut Device, class: Option<u16>, json: bool) -> Result<()> {
    device.ask(&Request::Label(class))?;
    match class {
        _ if json => print_json(serde_json::json!({ "label": class })),
        Some(class) => print(format_args!("what the device sees from now on is of class {class}")),
        None => print("no label any more"),
    }
}

fn add_class(device: &mut Device, json: bool) -> Result<()> {
    let Answer::ClassAdded { label, .. } = device.ask(&Request::AddClass)? else {
        bail!("the device did not answer with the class that it added");
    };
    if json {
        return print_json(serde_json::json!({ "label": label }));
    }
    print(format_args!("class {label} added; the next tuning run trains it with the others"))
}

fn provision(device: &mut Device, path: &Path, json: bool) -> Result<()> {
    let made = !path.exists();
    let key = if made { key::make(path)? } else { key::read(path)? };
    device.ask(&Request::Provision { key: *key.bytes() })?;
    if json {
        return print_json(serde_json::json!({ "key": path, "made": made }));
    }
    let what = if made { "a new key, in" } else { "the key in" };
    print(format_args!(
        "the device is changed by the holder of {what} {} alone; without it the device can only be erased by a debugger",
        path.display()
    ))
}

fn keep(output: &Path, bytes: &[u8], json: bool) -> Result<()> {
    write_file(output, bytes).with_context(|| format!("cannot write {}", output.display()))?;
    let count = bytes.len();
    if json {
        print_json(serde_json::json!({ "output": output, "bytes": count }))
    } else {
        print(format_args!("{}: {count} bytes", output.display()))
    }
}

fn resume(device: &mut Device, source: &Asked, input: &Path, bar: &ProgressBar) -> Result<()> {
    let context = || input.display().to_string();
    let bytes = std::fs::read(input).with_context(context)?;
    if device.identify()?.samples == 0 {
        let subject = source.subject()?;
        let loss = subject.model.network.loss();
        for (input, label) in &subject.adaptation {
            device.ask(&objective::observation(loss, input, *label)?)?;
        }
    }
    let resumed = device::resume(device, &bytes, |done, all| show_bytes(bar, done, all));
    bar.finish_and_clear();
    resumed.with_context(context)?;
    let steps = device::finish(device)?;
    let accepted = match source.options.recipe_file.recipe.held_out.is_some_and(|share| share > 0.0) {
        true => match device.ask(&Request::Accept)? {
            Answer::Accepted { acceptance, .. } => Some(acceptance),
            other => bail!("the device answers {other:?} instead of whether it takes the tail"),
        },
        false => device.ask(&Request::Requantize).map(|_| None)?,
    };
    let crc32 = device.identify()?.weights_crc32;
    if source.options.json {
        let evidence = accepted.map(|acceptance| evidence_name(acceptance.evidence));
        let accepted = accepted.map(|acceptance| acceptance.accepted);
        return print_json(serde_json::json!({
            "steps": steps, "weights_crc32": crc32, "accepted": accepted, "evidence": evidence
        }));
    }
    let verdict = match accepted.map(|acceptance| (acceptance.accepted, acceptance.evidence)) {
        None => "",
        Some((true, Evidence::Better)) => ", better by the samples",
        Some((true, _)) => ", better by less than one sample's answer",
        Some((false, Evidence::Worse)) => ", worse by the samples: the tail before it",
        Some((false, _)) => ", not better by the samples: the tail before it",
    };
    print(format_args!("{steps} steps to the run's end{verdict}; in force: weights {crc32:#010x}"))
}

fn show_bytes(bar: &ProgressBar, done: usize, all: usize) {
    bar.set_message("bytes");
    bar.set_length(all as u64);
    bar.set_position(done as u64);
}

fn info(device: &mut Device, json: bool) -> Result<()> {
    let identity = device.identify()?;
    let mut slots = Vec::new();
    for slot in 0..identity.slots {
        match device.ask(&Request::Slot(slot))? {
            Answer::Slot(state) => slots.push(state.to_string()),
            other => bail!("the device answers {other:?} instead of what lies in slot {slot}"),
        }
    }
    let version = if identity.tuned { Version::Tuned } else { Version::Factory };
    let confusion = match device::confusion(device, version) {
        Ok(rows) if identity.samples > 0 => rows,
        Err(error) if !is_refusal(&error) => return Err(error),
        // No samples, or no classes.
        _ => Vec::new(),
    };
    // Tails of more classes know no anomalies.
    let detects = identity.samples > 0 && confusion.len() <= 2;
    let auc = match detects.then(|| device.ask(&Request::Auc { version })).transpose() {
        Ok(Some(Answer::Auc { auc, .. })) => Some(auc),
        Ok(Some(other)) => bail!("the device answers {other:?} instead of the area under its curve"),
        Ok(None) => None,
        // There are none among its samples, or a run is under way.
        Err(error) if is_refusal(&error) => None,
        Err(error) => return Err(error),
    };
    if json {
        let mut object = serde_json::to_value(&identity)?;
        object["auc"] = serde_json::json!(auc);
        object["slot_states"] = serde_json::json!(slots);
        object["confusion"] = serde_json::json!(confusion);
        return print_json(&object);
    }
    let tail = match (identity.sequence, identity.tuned) {
        (Some(number), _) => format!("record {number} of the store"),
        (None, true) => "tuned, not committed".to_owned(),
        (None, false) => "factory".to_owned(),
    };
    print(format_args!("board      {}, clock {} Hz", identity.board, identity.hertz))?;
    print(format_args!("pack       {:#010x}, takes {} values", identity.pack_crc32, identity.input_length))?;
    print(format_args!(
        "arena      {} bytes, {} of {} samples",
        identity.arena_bytes, identity.samples, identity.capacity
    ))?;
    print(format_args!("tail       {tail}, weights {:#010x}", identity.weights_crc32))?;
    print(format_args!("changed by {}", changed_by(identity.access)))?;
    if slots.is_empty() {
        print("store      none")?;
    }
    slots.iter().enumerate().try_for_each(|(slot, state)| print(format_args!("slot {slot}     {state}")))?;
    if let Some(auc) = auc {
        print(format_args!(
            "anomalies  told from normal samples with an area under the ROC curve of {auc:.4}"
        ))?;
    }
    if !confusion.is_empty() {
        print("confusion  of the held-out samples, or all: a row a label, a column a class")?;
    }
    confusion.iter().try_for_each(|row| {
        print(row.iter().fold(format!("{:11}", ""), |line, count| format!("{line}{count:5}")))
    })
}

/// From whom a device takes what changes it, for people.
fn changed_by(access: Access) -> &'static str {
    match access {
        Access::Anybody => "anybody on the line (firmware without the feature `signed`)",
        Access::Unclaimed => "nobody yet: `flatmin device provision` gives it a key",
        Access::KeyHolder => "the holder of its key",
        _ => "nobody: the flash that its key lies in cannot be read",
    }
}

fn tune_there(device: &mut Device, source: &Asked, wishes: Wishes, bar: &ProgressBar) -> Result<()> {
    let subject = source.subject()?;
    let tail = source.tail(&subject)?;
    let pack = subject.model.pack(&tail)?;
    let Identity { board, contents, .. } = device.identify()?;
    // Its firmware decides.
    let tuner = Tail::of(contents);
    let options = match tuner {
        Tail::Full => &source.options,
        Tail::Compact | Tail::Integer => &source.options.in_integers(&subject, &tail)?,
    };
    ensure!(options.tuner() == tuner, "the device trains in f32: leave out --integer");
    let (start, trainings) = options.trainings_on_device(&subject, &tail, tuner)?;
    let each = subject.adaptation.len() + options.epochs() as usize + subject.test.len();
    bar.set_length((trainings.len() * each) as u64);
    let mut runs = Vec::new();
    for training in trainings {
        let training = Training { tuner, ..training };
        let measured = device::train(device, &pack, &subject, &training, wishes.sliced, |progress| {
            bar.set_message(match progress {
                Progress::Observed => "samples sent",
                Progress::Epoch => "epochs",
                Progress::Judged => "test samples",
            });
            bar.inc(1);
        })?;
        let simulated = train(&subject, &tail, &training, || {})?;
        let (found, expected) = (measured.run.weights_crc32, simulated.weights_crc32);
        ensure!(
            found == expected,
            "{}: the device's weights are {found:#010x}, the simulation's {expected:#010x}; `flatmin device diff` \
             looks for the operator",
            training.name()
        );
        runs.push(measured.run);
    }
    bar.finish_and_clear();
    let kept = runs.last().is_some_and(|run| run.verdict.is_some_and(|verdict| !verdict.accepted));
    if wishes.commit && !kept {
        device.ask(&Request::Commit)?;
    }
    let settings = options.settings(&tail, start);
    let title = format!("{board}, {}", subject.name);
    let report = Report::new(title, std::slice::from_ref(&subject), settings, runs);
    show(report, options, options.report.as_deref())?;
    if !options.json {
        print("weights equal the simulation's, bit for bit")?;
        if wishes.commit && kept {
            print(
                "nothing was committed: by the samples held out the tuned tail is no better than the one before",
            )?;
        }
    }
    Ok(())
}

fn classify(device: &mut Device, subject: &Subject, json: bool) -> Result<()> {
    if subject.model.network.loss() == Loss::SquaredError {
        let found = device::anomalies(device, &subject.test)?;
        if json {
            return print_json(found);
        }
        let area = |auc: Option<f64>| auc.map_or(String::new(), |auc| format!(", AUC {auc:.4}"));
        print(format_args!("factory tail: error {:.6}{}", found.factory_error, area(found.factory_auc)))?;
        return print(format_args!("tail in force: error {:.6}{}", found.tuned_error, area(found.tuned_auc)));
    }
    let (mut right, mut by_tuned, mut classes) = (0, false, Vec::new());
    for (input, label) in &subject.test {
        match device.ask(&Request::Classify { input: bytemuck::cast_slice(input) })? {
            Answer::Classified { class, tuned, .. } => {
                right += usize::from(usize::from(class) == *label);
                by_tuned = tuned;
                classes.push(class);
            }
            other => bail!("the device answers {other:?} instead of a class"),
        }
    }
    let share = right as f64 / subject.test.len().max(1) as f64;
    if json {
        return print_json(serde_json::json!({ "tuned": by_tuned, "accuracy": share, "classes": classes }));
    }
    let tail = if by_tuned { "tuned" } else { "factory" };
    print(format_args!("{tail} tail: {right} of {} right, {:.1} %", subject.test.len(), 100.0 * share))
}

fn change(device: &mut Device, request: &Request, json: bool) -> Result<()> {
    let Answer::InForce { sequence, weights_crc32, .. } = device.ask(request)? else {
        bail!("the device did not answer with what is in force");
    };
    if json {
        return print_json(serde_json::json!({ "sequence": sequence, "weights_crc32": weights_crc32 }));
    }
    let tail = sequence.map_or("factory tail".to_owned(), |number| format!("record {number}"));
    print(format_args!("in force: {tail}, weights {weights_crc32:#010x}"))
}

/// The running means of the samples observed; `None` of a device that has none to give.
fn drift_of(device: &mut Device) -> Result<Option<Option<Drift>>> {
    match device.ask(&Request::Drift) {
        Ok(Answer::Drift(drift)) => Ok(Some(drift)),
        Ok(other) => bail!("the device answers {other:?} instead of its running means"),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LinkError::Refused(_)))
}

fn monitor(device: &mut Device, interval: f64, count: Option<u64>, json: bool) -> Result<()> {
    let interval = Duration::try_from_secs_f64(interval).context("--interval must be 0 or more")?;
    let (mut lines, mut observed, mut number) = (Vec::new(), Vec::new(), 0);
    while count.is_none_or(|count| number < count) {
        if number > 0 {
            std::thread::sleep(interval);
        }
        number += 1;
        let metrics = match device.ask(&Request::Measure { rho: SHARPNESS_RHO }) {
            Ok(Answer::Metrics(metrics)) => Some(metrics),
            Ok(other) => bail!("the device answers {other:?} instead of metrics"),
            // Without samples there is nothing to measure yet.
            Err(error) if is_refusal(&error) => None,
            Err(error) => return Err(error),
        };
        let drift = drift_of(device)?.flatten().filter(|drift| drift.samples > 0);
        observed.push(drift);
        match metrics {
            _ if json => lines.push(metrics),
            None => print("no samples yet")?,
            Some(m) => print(format_args!(
                "{} samples{}: loss {:.4}, accuracy {:.1} %, sharpness {:.4}{}",
                m.samples,
                m.epoch.map_or(String::new(), |epoch| format!(", epoch {epoch}")),
                m.loss,
                100.0 * m.accuracy,
                m.sharpness,
                drift.map_or(String::new(), |d| format!(
                    "; {} observed: loss {:.4}, rise {:.4}{}",
                    d.samples,
                    d.loss,
                    d.rise,
                    if d.drifted { ", drift" } else { "" }
                ))
            ))?,
        }
    }
    if json { print_json(serde_json::json!({ "metrics": lines, "observed": observed })) } else { Ok(()) }
}

fn diff(device: &mut Device, source: &Asked, sample: usize) -> Result<()> {
    let subject = source.subject()?;
    let pack = subject.model.pack(&source.tail(&subject)?)?;
    let count = subject.test.len();
    let chosen = subject.test.get(sample);
    let chosen = chosen.with_context(|| format!("no test sample {sample}; there are {count}"))?;
    let rows = device::diff(device, &pack, chosen)?;
    let parting = rows.iter().find(|row| row.device != row.simulation).map(|row| row.operator);
    if source.options.json {
        return print_json(serde_json::json!({ "operators": rows, "parting": parting }));
    }
    for row in &rows {
        let note = if row.device == row.simulation { "" } else { "   <- differs" };
        let (number, there, here) = (row.operator, row.device, row.simulation);
        print(format_args!("operator {number:3}: device {there:#010x}, simulation {here:#010x}{note}"))?;
    }
    match parting {
        Some(operator) => print(format_args!("they part at operator {operator}")),
        None => print("all equal"),
    }
}
