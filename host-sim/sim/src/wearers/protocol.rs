//! Which windows of a held-out wearer adapt the model and which test it, and whose labels are flipped.

use super::{
    ADAPTATION_STRIDE, EXERCISES, Recording, Recordings, SplitMix64, TEST_STRIDE, WEARERS, WearersError,
};

/// A labelled window.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// [`super::WINDOW_VALUES`] values, time-major.
    pub samples: Vec<f32>,
    /// Index into [`EXERCISES`].
    pub label: usize,
}

impl Recording<'_> {
    /// First samples of the adaptation candidates: windows of the first half.
    pub(super) fn adaptation_starts(&self) -> impl Iterator<Item = usize> {
        Self::starts(0, self.len() / 2, ADAPTATION_STRIDE)
    }

    /// First samples of the test windows: windows of the second half.
    pub(super) fn test_starts(&self) -> impl Iterator<Item = usize> {
        Self::starts(self.len() / 2, self.len(), TEST_STRIDE)
    }

    fn labelled(&self, start: usize) -> Window {
        Window { samples: self.window(start).to_vec(), label: self.exercise }
    }
}

impl<'a> Recordings<'a> {
    fn of_wearer(&self, wearer: usize) -> Result<impl Iterator<Item = &Recording<'a>>, WearersError> {
        if !(1..=WEARERS).contains(&wearer) {
            return Err(WearersError::NoSuchWearer { wearer });
        }
        Ok(self.recordings.iter().filter(move |recording| recording.wearer == wearer))
    }

    /// Every test window of a wearer, in the order of the file.
    pub fn test(&self, wearer: usize) -> Result<Vec<Window>, WearersError> {
        Ok(self
            .of_wearer(wearer)?
            .flat_map(|recording| recording.test_starts().map(|start| recording.labelled(start)))
            .collect())
    }

    /// Every window of all wearers but this one, both halves, in the order of the file: what the factory knows.
    pub fn calibration(&self, held_out: usize) -> Vec<Window> {
        let others = self.recordings.iter().filter(|recording| recording.wearer != held_out);
        let windows = |recording: &Recording| {
            let starts = Recording::starts(0, recording.len(), TEST_STRIDE);
            starts.map(|start| recording.labelled(start)).collect::<Vec<_>>()
        };
        others.flat_map(windows).collect()
    }

    /// Draws `windows_per_class` adaptation windows of each exercise, both sides together.
    ///
    /// For each exercise in turn, its candidates in the order of the file are shuffled (Fisher and Yates,
    /// [`SplitMix64`] seeded with `seed`, one stream for all exercises). The result takes one window of each
    /// exercise, then the next of each, and so on: with the same seed, fewer windows are a prefix of more.
    pub fn adaptation(
        &self,
        wearer: usize,
        windows_per_class: usize,
        seed: u64,
    ) -> Result<Vec<Window>, WearersError> {
        let mut random = SplitMix64::new(seed);
        let mut shuffled = Vec::with_capacity(EXERCISES.len());
        for class in 0..EXERCISES.len() {
            let mut candidates: Vec<_> = self
                .of_wearer(wearer)?
                .filter(|recording| recording.exercise == class)
                .flat_map(|recording| recording.adaptation_starts().map(move |start| (recording, start)))
                .collect();
            if candidates.len() < windows_per_class {
                return Err(WearersError::TooFewWindows {
                    class,
                    requested: windows_per_class,
                    available: candidates.len(),
                });
            }
            random.shuffle(&mut candidates);
            shuffled.push(candidates);
        }
        Ok((0..windows_per_class)
            .flat_map(|round| shuffled.iter().filter_map(move |class| class.get(round)))
            .map(|(recording, start)| recording.labelled(*start))
            .collect())
    }
}

/// Gives `round(share * n)` of the `n` labels another class, drawn uniformly from the `classes - 1` others. Labels are
/// taken where they lie, in samples or in an array.
///
/// Which labels is drawn without replacement, from [`SplitMix64`] seeded with `seed`. A share outside 0 to 1 is
/// taken as the nearer of the two; with fewer than two classes nothing changes.
pub fn flip_labels<'l>(
    labels: impl IntoIterator<Item = &'l mut usize>,
    classes: usize,
    share: f64,
    seed: u64,
) {
    if classes < 2 {
        return;
    }
    let mut labels: Vec<&mut usize> = labels.into_iter().collect();
    let mut random = SplitMix64::new(seed);
    let mut order: Vec<usize> = (0..labels.len()).collect();
    random.shuffle(&mut order);
    let flips = (share.clamp(0.0, 1.0) * labels.len() as f64).round() as usize;
    for index in order.into_iter().take(flips) {
        let drawn = random.below(classes - 1);
        *labels[index] = drawn + usize::from(drawn >= *labels[index]);
    }
}
