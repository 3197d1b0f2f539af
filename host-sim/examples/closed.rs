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

            ],
            seeds,
            1,
        ),
    }
}
