//! The link between desktop and device over a line that loses, doubles and flips bytes, in memory: every request is
//! carried out once, every answer is right.

use embedded_storage::nor_flash::NorFlash;
use flatmin::flash::Flash;
use flatmin::store::{Contents, Store};
use flatmin::wire::{self, Access, Request};
use flatmin::{Arithmetic, Float, Method, Pack, Recipe, Tuner, Version};
use flatmin_app::{Board, Buffers, Clock, Endpoint, Hardware, link_bytes};
use flatmin_link::link::{Answer, Identity, LinkError, Session};
use flatmin_model::model::Model;
use flatmin_sim::wearers::{Recordings, model_bytes};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

type Nor = Flash<4, 4096>;
type Labelled = (Vec<i8>, usize);

const RECIPE: Recipe =
    Recipe { method: Method::Sam, epochs: 1, minibatch: 64, replay_capacity: u16::MAX, ..Recipe::DEFAULT };

/// A clock that stands still.
pub struct Still;

impl Clock for Still {
    fn ticks(&mut self) -> u32 {
        0
    }

    fn hertz(&self) -> u32 {
        1
    }
}

/// A board without anything.
fn bare() -> Hardware<Still> {
    Hardware::new("bare", Still)
}

/// What befalls bytes.
pub struct Faults {
    random: Pcg32,
    /// Faults in a million bytes.
    per_million: u32,
    count: u64,
}

impl Faults {
    fn new(per_million: u32) -> Self {
        Self { random: Pcg32::seed_from_u64(6), per_million, count: 0 }
    }

    fn pass(&mut self, byte: u8, mut hand_on: impl FnMut(u8)) {
        if self.random.next_u32() % 1_000_000 >= self.per_million {
            return hand_on(byte);
        }
        self.count += 1;
        match self.random.next_u32() % 3 {
            0 => {}
            1 => (0..2).for_each(|_| hand_on(byte)),
            _ => hand_on(byte ^ 1 << (self.random.next_u32() % 8)),
        }
    }
}

/// A device at the end of a bad line. Silence is known at once: when the device has nothing more to say.
pub struct Line<'a, 'p, B, A: Arithmetic<'p> = Float<'p>> {
    device: Endpoint<'a, Tuner<'p, A>, B>,
    faults: Faults,
    to_desktop: VecDeque<u8>,
    bytes: u64,
}

impl<'a, 'p, B, A: Arithmetic<'p>> Line<'a, 'p, B, A> {
    /// The device, for bytes that come by another way.
    pub fn device(&mut self) -> &mut Endpoint<'a, Tuner<'p, A>, B> {
        &mut self.device
    }
}

impl<'p, B: Board, A: Arithmetic<'p>> Write for Line<'_, 'p, B, A> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { device, faults, to_desktop, bytes: count } = self;
        for &byte in bytes {
            let mut answers = Vec::new();
            faults.pass(byte, |byte| answers.extend_from_slice(device.take(byte).unwrap_or(&[])));
            *count += 1 + answers.len() as u64;
            answers.into_iter().for_each(|byte| faults.pass(byte, |byte| to_desktop.push_back(byte)));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'p, B: Board, A: Arithmetic<'p>> Read for Line<'_, 'p, B, A> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.to_desktop.pop_front() {
            Some(byte) => {
                bytes[0] = byte;
                Ok(1)
            }
            None => Err(ErrorKind::TimedOut.into()),
        }
    }
}

pub fn line<'a, 'p, B: Board, A: Arithmetic<'p>>(
    tuner: &'a mut Tuner<'p, A>,
    board: &'a mut B,
    memory: &'a mut [u8],
    per_million: u32,
) -> Session<Line<'a, 'p, B, A>> {
    let buffers = Buffers::new(&tuner.pack().sizes(), memory).unwrap();
    let device = Endpoint::new(tuner, board, buffers);
    Session::new(Line { device, faults: Faults::new(per_million), to_desktop: VecDeque::new(), bytes: 0 })
}

pub fn packed() -> Vec<u128> {
    let model = Model::bundled("wearer 1".into(), model_bytes(1).unwrap()).unwrap();
    let file = model.pack(2).unwrap();
    let mut words = vec![0u128; file.bytes().len().div_ceil(16)];
    bytemuck::cast_slice_mut(&mut words)[..file.bytes().len()].copy_from_slice(file.bytes());
    words
}

