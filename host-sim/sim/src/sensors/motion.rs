//! The motion sensor's application ([`flatmin_app::motion`]) on a wearer's recordings: through a simulated sensor on a bus,
//! frame by frame, with a label given for each adaptation window.

use super::imu::{Lsm6dso, Movements};
use crate::subject::{Subject, calibrated_without, input_affine};
use crate::tuning::{method_name, sized, tuner_arena};
use crate::wearers::{EXERCISES, Recordings, Window, flip_labels, model_bytes};
use anyhow::{Context, Result, bail, ensure};
use embedded_storage::nor_flash::NorFlash as _;
use flatmin::flash::Flash;
use flatmin::store::{Contents, Store};
use flatmin::{Recipe, Tuner};
use flatmin_app::motion::{CHANNELS, Event, Imu, Motion, Plan};
use flatmin_app::{Clock, Hardware};
use flatmin_model::model::Model;
use flatmin_model::packer::{PackFile, TailPlan};
use serde::Serialize;
use std::cell::Cell;
use std::rc::Rc;

type NorFlash = Flash<4, 4096>;

/// A wearer's windows, as the protocol of [`crate::wearers`] draws them.
#[derive(Debug)]
pub struct Wearer {
    /// 1 to 10.
    pub number: usize,
    /// The model that never saw this wearer, with the other wearers' windows as the factory's statistics.
    pub model: Model,
    /// Windows that are worn with a label, flipped as asked.
    pub adaptation: Vec<Window>,
    /// Windows that are classified.
    pub test: Vec<Window>,
}

impl Wearer {
    /// As [`Subject::wearer`] draws them.
    ///
    /// # Errors
    /// No such wearer, or fewer windows than asked for.
    pub fn new(number: usize, windows_per_class: usize, label_noise: f64, seed: u64) -> Result<Self> {
        let bytes =
            model_bytes(number).with_context(|| format!("there is no wearer {number}; 1 to 10 are"))?;
        let recordings = Recordings::bundled()?;
        let mut adaptation = recordings.adaptation(number, windows_per_class, seed)?;
        let labels = adaptation.iter_mut().map(|window| &mut window.label);
        flip_labels(labels, EXERCISES.len(), label_noise, seed);
        let model = calibrated_without(number, Model::bundled(format!("wearer {number}"), bytes)?)?;
        Ok(Self { number, model, adaptation, test: recordings.test(number)? })
    }

    /// The same windows as the sensor measures them, without the application.
    ///
    /// # Errors
    /// Those of the sensor.
    pub fn measured(&self) -> Result<Subject> {
        let affine = input_affine(&self.model)?;
        let movements = Movements::default();
        let mut imu =
            Imu::new(Lsm6dso::new(Imu::<Lsm6dso>::ADDRESS, Rc::clone(&movements)), Imu::<Lsm6dso>::ADDRESS)?;
        let mut measure = |windows: &[Window]| -> Result<Vec<_>> {
            let mut measured = Vec::new();
            for window in windows {
                let mut input = Vec::new();
                for frame in window.samples.as_chunks().0 {
                    movements.borrow_mut().push_back(movement(frame));
                    input.extend(imu.read()?.map(|value| affine.quantize(value)));
                }
                measured.push((input, window.label));
            }
            Ok(measured)
        };
        let (adaptation, test) = (measure(&self.adaptation)?, measure(&self.test)?);
        let bytes = model_bytes(self.number).context("there is such a wearer")?;
        let model = Model::bundled(self.model.name.clone(), bytes)?;
        let classes = EXERCISES.map(String::from).into();
        Ok(Subject {
            name: self.model.name.clone(),
            model,
            classes,
            adaptation,
            test,
            origin: crate::subject::Origin::default(),
        })
    }
}

/// From the recordings' units of 2 rad/s to the sensor's.
fn movement(&[x, y, z, turn_x, turn_y, turn_z]: &[f32; CHANNELS]) -> [f32; CHANNELS] {
    [x, y, z, 2.0 * turn_x, 2.0 * turn_y, 2.0 * turn_z]
}

