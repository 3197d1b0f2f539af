//! Nanoseconds on this machine, beside LiteRT's and tflite-micro's interpreters where a Python has them.

use anyhow::{Context, Result};
use flatmin_model::model::Model;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Nanoseconds of one of the four shapes.
#[derive(Debug, Clone, Serialize)]
pub struct KernelTime {
    /// Its name.
    pub name: String,
    /// Multiply-adds.
    pub macs: u64,
    /// Best of many.
    pub nanoseconds: f64,
}

/// LiteRT's interpreter, one thread.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LiteRt {
    /// Nanoseconds an inference by its own kernels.
    pub without_xnnpack: f64,
    /// Nanoseconds an inference through XNNPACK.
    pub with_xnnpack: f64,
}

/// flatmin's nanoseconds divided by another's; none where it was not measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ratios {
    /// tflite-micro's interpreter.
    pub tflite_micro: Option<f64>,
    /// LiteRT's own kernels.
    pub litert_without_xnnpack: Option<f64>,
    /// LiteRT through XNNPACK.
    pub litert_with_xnnpack: Option<f64>,
}

/// What this machine took.
#[derive(Debug, Clone, Serialize)]
pub struct HostReport {
    /// The model.
    pub model: String,
    /// Multiply-adds of an inference.
    pub macs: u64,
    /// Nanoseconds an inference, best of many, one thread.
    pub nanoseconds: f64,
    /// The same model in the same run; none if no Python here has it.
    pub litert: Option<LiteRt>,
    /// Why there is no LiteRT.
    pub litert_missing: Option<String>,
    /// Nanoseconds an inference of tflite-micro's interpreter on the same model in the same run.
    pub tflite_micro: Option<f64>,
    /// Why there is none.
    pub tflite_micro_missing: Option<String>,
    /// flatmin's time divided by the others'.
    pub ratios: Ratios,
    /// The four shapes.
    pub kernels: Vec<KernelTime>,
}

/// Measures `model` and the four shapes.
///
/// # Errors
/// A model that cannot be packed.
pub fn measure(model: &Model) -> Result<HostReport> {
    let file = model.pack(0)?;
    let pack = file.pack();
    let mut arena = vec![0; pack.sizes().arena_bytes];
    // Later runs find in the inputs' places what activations left there: their time does not depend on it.
    for place in 0..pack.input_count() {
        let input = pack.input_at(place);
        flatmin_bench::fill(flatmin_bench::INPUT_SEED, flatmin::internals::trunk::place(&input, &mut arena));
    }
    let nanoseconds = best_of(|| {
        flatmin::inference::run(&pack, std::hint::black_box(&mut arena));
    });
    let mut memory = vec![0; 1 << 16];
    let mut kernels = Vec::new();
    for kernel in flatmin_bench::KERNELS {
        let (input, output) = kernel.place(&mut memory).context("the shapes are small")?;
        let nanoseconds = best_of(|| kernel.run(std::hint::black_box(input), std::hint::black_box(output)));
        kernels.push(KernelTime { name: kernel.name.into(), macs: kernel.macs(), nanoseconds });
    }
    let (litert, litert_missing): (Option<LiteRt>, _) =
        reason(ask_python(model, "ai_edge_litert", include_str!("litert.py")));
    let (tflite_micro, tflite_micro_missing): (Option<f64>, _) =
        reason(ask_python(model, "tflite_micro", include_str!("micro_interpreter.py")));
    let ratios = Ratios {
        tflite_micro: tflite_micro.map(|ns| nanoseconds / ns),
        litert_without_xnnpack: litert.map(|times| nanoseconds / times.without_xnnpack),
        litert_with_xnnpack: litert.map(|times| nanoseconds / times.with_xnnpack),
    };
    let macs = (0..pack.operator_count()).map(|i| pack.operator_macs(&pack.operator(i))).sum();
    Ok(HostReport {
        model: model.name.clone(),
        macs,
        nanoseconds,
        litert,
        litert_missing,
        tflite_micro,
        tflite_micro_missing,
        ratios,
        kernels,
    })
}

/// Nanoseconds of `work`: the best batch of half a second.
pub(super) fn best_of(mut work: impl FnMut()) -> f64 {
    let (mut best, mut repeats) = (f64::INFINITY, 1u32);
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        let start = Instant::now();
        (0..repeats).for_each(|_| work());
        let took = start.elapsed();
        best = best.min(took.as_secs_f64() * 1e9 / f64::from(repeats));
        if took < Duration::from_millis(5) {
            repeats *= 2;
        }
    }
    best
}

/// What was measured, or why it was not.
pub(super) fn reason<T>(result: Result<T>) -> (Option<T>, Option<String>) {
    match result {
        Ok(times) => (Some(times), None),
        Err(why) => (None, Some(format!("{why:#}"))),
    }
}

/// Asks the Python that `FLATMIN_PYTHON` names, or `python3`, to run `script`, which needs `package`, on the model.
fn ask_python<T: DeserializeOwned>(model: &Model, package: &str, script: &str) -> Result<T> {
    let path = std::env::temp_dir().join(format!("flatmin-bench-{}.tflite", std::process::id()));
    model.with_file(|bytes| std::fs::write(&path, bytes))??;
    let answer = python(package, script, Some(&path));
    // A leftover in the temporary folder harms nobody.
    let _ = std::fs::remove_file(&path);
    answer
}

/// Asks it to run `script` with an argument.
pub(super) fn python<T: DeserializeOwned>(package: &str, script: &str, argument: Option<&Path>) -> Result<T> {
    let python = std::env::var("FLATMIN_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = format!("{}\n{script}", include_str!("timing.py"));
    let output = Command::new(&python).args(["-c", &script]).args(argument).output();
    let output = output.with_context(|| format!("cannot start {python}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().last().unwrap_or("no answer");
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{python} has no {package} (set FLATMIN_PYTHON): {last}"))
}

impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}: {} MACs, one thread, best of many runs", self.model, self.macs)?;
        writeln!(f, "  flatmin, portable kernels      {:>12.0} ns an inference", self.nanoseconds)?;
        let mut row = |label: &str, nanoseconds: f64, ratio: Option<f64>| {
            let ratio = ratio.unwrap_or(f64::NAN);
            writeln!(f, "  {label:<30} {nanoseconds:>12.0} ns; flatmin takes {ratio:.2} of it")
        };
        if let Some(times) = &self.litert {
            row("LiteRT without XNNPACK", times.without_xnnpack, self.ratios.litert_without_xnnpack)?;
            row("LiteRT with XNNPACK", times.with_xnnpack, self.ratios.litert_with_xnnpack)?;
        }
        if let Some(nanoseconds) = self.tflite_micro {
            row("tflite-micro", nanoseconds, self.ratios.tflite_micro)?;
        }
        if let Some(why) = &self.litert_missing {
            writeln!(f, "  LiteRT: not measured: {why}")?;
        }
        if let Some(why) = &self.tflite_micro_missing {
            writeln!(f, "  tflite-micro: not measured: {why}")?;
        }
        for kernel in &self.kernels {
            let rate = kernel.macs as f64 / kernel.nanoseconds;
            writeln!(f, "  {:<30} {:>12.0} ns, {rate:.2} MACs a ns", kernel.name, kernel.nanoseconds)?;
        }
        Ok(())
    }
}