pub fn samples(pack: &Pack) -> Vec<Labelled> {
    let windows = Recordings::bundled().unwrap().test(1).unwrap();
    let affine = pack.input().affine;
    let chosen = windows.iter().step_by(7).take(40);
    chosen.map(|w| (w.samples.iter().map(|&x| affine.quantize(x)).collect(), w.label)).collect()
}

pub fn tuner<'a>(pack: &Pack<'a>, recipe: &Recipe, arena: &'a mut Vec<u128>) -> Tuner<'a> {
    arena.resize(pack.sizes().train_bytes(recipe).div_ceil(16), 0);
    Tuner::new(*pack, *recipe, bytemuck::cast_slice_mut(arena)).unwrap()
}

pub fn link_memory(pack: &Pack) -> Vec<u8> {
    vec![0; link_bytes(&pack.sizes())]
}

fn largest(output: &[i8]) -> u16 {
    let best = output.iter().max().unwrap();
    output.iter().position(|value| value == best).unwrap() as u16
}

/// 100,000 messages over a line that damages one byte in a thousand, each way: the same samples in the same order, each
/// once; the right class for each that is classified; each step once. The same calls without a line are the truth.
#[test]
fn a_thousandth_of_damaged_bytes_costs_repeats_and_nothing_else() {
    const MESSAGES: u32 = 100_000;
    let packed = packed();
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let data = samples(&pack);
    let (mut truth_arena, mut device_arena) = (Vec::new(), Vec::new());
    let mut truth = tuner(&pack, &RECIPE, &mut truth_arena);
    let mut device = tuner(&pack, &RECIPE, &mut device_arena);
    let (mut board, mut memory) = (bare(), link_memory(&pack));
    let mut session = line(&mut device, &mut board, &mut memory, 1_000);

    let identity = |tuner: &Tuner| {
        Answer::Identity(Identity {
            board: "bare".into(),
            pack_crc32: pack.crc32(),
            arena_bytes: tuner.arena_bytes() as u32,
            input_length: 600,
            capacity: u16::MAX,
            samples: tuner.samples() as u16,
            weights_crc32: tuner.weights_crc32(),
            tuned: false,
            sequence: None,
            slots: 0,
            hertz: 1,
            contents: Contents::Int8AndF32,
            access: Access::Anybody,
        })
    };
    let judged: Vec<Answer> = data
        .iter()
        .map(|(input, label)| {
            let factory = largest(truth.infer(input, Version::Factory).unwrap());
            let score = truth.score(input, *label).unwrap();
            let (tuned_f32, loss) = (score.class as u16, score.loss);
            Answer::Judged { factory, tuned_f32, tuned_int8: None, loss }
        })
        .collect();

    let mut random = Pcg32::seed_from_u64(11);
    let (mut sent, mut observed) = (0, 0);
    while sent < MESSAGES - 500 {
        let chosen = random.next_u32() as usize % data.len();
        let (values, label) = &data[chosen];
        let input: &[u8] = bytemuck::cast_slice(values);
        match random.next_u32() % 100 {
            0..25 => {
                // Any label: a wrong one would be noticed in the weights.
                let label = random.next_u32() as u16 % 7;
                assert_eq!(session.ask(&Request::Observe { label, input }).unwrap(), Answer::Done(0));
                truth.observe(values, label.into()).unwrap();
                observed += 1;
            }
            25..35 => {
                let request = Request::Judge { label: *label as u16, input };
                assert_eq!(session.ask(&request).unwrap(), judged[chosen]);
            }
            35..80 => {
                let answer = session.ask(&Request::Observe { label: 7, input });
                assert!(matches!(answer, Err(LinkError::Refused(why)) if why == "label out of range"));
            }
            _ => assert_eq!(session.ask(&Request::Identify).unwrap(), identity(&truth)),
        }
        assert_eq!(session.line().device.tuner().samples(), observed);
        sent += 1;
    }
    assert_eq!(truth.samples(), observed);

    session.ask(&Request::Start(RECIPE)).unwrap();
    truth.start(RECIPE).unwrap();
    loop {
        sent += 1;
        let expected = truth.step().unwrap();
        match session.ask(&Request::Step).unwrap() {
            Answer::Stepped { loss, finished, .. } => {
                assert_eq!((loss, finished), (expected.loss, expected.finished))
            }
            other => panic!("{other:?}"),
        }
        if expected.finished {
            break;
        }
    }
    while sent < MESSAGES {
        assert_eq!(session.ask(&Request::Identify).unwrap(), identity(&truth));
        sent += 1;
    }
    assert_eq!(session.line().device.tuner().weights_crc32(), truth.weights_crc32());
    let (line, repeats) = (session.line(), session.repeats());
    println!("{sent} messages, {} bytes, {} faults, {repeats} repeats", line.bytes, line.faults.count);
    // The test would show nothing on a good line: a fault in a thousand bytes.
    assert!(line.faults.count.abs_diff(line.bytes / 1_000) < line.bytes / 50_000);
    assert!(repeats > 10_000 && repeats < line.faults.count * 2);
}