/// What the application made of a wearer's recordings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// 1 to 10.
    pub wearer: usize,
    /// What each run began with: `closed-form`, as the device ships, or the tail in force, `tuned`.
    pub start: &'static str,
    /// `sgd`, `sam` or `asam`.
    pub method: &'static str,
    /// Labelled windows.
    pub windows: usize,
    /// Windows classified before and after.
    pub test_windows: usize,
    /// Accuracy of the factory tail, a fraction of one.
    pub accuracy_before: f64,
    /// Accuracy of what is in force after tuning.
    pub accuracy_after: f64,
    /// Windows that are waited for before each run.
    pub windows_a_run: u16,
    /// What became of every run: whether its tail was taken.
    pub runs_accepted: Vec<bool>,
    /// Whether a tuned tail is in force.
    pub accepted: bool,
    /// Number of its record in flash.
    pub sequence: Option<u32>,
    /// CRC-32 of the tuned weights, equal to those of tuning on the same windows without sensor and application.
    pub weights_crc32: u32,
    /// Polls that tuned.
    pub slices: u64,
}

/// Frames a second are its ticks.
struct Ticks(Rc<Cell<u32>>);

impl Clock for Ticks {
    fn ticks(&mut self) -> u32 {
        self.0.get()
    }

    fn hertz(&self) -> u32 {
        flatmin_app::motion::FRAMES_A_SECOND
    }
}

/// A board with the sensor, worn.
struct Session<'t, 'p, 'w> {
    tuner: Tuner<'p>,
    motion: Motion<'w, Lsm6dso>,
    board: Hardware<Ticks, NorFlash>,
    movements: Movements,
    time: Rc<Cell<u32>>,
    solving: &'t mut [u32],
    window_done: &'t dyn Fn(),
}

impl Session<'_, '_, '_> {
    /// Every frame comes when it is due; what the last one leads to is the answer.
    fn wear(&mut self, worn: &Window) -> Result<Event> {
        self.motion.restart();
        let mut last = Event::Idle;
        for frame in worn.samples.as_chunks().0 {
            self.movements.borrow_mut().push_back(movement(frame));
            self.time.set(self.time.get().wrapping_add(1));
            last = self.motion.poll(&mut self.tuner, &mut self.board, self.solving)?;
        }
        (self.window_done)();
        Ok(last)
    }

    /// The accuracy on these windows.
    fn classify(&mut self, windows: &[Window]) -> Result<f64> {
        let mut right = 0;
        for worn in windows {
            match self.wear(worn)? {
                Event::Classified { class, .. } => right += usize::from(usize::from(class) == worn.label),
                other => bail!("a window was not classified: {other:?}"),
            }
        }
        Ok(right as f64 / windows.len().max(1) as f64)
    }
}

/// How the device tunes itself.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// As it ships, with an arena for this recipe.
    Shipped(Recipe),
    /// As often, but by gradient steps from the tail in force.
    Steps(Recipe),
}

