//! The motion sensor's application: what goes over the bus, what a frame is worth, which windows are kept with which label,
//! and what a sensor that falls silent costs.

use assert_cmd::Command;
use embedded_hal::digital::{ErrorType, InputPin};
use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
use embedded_io::{Read, ReadReady, Write};
use flatmin::flash::Flash;
use flatmin::store::{Contents, Store};
use flatmin::wire::{self, Request, Response};
use flatmin::{Pack, Recipe, Sizes, Tuner};
use flatmin_app::motion::{CHANNELS, Event, Imu, ImuError, Motion, Plan, adapt};
use flatmin_app::{Board, Buffers, Clock, Hardware, link_bytes};
use flatmin_sim::sensors::imu::{Lsm6dso, Movements};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;

static PACK: &[u8] = flatmin::include_pack!("../../../../boards/app/model.pack");
const SIZES: Sizes = Sizes::of(PACK);
const RECIPE: Recipe = Recipe { replay_capacity: 8, epochs: 1, ..Recipe::DEFAULT };
const ADDRESS: u8 = Imu::<Mock>::ADDRESS;
type NorFlash = Flash<4, 4096>;

/// Set up as the data sheet's tables of CTRL1_XL, CTRL2_G and CTRL3_C say: 4 g, 500 degrees a second, 104 Hz, block update.
fn setting_up() -> Vec<Transaction> {
    vec![
        Transaction::write(ADDRESS, vec![0x12, 0x44]),
        Transaction::write_read(ADDRESS, vec![0x0F], vec![0x6C]),
        Transaction::write_read(ADDRESS, vec![0x10], vec![0x00]),
        Transaction::write(ADDRESS, vec![0x10, 0x08]),
        Transaction::write_read(ADDRESS, vec![0x11], vec![0x00]),
        Transaction::write(ADDRESS, vec![0x11, 0x04]),
        Transaction::write_read(ADDRESS, vec![0x10], vec![0x08]),
        Transaction::write(ADDRESS, vec![0x10, 0x48]),
        Transaction::write_read(ADDRESS, vec![0x11], vec![0x04]),
        Transaction::write(ADDRESS, vec![0x11, 0x44]),
    ]
}

/// 0.122 mg and 17.5 thousandths of a degree a second a count.
#[test]
fn counts_become_g_and_units_of_two_radians_a_second() {
    let turns: [i16; 3] = [3274, -6548, 0]; // 57.295, -114.59 and 0 degrees a second
    let accelerations: [i16; 3] = [8197, -4098, 16384]; // 1.000034, -0.499956 and 1.998848 g
    let mut answer = vec![0, 0];
    turns.iter().chain(&accelerations).for_each(|counts| answer.extend(counts.to_le_bytes()));
    let mut transactions = setting_up();
    transactions.push(Transaction::write_read(ADDRESS, vec![0x20], answer));
    let mut bus = Mock::new(&transactions);
    let frame = Imu::new(bus.clone(), ADDRESS).unwrap().read().unwrap();
    bus.done();
    for (found, expected) in frame.into_iter().zip([1.000034, -0.499956, 1.998848, 0.499993, -0.999987, 0.0])
    {
        assert!((found - expected).abs() < 2e-6, "{found}, {expected} expected");
    }
}

#[test]
fn another_chip_is_told_from_a_silent_bus() {
    let mut transactions = setting_up();
    transactions.truncate(1);
    transactions.push(Transaction::write_read(ADDRESS, vec![0x0F], vec![0x6B]));
    let mut bus = Mock::new(&transactions);
    assert_eq!(Imu::new(bus.clone(), ADDRESS).err(), Some(ImuError::OtherChip));
    bus.done();
    let elsewhere = Lsm6dso::new(ADDRESS + 1, Movements::default());
    assert_eq!(Imu::new(elsewhere, ADDRESS).err(), Some(ImuError::Bus));
}

struct Ticks(Rc<Cell<u32>>);

impl Clock for Ticks {
    fn ticks(&mut self) -> u32 {
        self.0.get()
    }

    fn hertz(&self) -> u32 {
        flatmin_app::motion::FRAMES_A_SECOND
    }
}

struct Button(Rc<Cell<bool>>);

impl ErrorType for Button {
    type Error = Infallible;
}

impl InputPin for Button {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.get())
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(!self.0.get())
    }
}

/// A worn device. A frame is due at every tick.
struct Worn<'a, B> {
    tuner: Tuner<'a>,
    motion: Motion<'a, Lsm6dso>,
    board: B,
    movements: Movements,
    failures: Rc<RefCell<u32>>,
    time: Rc<Cell<u32>>,
    button: Rc<Cell<bool>>,
}

