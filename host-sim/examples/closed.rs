//! Scratch.
use flatmin::closed_form::Settings;
use host_sim::experiments::closed_form::{CHOSEN_ON, NO_SAY, explore, tuned_sgd};
use host_sim::experiments::task::Task;
fn main() -> anyhow::Result<()> {
    let folder = std::path::Path::new("/work/shared/data");
    let args: Vec<String> = std::env::args().skip(1).collect();
    let tasks: Vec<Task> = match args[1].as_str() {
        "all" => CHOSEN_ON.to_vec(),
        "nosay" => NO_SAY.to_vec(),
        n => vec![CHOSEN_ON[n.parse::<usize>()?]],
    };
    let seeds: u64 = args[2].parse()?;
    let d = Settings::DEFAULT;
    match args[0].as_str() {
        "sgd" => tuned_sgd(folder, &tasks, seeds, 9_001),
        "fresh" => explore(folder, &tasks, &[("default", d, true), ("without statistics", d, false)], seeds, 9_001),
        _ => explore(
            folder,
            &tasks,
            &[
                ("default", d, true),
                ("n0 1", Settings { prior_samples: 1.0, ..d }, true),
                ("n0 3", Settings { prior_samples: 3.0, ..d }, true),
                ("n0 5", Settings { prior_samples: 5.0, ..d }, true),
                ("eps 0.2", Settings { wrong_labels: 0.2, ..d }, true),
                ("eps 0.4", Settings { wrong_labels: 0.4, ..d }, true),
                ("eps 0.5", Settings { wrong_labels: 0.5, ..d }, true),
                ("eps 0", Settings { wrong_labels: 0.0, ..d }, true),
                ("rounds 2", Settings { rounds: 2, ..d }, true),
                ("rounds 6", Settings { rounds: 6, ..d }, true),
                ("shrink 0.05", Settings { shrinkage: 0.05, ..d }, true),
                ("shrink 0.2", Settings { shrinkage: 0.2, ..d }, true),
                ("no statistics", d, false),
                ("no statistics, n0 4", Settings { prior_samples: 4.0, ..d }, false),
                ("no statistics, shrink 0.3", Settings { shrinkage: 0.3, ..d }, false),
                ("no statistics, eps 0", Settings { wrong_labels: 0.0, ..d }, false),
            ],
            seeds,
            1,
        ),
    }
}