/// Commits, roll backs and resets are not idempotent: each once, on a line that damages three bytes in a thousand.
#[test]
fn what_changes_the_store_happens_once() {
    let packed = packed();
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let recipe = Recipe { replay_capacity: 32, ..RECIPE };
    let slot_bytes = pack.sizes().slot_bytes::<Nor>(Contents::Int8);
    let store = Store::new(0, slot_bytes, 4);
    let flash = Nor::new(store.end() as usize / Nor::ERASE_SIZE).write_once();
    let mut board = bare().with_store(store, flash);
    let (mut arena, mut memory) = (Vec::new(), link_memory(&pack));
    let mut device = tuner(&pack, &recipe, &mut arena);
    let factory = device.weights_crc32();
    let mut session = line(&mut device, &mut board, &mut memory, 3_000);
    let sequence = |answer: Result<Answer, LinkError>| match answer {
        Ok(Answer::InForce { sequence, weights_crc32, .. }) => (sequence, weights_crc32),
        other => panic!("{other:?}"),
    };
    assert!(session.ask(&Request::Commit).unwrap_err().to_string().contains("no tuned tail yet"));
    for round in 0..20 {
        for (input, label) in samples(&pack).iter().take(4) {
            let request = Request::Observe { label: *label as u16, input: bytemuck::cast_slice(input) };
            session.ask(&request).unwrap();
        }
        session.ask(&Request::Start(Recipe { seed: round, ..recipe })).unwrap();
        while !matches!(session.ask(&Request::Step).unwrap(), Answer::Stepped { finished: true, .. }) {}
        session.ask(&Request::Requantize).unwrap();
        for number in 1..5 {
            assert_eq!(sequence(session.ask(&Request::Commit)).0, Some(number));
        }
        // Four slots: three commits can be taken back to one that is still there.
        for number in [3, 2, 1] {
            assert_eq!(sequence(session.ask(&Request::RollBack)).0, Some(number));
        }
        assert_eq!(sequence(session.ask(&Request::RollBack)), (None, factory));
        let nothing = session.ask(&Request::RollBack).unwrap_err().to_string();
        assert!(nothing.contains("nothing was committed"), "{nothing}");
        assert_eq!(sequence(session.ask(&Request::FactoryReset)), (None, factory));
    }
    println!("{} repeats", session.repeats());
    assert!(session.repeats() > 50);
}

#[test]
fn a_board_without_a_store_says_so() {
    let packed = packed();
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let recipe = Recipe { replay_capacity: 8, ..RECIPE };
    let (mut arena, mut memory) = (Vec::new(), link_memory(&pack));
    let mut device = tuner(&pack, &recipe, &mut arena);
    let mut board = bare();
    let mut session = line(&mut device, &mut board, &mut memory, 0);
    for request in [Request::Commit, Request::RollBack] {
        let error = session.ask(&request).unwrap_err().to_string();
        assert!(error.contains("this board has no store"), "{error}");
    }
    assert!(matches!(session.ask(&Request::FactoryReset), Ok(Answer::InForce { sequence: None, .. })));
    assert_eq!(session.repeats(), 0);
}

