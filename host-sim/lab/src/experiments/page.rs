//! The page `EVIDENCE.md`.

use super::contenders::Protocol;
use super::guide::guide;
use super::result::Findings;

/// The whole page.
pub fn page(
    findings: &[Findings],
    settled: &Protocol,
    factory: f64,
    seed: u64,
    repetition: Option<&str>,
) -> String {
    let mut text = format!(
        "# Evidence: what SAM and ASAM do for a device that fine-tunes\n\n\
        Made by one command, text, tables and figures:\n\n```text\ncargo run --release -p flatmin-lab -- experiment evidence --seed {seed} --data-folder FOLDER --output host-sim\n```\n\n\
        `experiment NAME` makes one section, its CSV and its JSON; results lie in the output folder and are not computed twice. All runs are the crate's own tuner. Without another word they are of the bundled task: ten wearers, each unknown \
        to the int8 network that is tuned. Other data sets are read from FOLDER (`fsdd`, `gas_drift`, `gesture_magic_wand`, `cifar10`, MLPerf Tiny's \
        networks); what is not there is skipped, and said so. `flatmin experiment features` and `host-sim/evidence/repeat_in_torch.py` repeat three experiments in \
        PyTorch.\n\n"
    );
    text += &guide(findings, factory);
    text += &protocol(settled);
    for own in findings {
        text += &own.section;
    }
    text += repetition.unwrap_or_default();
    text + MISSING
}

const MISSING: &str = "## Not measured here\n\n\
    LookSAM with its buffer, ESAM, Friendly-SAM, GSAM and Nesterov's momentum in the runtime: [in PyTorch, at equal work](evidence/variants-in-torch.md), none of \
    them is more than 0.3 points above the better of SGD and SAM with m = 1, which both take 8 bytes a parameter, they 12 or 16. \
    The runtime has SAM's saving without LookSAM's buffer (`--ascent-every`). Other corruptions of images than JPEG. Nothing here ran on \
    hardware.\n";

/// How everything is measured.
fn protocol(protocol: &Protocol) -> String {
    format!(
        "## Protocol\n\n\
    - 9 labelled windows a class of the held-out wearer (63 in all) from the first half of each recording; tested on \
      the second half. {draws} draws (windows, flipped labels, order of samples) for each of ten wearers: {runs} runs a \
      condition, the same draws for every method.\n\
    - Hyperparameters of wearer w are chosen by the other nine wearers, on {seeds} other seeds, by the accuracy of their \
      requantized networks. No test window of w, and none of the reported draws, has a say. (The factory networks of \
      the other nine were pretrained with recordings of w among others; they choose three numbers only.)\n\
    - 12 trials a method: 6 learning rates (0.0005 to 0.02), each with 2 of 4 strengths of its regularizer (SGD: weight decay; \
      label smoothing: its share; SAM, ASAM: rho), one of them for 10 epochs and one for 30; every strength meets three rates. 'Smoothing 0.2' beside SAM is fixed, not tuned. Momentum 0.9, minibatch 16, cosine \
      schedule, weight decay 0.001 where it is not what is tuned.\n\
    - Differences are paired by draw. Intervals are 95 % bootstrap intervals (10,000 resamples, percentile method) \
      over wearers and, within them, draws: what to expect of a further wearer. They are wide because there are ten \
      wearers. A star marks differences that stay clear of zero at the level that covers all differences of its \
      table together (Bonferroni).\n\
    - The choice itself is noisy: near the optimum many settings are within tenths of a point of each other on the \
      selection draws, and which of them is chosen moves a result by as much. Differences below half a point are to be \
      read with that in mind; the intervals cover wearers and draws, not other choices.\n\
    - Decided with results in view: the two methods that join SAM and label smoothing were added after a first look at \
      the others, on the same draws; `--seed 2` repeats everything on other draws. `Recipe::DEFAULT`'s \
      learning rate was once picked on test results: \"The recipe that ships, on fresh draws\" is the answer to that.\n\
    - No early stopping where nothing else is said: a device has no labels to spare for it. Epochs are a hyperparameter.\n\
    - Other tasks: 6 speakers, 6 batches of gas samples, 3 users; 60 draws in all, choices on two further draws of the other subjects. \
      Intervals over 3 or 6 subjects are coarse. Sweeps take half of the draws, or fewer where they say so; 20 at least.\n\n",
        draws = protocol.evaluation.len(),
        runs = protocol.evaluation.len() * protocol.subjects.len(),
        seeds = protocol.selection.len(),
    )
}