impl<B: Board> Worn<'_, B> {
    const FRAMES: usize = SIZES.input_length / CHANNELS;

    /// Whatever comes of the next frame, which is like no other.
    fn frame(&mut self) -> Event {
        let time = self.time.get() + 1;
        self.time.set(time);
        self.movements.borrow_mut().push_back([0.001 * time as f32; CHANNELS]);
        self.motion.poll(&mut self.tuner, &mut self.board, &mut []).unwrap()
    }

    /// As many frames, none of which completes a window.
    fn frames(&mut self, count: usize) {
        (0..count).for_each(|_| assert_eq!(self.frame(), Event::Framed));
    }

    /// What a whole window comes to.
    fn window(&mut self) -> Event {
        self.frames(Self::FRAMES - 1);
        self.frame()
    }
}

/// Runs `test` on a device that tunes itself after `windows` labelled windows.
fn wear(windows: u16, test: impl FnOnce(Worn<'_, Hardware<Ticks, NorFlash, flatmin_app::NoPin, Button>>)) {
    let mut arena = vec![0u128; SIZES.train_bytes(&RECIPE).div_ceil(16)];
    let mut window = vec![0; SIZES.input_length];
    let (movements, time, button) = (Movements::default(), Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let chip = Lsm6dso::new(ADDRESS, Rc::clone(&movements));
    let failures = chip.failures();
    let store = Store::new(0, SIZES.slot_bytes::<NorFlash>(Contents::Int8AndF32), 2);
    let flash = NorFlash::new(store.end() as usize / 4096);
    test(Worn {
        tuner: Tuner::new(Pack::new(PACK).unwrap(), RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap(),
        motion: Motion::new(
            Imu::new(chip, ADDRESS).unwrap(),
            &mut window,
            Plan { windows, recipe: RECIPE, solves: false },
        ),
        board: Hardware::new("worn", Ticks(Rc::clone(&time)))
            .with_store(store, flash)
            .with_button(Button(Rc::clone(&button))),
        movements,
        failures,
        time,
        button,
    });
}

/// Held down the button stands for class 0, held down again for class 1; a window that it was pressed or let go in the middle
/// of is kept for neither.
#[test]
fn the_button_labels_whole_windows() {
    wear(9, |mut worn| {
        worn.frames(3);
        worn.button.set(true);
        assert_eq!(worn.window(), Event::Kept { label: 0, samples: 1 });
        worn.frames(5);
        worn.button.set(false);
        assert!(matches!(worn.window(), Event::Classified { tuned: false, .. }));
        worn.button.set(true);
        assert_eq!(worn.window(), Event::Kept { label: 1, samples: 2 });
    });
}

#[test]
fn windows_without_a_label_overlap_by_half() {
    wear(9, |mut worn| {
        assert!(matches!(worn.window(), Event::Classified { .. }));
        worn.frames(Worn::<Hardware<Ticks>>::FRAMES.div_ceil(2) - 1);
        assert!(matches!(worn.frame(), Event::Classified { .. }));
    });
}

/// A window is one piece of time: what a failed reading or a pause interrupts begins anew, and no mixed window gets a label.
#[test]
fn an_interrupted_window_begins_anew() {
    wear(9, |mut worn| {
        worn.motion.give(Some(4));
        worn.frames(7);
        *worn.failures.borrow_mut() = 1;
        assert_eq!(worn.frame(), Event::Gap(Some(ImuError::Bus)));
        assert_eq!(worn.window(), Event::Kept { label: 4, samples: 1 });
        worn.frames(7);
        worn.time.set(worn.time.get() + 50);
        assert_eq!(worn.frame(), Event::Gap(None));
        assert_eq!(worn.window(), Event::Kept { label: 4, samples: 2 });
    });
}

/// After the labelled windows that the plan names, in the time between frames.
#[test]
fn it_tunes_when_there_are_enough_windows_and_remembers() {
    wear(2, |mut worn| {
        for label in [2, 5] {
            worn.motion.give(Some(label));
            assert!(matches!(worn.window(), Event::Kept { .. }));
        }
        let (weights, number) = loop {
            match worn.motion.poll(&mut worn.tuner, &mut worn.board, &mut []).unwrap() {
                Event::Underway => {}
                Event::Tuned { accepted: true, weights_crc32, sequence } => break (weights_crc32, sequence),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(number, Some(1));
        assert_eq!(worn.motion.poll(&mut worn.tuner, &mut worn.board, &mut []), Ok(Event::Idle));
        // As after a reset.
        let mut arena = vec![0u128; SIZES.train_bytes(&RECIPE).div_ceil(16)];
        let pack = Pack::new(PACK).unwrap();
        let mut woken = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap();
        assert_ne!(woken.weights_crc32(), weights);
        let (store, mut flash) = worn.board.store().unwrap();
        woken.restore(&store, &mut flash).unwrap();
        assert_eq!(woken.weights_crc32(), weights);
    });
}

/// A clock on which a frame is due whenever it is looked at.
struct Hasty(u32);

impl Clock for Hasty {
    fn ticks(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }

    fn hertz(&self) -> u32 {
        flatmin_app::motion::FRAMES_A_SECOND
    }
}

/// Requests, after each of which the line is silent for as many looks at it; then it ends.
struct Line {
    requests: VecDeque<(Vec<u8>, usize)>,
    coming: VecDeque<u8>,
    silence: usize,
    answers: Vec<u8>,
}

impl embedded_io::ErrorType for Line {
    type Error = Infallible;
}

impl ReadReady for Line {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        if self.coming.is_empty() && self.silence > 0 {
            self.silence -= 1;
            return Ok(false);
        }
        if self.coming.is_empty()
            && let Some((bytes, silence)) = self.requests.pop_front()
        {
            (self.coming, self.silence) = (bytes.into(), silence);
        }
        Ok(true)
    }
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let Some(byte) = self.coming.pop_front() else { return Ok(0) };
        bytes[0] = byte;
        Ok(1)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.answers.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The desktop says what is seen; in between the device reads windows, and goes on answering.
#[test]
fn labels_come_over_the_link_while_windows_are_read() {
    let window_long = SIZES.input_length / CHANNELS + 4;
    let script = [
        (Request::Identify, window_long),
        (Request::Label(Some(6)), 3 * window_long),
        (Request::Label(None), 2 * window_long),
        (Request::Identify, 0),
    ];
    let framed = |(number, (request, silence)): (u32, &(Request, usize))| {
        let (mut body, mut frame) = ([0; 64], [0; 64]);
        (wire::encode(number, request, &mut body, &mut frame).unwrap().to_vec(), *silence)
    };
    let requests = (0..).zip(&script).map(framed).collect();
    let mut line = Line { requests, coming: VecDeque::new(), silence: 0, answers: Vec::new() };
    let mut arena = vec![0u128; SIZES.train_bytes(&RECIPE).div_ceil(16)];
    let (mut window, mut memory) = (vec![0; SIZES.input_length], vec![0; link_bytes(&SIZES)]);
    let pack = Pack::new(PACK).unwrap();
    let mut tuner = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap();
    let imu = Imu::new(Lsm6dso::new(ADDRESS, Movements::default()), ADDRESS).unwrap();
    let mut motion = Motion::new(imu, &mut window, Plan { windows: 9, recipe: RECIPE, solves: false });
    let buffers = Buffers::new(&SIZES, &mut memory).unwrap();
    adapt(&mut tuner, &mut motion, &mut line, &mut Hardware::new("worn", Hasty(0)), buffers).unwrap();
    let mut held = Vec::new();
    for frame in line.answers.split_inclusive_mut(|&byte| byte == 0) {
        match wire::decode::<Response>(frame).unwrap().1 {
            Response::Identity { samples, .. } => held.push(samples),
            other => assert!(matches!(other, Response::Done { .. }), "{other:?}"),
        }
    }
    assert_eq!((held.as_slice(), tuner.samples()), (&[0, 3][..], 3));
}

/// The command itself compares with tuning on the same windows without sensor and application, and fails where they differ.
#[test]
fn a_wearers_recordings_adapt_the_device_through_its_sensor() {
    let run = Command::cargo_bin("flatmin")
        .unwrap()
        .args(["sensors", "motion", "--wearer", "3", "--json"])
        .assert();
    let run = run.success();
    let found: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    let replays = found["runs"].as_array().unwrap();
    // As it ships, then by each method's steps.
    let ways: Vec<_> = replays.iter().map(|replay| (&replay["start"], &replay["method"])).collect();
    let expected = [("closed-form", "sam"), ("tuned", "sgd"), ("tuned", "sam"), ("tuned", "asam")];
    assert_eq!(ways.len(), expected.len());
    assert!(
        ways.iter().zip(expected).all(|(way, (start, method))| *way.0 == start && *way.1 == method),
        "{ways:?}"
    );
    for replay in replays {
        let accuracy = |field: &str| replay[field].as_f64().unwrap_or_else(|| panic!("no {field}: {replay}"));
        assert!(accuracy("accuracy_after") > accuracy("accuracy_before"), "{replay}");
        // A run after three windows of each of seven classes, as the firmware ships.
        assert_eq!(replay["windows_a_run"], 21);
        let taken: Vec<bool> = serde_json::from_value(replay["runs_accepted"].clone()).unwrap();
        assert_eq!((taken.len(), taken.contains(&true)), (3, true), "{replay}");
        assert_eq!(replay["sequence"], taken.iter().filter(|&&taken| taken).count());
    }
}