/// Classifies the test windows, wears the adaptation windows with their labels, waits whenever the device tunes itself,
/// classifies again; then tunes on the same windows without all of it. `window_done` is called after every window.
///
/// # Errors
/// Fewer windows than the device waits for; what the runtime refuses, or if the two ways end with different weights or
/// accuracies.
pub fn replay(wearer: &Wearer, tail: &TailPlan, way: Way, window_done: &dyn Fn()) -> Result<Replay> {
    let plain = wearer.measured()?;
    let (Way::Shipped(recipe) | Way::Steps(recipe)) = way;
    let recipe = sized(&plain, recipe)?;
    let file = wearer.model.pack(tail.clone())?;
    let sizes = file.pack().sizes();
    let plan = match way {
        Way::Shipped(_) => Plan::shipped(recipe, &sizes, file.pack().statistics().is_some()),
        Way::Steps(_) => Plan::steps(recipe, u16::try_from(sizes.output_length)?),
    };
    let mut solving = vec![0; sizes.solve_bytes(&recipe) / 4];
    let (windows_a_run, held) = (usize::from(plan.windows), wearer.adaptation.len());
    ensure!(
        held >= windows_a_run,
        "the device tunes after {windows_a_run} labelled windows; {held} are too few"
    );
    let mut words = tuner_arena(&file, &recipe);
    let store = Store::new(0, sizes.slot_bytes::<NorFlash>(Contents::Int8AndF32), 2);
    let flash = NorFlash::new(usize::try_from(store.end())? / NorFlash::ERASE_SIZE);
    let (time, movements) = (Rc::new(Cell::new(0)), Movements::default());
    let address = Imu::<Lsm6dso>::ADDRESS;
    let imu = Imu::new(Lsm6dso::new(address, Rc::clone(&movements)), address)?;
    let mut window = vec![0; sizes.input_length];
    let mut session = Session {
        tuner: Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?,
        motion: Motion::new(imu, &mut window, plan),
        board: Hardware::new("host", Ticks(Rc::clone(&time))).with_store(store, flash),
        movements,
        time,
        solving: &mut solving,
        window_done,
    };

    let accuracy_before = session.classify(&wearer.test)?;
    let mut slices = 0;
    let (mut runs_accepted, mut weights_crc32, mut sequence) = (Vec::new(), 0, None);
    for worn in &wearer.adaptation {
        session.motion.give(u16::try_from(worn.label).ok());
        let kept = session.wear(worn)?;
        ensure!(matches!(kept, Event::Kept { .. }), "a labelled window was not kept: {kept:?}");
        loop {
            match session.motion.poll(&mut session.tuner, &mut session.board, session.solving)? {
                Event::Idle => break,
                Event::Underway => slices += 1,
                Event::Tuned { accepted, weights_crc32: crc32, sequence: record } => {
                    slices += 1;
                    runs_accepted.push(accepted);
                    (weights_crc32, sequence) = (crc32, record.or(sequence));
                    break;
                }
                other => bail!("the device does not tune: {other:?}"),
            }
        }
    }
    session.motion.give(None);
    let accuracy_after = session.classify(&wearer.test)?;

    let expected = without_sensor(&plain, &file, plan)?;
    let found = (weights_crc32, [accuracy_before, accuracy_after], runs_accepted);
    ensure!(
        found == expected,
        "the application ended with weights, accuracies before and after, and verdicts of {found:x?}, tuning on the same \
         windows with {expected:x?}"
    );
    let (_, _, runs_accepted) = found;
    let accepted = runs_accepted.contains(&true);
    Ok(Replay {
        wearer: wearer.number,
        start: if plan.solves { "closed-form" } else { "tuned" },
        method: method_name(recipe.method),
        windows: wearer.adaptation.len(),
        test_windows: wearer.test.len(),
        windows_a_run: plan.windows,
        runs_accepted,
        accuracy_before,
        accuracy_after,
        accepted,
        sequence,
        weights_crc32,
        slices,
    })
}

/// The same runs on the same windows, without sensor and application: the weights' CRC-32, the accuracies before and after,
/// and the verdicts.
fn without_sensor(plain: &Subject, file: &PackFile, plan: Plan) -> Result<(u32, [f64; 2], Vec<bool>)> {
    let mut words = tuner_arena(file, &plan.recipe);
    let mut tuner = Tuner::new(file.pack(), plan.recipe, bytemuck::cast_slice_mut(&mut words))?;
    let mut solving = vec![0; file.pack().sizes().solve_bytes(&plan.recipe) / 4];
    let accuracy = |tuner: &mut Tuner| -> Result<f64> {
        let mut right = 0;
        for (input, label) in &plain.test {
            right += usize::from(tuner.classify(input)?.label == *label);
        }
        Ok(right as f64 / plain.test.len().max(1) as f64)
    };
    let before = accuracy(&mut tuner)?;
    let (mut verdicts, mut weights_crc32) = (Vec::new(), 0);
    for windows in plain.adaptation.chunks_exact(plan.windows.into()) {
        for (input, label) in windows {
            tuner.observe(input, *label)?;
        }
        if plan.solves {
            tuner.solve(plan.recipe, &mut solving, &mut || {})?;
        }
        tuner.start(plan.recipe)?;
        while !tuner.step()?.finished {}
        verdicts.push(tuner.accept()?.accepted);
        weights_crc32 = tuner.weights_crc32();
    }
    Ok((weights_crc32, [before, accuracy(&mut tuner)?], verdicts))
}
