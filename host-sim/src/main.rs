//! The command line of `flatmin`.

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use flatmin::{Method, Recipe};
use host_sim::emulate::{Firmware, LogSink};
use host_sim::model::Model;
use host_sim::report::{Report, TuningRun};
use host_sim::samples::{Inputs, Samples, write_npy_i8};
use host_sim::tuning::{Subject, method_name, sized, tune};
use host_sim::{inspect, wearers};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

/// Fine-tunes the last layers of int8 networks with SAM and ASAM, by the code that runs on the microcontroller.
///
/// Without a command: tunes the bundled model for each of ten held-out wearers with SGD, SAM and ASAM, prints
/// one table and writes an HTML report.
#[derive(Debug, Parser)]
#[command(name = "flatmin", version, after_help = "Example: flatmin --label-noise 0.2 --report report.html")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: TuneOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tune one model: a held-out wearer's, or your own on your own data
    #[command(after_help = "Examples:\n  flatmin tune --wearer 3 --method asam --label-noise 0.2\n  \
        flatmin tune model.tflite --data x.npy y.npy --layers 2 --json")]
    Tune {
        /// A full-integer int8 .tflite; without it the bundled model of --wearer
        model: Option<PathBuf>,
        /// X.npy Y.npy (int8 or float32, batch first; integer labels) or one CSV of label and values a row
        #[arg(long, num_args = 1..=2, value_names = ["X.npy", "Y.npy"], requires = "model")]
        data: Vec<PathBuf>,
        /// The held-out wearer, 1 to 10
        #[arg(long, default_value_t = 1, conflicts_with = "model")]
        wearer: usize,
        #[command(flatten)]
        options: TuneOptions,
    },
    /// Build the firmware, run it in QEMU with the same data and seed, and compare it with the desktop
    #[command(after_help = "Example: flatmin emulate --board mps2-an386 --method sam --json")]
    Emulate {
        /// QEMU's name of the board
        #[arg(long, default_value = "mps2-an386")]
        board: String,
        /// The held-out wearer, 1 to 10
        #[arg(long, default_value_t = 1)]
        wearer: usize,
        /// Write the firmware's log here (default: standard error)
        #[arg(long)]
        log: Option<PathBuf>,
        #[command(flatten)]
        options: TuneOptions,
    },
    /// Layers, shapes, scales and MACs of a model, and what training each possible tail would take
    #[command(after_help = "Example: flatmin inspect model.tflite --json")]
    Inspect {
        /// A full-integer int8 .tflite
        model: PathBuf,
        /// Labelled samples that the device keeps
        #[arg(long, default_value_t = Recipe::DEFAULT.replay_capacity)]
        replay_capacity: u16,
        /// Samples that share one ascent: more than one takes a gradient buffer
        #[arg(long, default_value_t = Recipe::DEFAULT.sharpness_batch)]
        sharpness_batch: u16,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write the device format, and a Rust file with its constants beside it
    #[command(after_help = "Example: flatmin pack model.tflite --layers 2 -o model.pack")]
    Pack {
        /// A full-integer int8 .tflite
        model: PathBuf,
        /// Fully connected layers to train, counted from the end
        #[arg(long, default_value_t = 2)]
        layers: usize,
        /// Where to write the pack; the Rust file gets the same name with .rs
        #[arg(short, long)]
        output: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Plain int8 inference with the crate's own kernels
    #[command(after_help = "Example: flatmin run model.tflite --input x.npy --output y.npy")]
    Run {
        /// A full-integer int8 .tflite
        model: PathBuf,
        /// int8 or float32 .npy, batch first; float32 is quantized with the model's input parameters
        #[arg(long)]
        input: PathBuf,
        /// The network's int8 outputs, batch first
        #[arg(long)]
        output: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MethodArgument {
    Sgd,
    Sam,
    Asam,
}

impl MethodArgument {
    fn method(self) -> Method {
        match self {
            Self::Sgd => Method::Sgd,
            Self::Sam => Method::Sam,
            Self::Asam => Method::Asam,
        }
    }
}

#[derive(Debug, Clone, Args)]
struct TuneOptions {
    /// Only this method (default: all three)
    #[arg(long)]
    method: Option<MethodArgument>,
    /// Fully connected layers to train, counted from the end
    #[arg(long, default_value_t = 2)]
    layers: usize,
    /// Radius of the ascent (default: 0.05 for SAM, 0.5 for ASAM)
    #[arg(long)]
    rho: Option<f32>,
    /// Samples that share one ascent
    #[arg(long, default_value_t = Recipe::DEFAULT.sharpness_batch)]
    sharpness_batch: u16,
    /// Learning rate
    #[arg(long, default_value_t = Recipe::DEFAULT.learning_rate)]
    learning_rate: f32,
    /// Weight decay
    #[arg(long, default_value_t = Recipe::DEFAULT.weight_decay)]
    weight_decay: f32,
    /// Epochs
    #[arg(long, default_value_t = Recipe::DEFAULT.epochs)]
    epochs: u16,
    /// Share of adaptation labels to flip, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = parse_share)]
    label_noise: f64,
    /// Labelled windows a class to tune on (bundled task)
    #[arg(long, default_value_t = 9)]
    windows_per_class: usize,
    /// Seed of the draw of windows, of flipped labels and of the order of samples
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Write an HTML report here (without a command: flatmin-report.html unless --json)
    #[arg(long)]
    report: Option<PathBuf>,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be from 0 to 1".into()) }
}

impl TuneOptions {
    fn methods(&self) -> Vec<Method> {
        let all = vec![Method::Sgd, Method::Sam, Method::Asam];
        self.method.map_or(all, |m| vec![m.method()])
    }

    fn recipe(&self, method: Method) -> Recipe {
        let usual = if method == Method::Sam { 0.05 } else { Recipe::DEFAULT.rho };
        Recipe {
            method,
            rho: self.rho.unwrap_or(usual),
            sharpness_batch: self.sharpness_batch,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            epochs: self.epochs,
            seed: self.seed,
            ..Recipe::DEFAULT
        }
    }

    fn settings(&self) -> Vec<(String, String)> {
        [
            ("layers tuned", self.layers.to_string()),
            ("label noise", format!("{} %", self.label_noise * 100.0)),
            ("windows a class", self.windows_per_class.to_string()),
            ("sharpness batch m", self.sharpness_batch.to_string()),
            ("learning rate", self.learning_rate.to_string()),
            ("weight decay", self.weight_decay.to_string()),
            ("epochs", self.epochs.to_string()),
            ("seed", self.seed.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn wearer(&self, wearer: usize) -> Result<Subject> {
        Subject::wearer(wearer, self.windows_per_class, self.label_noise, self.seed)
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flatmin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        None => {
            let options = cli.options;
            let subjects = (1..=wearers::WEARERS).map(|w| options.wearer(w)).collect::<Result<Vec<_>>>()?;
            let page = if options.json { None } else { Some(PathBuf::from("flatmin-report.html")) };
            let page = options.report.clone().or(page);
            tune_all(&subjects, "Held-out wearers, bundled model", &options, page.as_deref())
        }
        Some(Command::Tune { model: None, wearer, options, .. }) => {
            let page = options.report.clone();
            tune_all(
                &[options.wearer(wearer)?],
                "A held-out wearer, bundled model",
                &options,
                page.as_deref(),
            )
        }
        Some(Command::Tune { model: Some(path), data, options, .. }) => {
            let subject = user_subject(&path, &data, &options)?;
            let page = options.report.clone();
            tune_all(&[subject], &path.display().to_string(), &options, page.as_deref())
        }
        Some(Command::Emulate { board, wearer, log, options }) => {
            let subject = options.wearer(wearer)?;
            let methods = options.methods();
            let bar = ProgressBar::new(methods.len() as u64 * u64::from(options.epochs));
            bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} epochs, {eta} left")?);
            let sink = log_sink(log.as_deref(), &bar)?;
            // The arena's size does not depend on the method: one firmware for all.
            let recipe = sized(&subject, options.recipe(Method::Asam))?;
            let firmware = Firmware::build(&board, &subject.model, options.layers, &recipe, sink)?;
            let runs = (methods.par_iter())
                .map(|&m| {
                    let tuned = firmware.tune(&subject, options.recipe(m), || bar.inc(1));
                    tuned.with_context(|| format!("tuning with {} on {board}", method_name(m)))
                })
                .collect::<Result<_>>()?;
            bar.finish_and_clear();
            let title = format!("{board} in QEMU, {}", subject.name);
            show(
                Report { title, classes: subject.classes, settings: options.settings(), runs },
                &options,
                options.report.as_deref(),
            )
        }
        Some(Command::Inspect { model, replay_capacity, sharpness_batch, json }) => {
            let recipe = Recipe { replay_capacity, sharpness_batch, ..Recipe::DEFAULT };
            let inspection = inspect::inspect(&Model::open(&model)?, &recipe)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&inspection)?);
            } else {
                println!("{inspection}");
            }
            Ok(())
        }
        Some(Command::Pack { model, layers, output, json }) => pack(&model, layers, &output, json),
        Some(Command::Run { model, input, output, json }) => infer(&model, &input, &output, json),
    }
}

/// Where the firmware's log lines go: a file, or standard error without disturbing the progress bar.
fn log_sink(path: Option<&Path>, bar: &ProgressBar) -> Result<LogSink> {
    let Some(path) = path else {
        let bar = bar.clone();
        return Ok(LogSink::new(move |line| bar.suspend(|| eprintln!("{line}"))));
    };
    let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let file = Mutex::new(file);
    Ok(LogSink::new(move |line| {
        // A log that cannot be written is no reason to stop the run.
        if let Ok(mut file) = file.lock() {
            let _ = writeln!(file, "{line}");
        }
    }))
}

fn user_subject(path: &Path, data: &[PathBuf], options: &TuneOptions) -> Result<Subject> {
    let model = Model::open(path)?;
    let shape = sample_shape(&model);
    let classes = model.output_shape().iter().product();
    let samples = match data {
        [x, y] => Samples::from_npy(x, y, &shape, classes)?,
        [csv] => Samples::from_csv(csv, &shape, classes)?,
        _ => bail!("{}: --data X.npy Y.npy or --data windows.csv is needed to tune it", path.display()),
    };
    Subject::user(model, &samples, options.label_noise, options.seed)
}

/// Shape of one sample: the input's without the batch.
fn sample_shape(model: &Model) -> Vec<usize> {
    model.input_shape().iter().skip(1).copied().collect()
}

fn tune_all(subjects: &[Subject], title: &str, options: &TuneOptions, page: Option<&Path>) -> Result<()> {
    let methods = options.methods();
    let jobs: Vec<(&Subject, Method)> =
        subjects.iter().flat_map(|s| methods.iter().map(move |&m| (s, m))).collect();
    let bar = ProgressBar::new(jobs.len() as u64 * u64::from(options.epochs));
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} epochs, {eta} left")?);
    let runs: Vec<TuningRun> = jobs
        .par_iter()
        .map(|(subject, method)| {
            tune(subject, options.layers, options.recipe(*method), || bar.inc(1))
                .with_context(|| format!("tuning with {}", method_name(*method)))
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let classes = subjects.first().map(|s| s.classes.clone()).unwrap_or_default();
    show(Report { title: title.to_owned(), classes, settings: options.settings(), runs }, options, page)
}

fn show(report: Report, options: &TuneOptions, page: Option<&Path>) -> Result<()> {
    if options.json {
        println!("{}", serde_json::to_string_pretty(&json(&report))?);
    } else {
        println!("{}", report.summary());
    }
    if let Some(page) = page {
        report.write_html(page).with_context(|| format!("cannot write {}", page.display()))?;
        eprintln!("report: {}", page.display());
    }
    Ok(())
}

/// The table's fields: one entry a method, means over the subjects, with the subjects' own runs inside.
fn json(report: &Report) -> serde_json::Value {
    let summary = report.summary();
    let runs: Vec<_> = summary
        .methods
        .iter()
        .map(|m| {
            let own: Vec<_> = report.runs.iter().filter(|r| r.method == m.method).collect();
            let mut fields = serde_json::json!({
                "method": m.method, "rho": m.rho,
                "accuracy_f32": m.accuracy_f32.mean, "accuracy_int8": m.accuracy_int8.mean,
                "loss": m.loss.mean, "sharpness": m.sharpness.mean,
                "train_ram_bytes": m.train_ram_bytes, "memory": m.memory,
                "tail_parameters": m.tail_parameters, "macs": m.macs,
                "weights_crc32": m.weights_crc32, "instructions": m.instructions,
                "subjects": own,
            });
            if m.instructions.is_some() {
                fields["instructions_trunk"] = m.instructions_trunk.into();
                fields["instructions_step"] = m.instructions_step.into();
                fields["ram"] = serde_json::json!(m.ram);
                fields["ram_announced_bytes"] = m.ram_announced_bytes.into();
            }
            fields
        })
        .collect();
    serde_json::json!({ "factory_accuracy": summary.factory_accuracy.mean, "runs": runs })
}

fn pack(model: &Path, layers: usize, output: &Path, json: bool) -> Result<()> {
    let file = Model::open(model)?.pack(layers)?;
    let rust = output.with_extension("rs");
    if rust == output {
        bail!(
            "{}: the pack would be overwritten by its Rust file; choose another extension",
            output.display()
        );
    }
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    write(output, file.bytes())?;
    write(&rust, inspect::constants(&file, output)?.as_bytes())?;
    let sizes = file.pack().sizes();
    if json {
        let object = serde_json::json!({
            "pack": output, "rust": rust, "bytes": file.bytes().len(), "crc32": file.pack().crc32(),
            "tail_parameters": sizes.tail_parameters(), "feature_length": sizes.feature_length,
        });
        println!("{object}");
    } else {
        println!(
            "{}: {} bytes, {} trainable parameters",
            output.display(),
            file.bytes().len(),
            sizes.tail_parameters()
        );
        println!("{}: constants", rust.display());
    }
    Ok(())
}

fn infer(model: &Path, input: &Path, output: &Path, json: bool) -> Result<()> {
    let model = Model::open(model)?;
    let file = model.pack(0)?;
    let pack = file.pack();
    let samples = Samples::inputs_from_npy(input, &sample_shape(&model))?;
    let inputs = match samples.inputs {
        Inputs::I8(values) => values,
        Inputs::F32(values) => values.iter().map(|&x| pack.input().affine.quantize(x)).collect(),
    };
    let sizes = pack.sizes();
    let outputs: Vec<i8> = inputs
        .par_chunks(sizes.input_length.max(1))
        .map_init(|| vec![0; sizes.arena_bytes], |arena, x| flatmin::infer(&pack, x, arena).to_vec())
        .flatten()
        .collect();
    let mut shape = vec![samples.count];
    shape.extend(model.output_shape().iter().skip(1));
    write_npy_i8(output, &outputs, &shape)?;
    if json {
        println!("{}", serde_json::json!({ "samples": samples.count, "output": output, "shape": shape }));
    } else {
        println!("{}: {} samples", output.display(), samples.count);
    }
    Ok(())
}