/// A desktop that begins anew, with the same numbers, gets its own answers.
#[test]
fn a_new_session_is_not_given_the_answers_of_the_last() {
    let packed = packed();
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let recipe = Recipe { replay_capacity: 8, ..RECIPE };
    let (mut arena, mut memory) = (Vec::new(), link_memory(&pack));
    let mut device = tuner(&pack, &recipe, &mut arena);
    let mut board = bare();
    let data = samples(&pack);
    let (label, input) = (0, bytemuck::cast_slice(&data[0].0));
    let buffers = Buffers::new(&pack.sizes(), &mut memory).unwrap();
    let device = Endpoint::new(&mut device, &mut board, buffers);
    let mut line = Line { device, faults: Faults::new(0), to_desktop: VecDeque::new(), bytes: 0 };
    for session in 1..4 {
        Session::new(&mut line).ask(&Request::Observe { label, input }).unwrap();
        assert_eq!(line.device.tuner().samples(), session);
    }
    // What is not repeatable does not open a session.
    let (mut scratch, mut frame) = ([0; 1024], [0; 1024]);
    let observe = Request::Observe { label, input };
    line.write_all(wire::encode(wire::OPENING, &observe, &mut scratch, &mut frame).unwrap()).unwrap();
    assert_eq!(line.device.tuner().samples(), 3);
}

/// 10,000 malformed frames, then a million random bytes: the device goes on answering, and has taken nothing in.
#[test]
fn the_device_outlives_malformed_frames_and_noise() {
    let packed = packed();
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let recipe = Recipe { replay_capacity: 8, ..RECIPE };
    let (mut arena, mut memory) = (Vec::new(), link_memory(&pack));
    let mut device = tuner(&pack, &recipe, &mut arena);
    let crc = device.weights_crc32();
    let mut board = bare();
    let mut session = line(&mut device, &mut board, &mut memory, 0);
    let mut random = Pcg32::seed_from_u64(3);
    let data = samples(&pack);
    let input: &[u8] = bytemuck::cast_slice(&data[0].0);

    for round in 0..10_000 {
        let (mut scratch, mut frame) = ([0; 2048], [0; 2048]);
        let whole = Request::Observe { label: 1, input };
        let whole = wire::encode(1_000_000 + round, &whole, &mut scratch, &mut frame).unwrap().to_vec();
        let place = random.next_u32() as usize % (whole.len() - 1);
        let malformed = match round % 8 {
            // Cut short, at either end.
            0 => [&whole[..place], &[0]].concat(),
            1 => whole[place + 1..].to_vec(),
            // A zero in the middle, a byte that is not there, one that is too many.
            2 => [&whole[..place], &[0], &whole[place + 1..]].concat(),
            3 => [&whole[..place], &whole[place + 1..]].concat(),
            4 => [&whole[..=place], &[!whole[place]], &whole[place + 1..]].concat(),
            // Longer than any buffer.
            5 => [vec![1; 5_000 + place], vec![0]].concat(),
            // Sound, but of no message: kinds that are not there, lengths beyond the end.
            6 => {
                let kind = 32 + random.next_u32() % 200;
                let frame_of = (kind, random.next_u32(), random.next_u32());
                wire::encode(1_000_000 + round, &frame_of, &mut scratch, &mut frame).unwrap().to_vec()
            }
            // Sound, and refused.
            _ => {
                let short = Request::Observe { label: 1, input: &input[..place % input.len()] };
                wire::encode(1_000_000 + round, &short, &mut scratch, &mut frame).unwrap().to_vec()
            }
        };
        session.line_mut().write_all(&malformed).unwrap();
        session.line_mut().to_desktop.clear();
        if round % 16 == 0 {
            assert!(matches!(session.ask(&Request::Identify), Ok(Answer::Identity(_))), "{round}");
        }
    }
    let mut noise = vec![0; 10_000];
    for round in 0..100 {
        random.fill_bytes(&mut noise);
        // Zeros end frames: every second round has one in eight bytes, for many short ones.
        if round % 2 == 0 {
            noise.iter_mut().filter(|byte| **byte < 32).for_each(|byte| *byte = 0);
        }
        session.line_mut().write_all(&noise).unwrap();
        session.line_mut().to_desktop.clear();
        assert!(matches!(session.ask(&Request::Identify), Ok(Answer::Identity(_))), "{round}");
    }
    let device = &session.line().device;
    assert_eq!((device.tuner().samples(), device.tuner().weights_crc32()), (0, crc));
}
