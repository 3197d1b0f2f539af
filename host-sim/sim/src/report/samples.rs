//! Made-up reports for the tests of this module, the same at every run.

use super::{CurvePoint, Report, TuningRun};

/// Class names, one of which has to be escaped.
const CLASSES: [&str; 5] = ["walk", "up & down", "sit", "stand", "<lie>"];

/// A run with plain figures, to be changed by the test that uses it.
pub(super) fn run(subject: &str, method: &str) -> TuningRun {
    TuningRun {
        subject: subject.to_owned(),
        method: method.to_owned(),
        rho: 0.0,
        rho_unit: None,
        factory_accuracy: 0.5,
        accuracy_f32: 0.75,
        accuracy_int8: 0.75,
        loss: 0.5,
        sharpness: 0.25,
        lambda_max: None,
        memory: vec![("arena".to_owned(), 1024)],
        train_ram_bytes: 1024,
        ram: Vec::new(),
        ram_announced_bytes: None,
        tail_parameters: 64,
        macs: 1_000_000,
        train_seconds: 0.0,
        weights_crc32: 0x1234_5678,
        instructions: None,
        instructions_trunk: None,
        instructions_step: None,
        curve: Vec::new(),
        confusion_factory: Vec::new(),
        confusion_tuned: Vec::new(),
        sureness_factory: Vec::new(),
        sureness_tuned: Vec::new(),
        changes: None,
        verdict: None,
        anomalies: None,
        warnings: Vec::new(),
    }
}

/// A report of three methods with learning curves and confusion matrices.
pub(super) fn report(subjects: u32, epochs: u32) -> Report {
    let mut state = 1u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    };
    let methods = [("sgd", 0.0, 0.14), ("sam", 0.05, 0.17), ("asam", 0.5, 0.19)];
    let mut runs = Vec::new();
    for subject in 1..=subjects {
        let factory = 0.72 + 0.2 * noise();
        for (index, (method, rho, gain)) in methods.into_iter().enumerate() {
            let accuracy = (factory + gain + 0.06 * noise()).min(0.995);
            let at = |epoch: u32| 1.0 - (-0.35 * f64::from(epoch)).exp();
            let curve = (0..=epochs).filter(|_| epochs > 0).map(|epoch| CurvePoint {
                epoch,
                adaptation_loss: 1.1 - 0.8 * at(epoch) + 0.06 * noise(),
                test_accuracy: Some(factory + (accuracy - factory) * at(epoch)),
            });
            let curve: Vec<CurvePoint> = curve.collect();
            let two_passes = index > 0;
            runs.push(TuningRun {
                rho,
                rho_unit: (rho > 0.0).then_some("weights"),
                factory_accuracy: factory,
                accuracy_f32: accuracy + 0.004,
                accuracy_int8: accuracy,
                loss: 0.5 - 0.08 * index as f64,
                sharpness: 0.09 / (1.0 + index as f64),
                memory: memory(two_passes),
                train_ram_bytes: memory(two_passes).iter().map(|(_, bytes)| bytes).sum(),
                tail_parameters: 1_286,
                macs: 11_400_000 + 600_000 * index as u64,
                weights_crc32: 0x9E37_79B9_u32.wrapping_mul(3 * subject + index as u32),
                instructions: Some(61_000_000 + 3_000_000 * index as u64),
                confusion_factory: confusion(factory),
                confusion_tuned: confusion(accuracy),
                curve,
                ..run(&format!("wearer {subject}"), method)
            });
        }
    }
    Report {
        title: "Tuning <six> held-out wearers & co".to_owned(),
        classes: CLASSES.map(str::to_owned).to_vec(),
        settings: [("label noise", "20 %"), ("seed", "1"), ("note", "a < b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        split: None,
        warnings: Vec::new(),
        runs,
    }
}

/// RAM by purpose of a tail with 1 286 parameters.
fn memory(two_passes: bool) -> Vec<(String, usize)> {
    let mut memory = vec![
        ("weights, velocity, gradient (f32)".to_owned(), 3 * 4 * 1_286),
        ("replay".to_owned(), 3_072),
        ("trunk arena".to_owned(), 4_608),
        ("tail activations".to_owned(), 640),
    ];
    if two_passes {
        memory.push(("norms".to_owned(), 48));
    }
    memory
}

/// A test set of 40 samples a class, of which `accuracy` is right and the rest falls on the neighbours.
fn confusion(accuracy: f64) -> Vec<Vec<u32>> {
    let classes = CLASSES.len();
    let right = (40.0 * accuracy).round() as u32;
    let row = |truth: usize| {
        let mut counts = vec![0; classes];
        counts[truth] = right;
        counts[(truth + 1) % classes] += (40 - right) * 2 / 3;
        counts[(truth + classes - 1) % classes] += (40 - right) - (40 - right) * 2 / 3;
        counts
    };
    (0..classes).map(row).collect()
}
