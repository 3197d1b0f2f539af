//! LED, button, watchdog and UART behind the application: what reaches the pins, in which order.

use embedded_hal::digital::{self, OutputPin};
use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};
use embedded_hal_nb::nb;
use embedded_hal_nb::serial::{self, ErrorKind};
use embedded_io::{Read, ReadReady, Write};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use flatmin::store::{Contents, Store};
use flatmin::wire::{self, Request, Response};
use flatmin::{Arithmetic, Pack, Progress, Recipe, Sizes, Tuner};
use flatmin_app::{ActiveLow, Board, Buffers, Clock, Endpoint, Hardware, Serial, link_bytes};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;

static PACK: &[u8] = flatmin::include_pack!("../model.pack");
const SIZES: Sizes = Sizes::of(PACK);
const RECIPE: Recipe = Recipe { replay_capacity: 8, epochs: 1, ..Recipe::DEFAULT };

struct Still;

impl Clock for Still {
    fn ticks(&mut self) -> u32 {
        0
    }

    fn hertz(&self) -> u32 {
        1
    }
}

/// Takes a request through a device, byte by byte.
fn ask<'e, 'p, A: Arithmetic<'p>>(
    endpoint: &'e mut Endpoint<Tuner<'p, A>, impl Board>,
    sequence: u32,
    request: &Request,
    answer: &'e mut Vec<u8>,
) -> Response<'e> {
    let (mut scratch, mut frame) = ([0; 2048], [0; 2048]);
    let frame = wire::encode(sequence, request, &mut scratch, &mut frame).unwrap();
    answer.clear();
    frame.iter().for_each(|&byte| answer.extend_from_slice(endpoint.take(byte).unwrap_or(&[])));
    let (answered, response) = wire::decode(answer).unwrap();
    assert_eq!(answered, sequence);
    response
}

fn arena() -> Vec<u128> {
    vec![0; SIZES.train_bytes(&RECIPE).div_ceil(16)]
}

fn tuner(arena: &mut [u128]) -> Tuner<'_> {
    Tuner::new(Pack::new(PACK).unwrap(), RECIPE, bytemuck::cast_slice_mut(arena)).unwrap()
}

fn input(seed: u8) -> Vec<u8> {
    (0..SIZES.input_length).map(|i| (i as u8).wrapping_mul(seed).wrapping_add(seed)).collect()
}

/// Both pins active low: the LED's is low while a request is carried out and high after it; a sample is kept when the
/// button's is low, with the label that was given last.
#[test]
fn the_button_keeps_samples_with_the_label_given() {
    let pressed = [true, false, true, true];
    let labels = [3, 3, 5, 6];
    let lit = || [Transaction::set(State::Low), Transaction::set(State::High)];
    // Identify, four times label and sample, and one sample after the label was taken back.
    let mut led = Mock::new(&std::iter::repeat_with(lit).take(1 + 2 * 4 + 2).flatten().collect::<Vec<_>>());
    let level = |&pressed: &bool| Transaction::get(if pressed { State::Low } else { State::High });
    let mut button = Mock::new(&pressed.iter().map(level).collect::<Vec<_>>());
    let mut board =
        Hardware::new("mock", Still).with_led(ActiveLow(led.clone())).with_button(ActiveLow(button.clone()));
    let (mut device_arena, mut truth_arena, mut memory) = (arena(), arena(), vec![0; link_bytes(&SIZES)]);
    let (mut device, mut truth) = (tuner(&mut device_arena), tuner(&mut truth_arena));
    let buffers = Buffers::new(&SIZES, &mut memory).unwrap();
    let mut endpoint = Endpoint::new(&mut device, &mut board, buffers);
    let (mut answer, mut sequence) = (Vec::new(), 0..);
    let mut ask = |request: &Request| {
        let response = ask(&mut endpoint, sequence.next().unwrap(), request, &mut answer);
        matches!(response, Response::Classified { kept: true, .. })
    };
    ask(&Request::Identify);
    for ((pressed, label), seed) in pressed.into_iter().zip(labels).zip(1..) {
        ask(&Request::Label(Some(label)));
        let input = input(seed);
        assert_eq!(ask(&Request::Classify { input: &input }), pressed);
        if pressed {
            truth.observe(bytemuck::cast_slice(&input), label.into()).unwrap();
        }
    }
    // Without a label the button is not even asked.
    ask(&Request::Label(None));
    assert!(!ask(&Request::Classify { input: &input(9) }));
    led.done();
    button.done();

    // The labels: tuning on them gives the weights of the same samples, labelled here.
    assert_eq!((device.samples(), truth.samples()), (3, 3));
    for tuner in [&mut device, &mut truth] {
        tuner.start(RECIPE).unwrap();
        while !tuner.step().unwrap().finished {}
    }
    assert_eq!(device.weights_crc32(), truth.weights_crc32());
}

/// A pin that fails stops nothing; a button that fails is not pressed.
#[test]
fn pins_that_fail_stop_nothing() {
    struct Broken;
    impl digital::ErrorType for Broken {
        type Error = digital::ErrorKind;
    }
    impl OutputPin for Broken {
        fn set_low(&mut self) -> Result<(), digital::ErrorKind> {
            Err(digital::ErrorKind::Other)
        }
        fn set_high(&mut self) -> Result<(), digital::ErrorKind> {
            Err(digital::ErrorKind::Other)
        }
    }
    impl digital::InputPin for Broken {
        fn is_high(&mut self) -> Result<bool, digital::ErrorKind> {
            Err(digital::ErrorKind::Other)
        }
        fn is_low(&mut self) -> Result<bool, digital::ErrorKind> {
            Err(digital::ErrorKind::Other)
        }
    }
    let mut board = Hardware::new("broken", Still).with_led(ActiveLow(Broken)).with_button(ActiveLow(Broken));
    board.busy(true);
    assert!(!board.pressed());
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Lit,
    Dark,
    Fed,
    Erased(u32),
    Written(usize),
}

type Log = RefCell<Vec<Event>>;

struct Lamp<'l>(&'l Log);

impl digital::ErrorType for Lamp<'_> {
    type Error = Infallible;
}

impl OutputPin for Lamp<'_> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().push(Event::Dark);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().push(Event::Lit);
        Ok(())
    }
}

struct Recorded<'l>(Vec<u8>, &'l Log);

impl ErrorType for Recorded<'_> {
    type Error = Infallible;
}

impl ReadNorFlash for Recorded<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for Recorded<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        self.0[from as usize..to as usize].fill(0xFF);
        self.1.borrow_mut().push(Event::Erased(to - from));
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        self.1.borrow_mut().push(Event::Written(bytes.len()));
        Ok(())
    }
}

/// The LED is lit from before the flash is touched until after it, and between two feeds at most one page is erased or
/// 128 bytes are written.
#[test]
fn the_watchdog_is_fed_between_pages_while_the_led_is_lit() {
    let log = Log::default();
    let slot_bytes = SIZES.slot_bytes::<Recorded>(Contents::Int8AndF32);
    let store = Store::new(0, slot_bytes, 2);
    let mut board = Hardware::new("recorded", Still)
        .with_led(Lamp(&log))
        .with_store(store, Recorded(vec![0xFF; store.end() as usize], &log))
        .with_watchdog(|| log.borrow_mut().push(Event::Fed));
    let (mut arena, mut memory) = (arena(), vec![0; link_bytes(&SIZES)]);
    let mut device = tuner(&mut arena);
    let buffers = Buffers::new(&SIZES, &mut memory).unwrap();
    let mut endpoint = Endpoint::new(&mut device, &mut board, buffers);
    let (mut answer, mut sequence) = (Vec::new(), 0..);
    let input = input(1);
    let observe = Request::Observe { label: 0, input: &input };
    for request in [Request::Identify, observe, Request::Start(RECIPE), Request::Step, Request::Requantize] {
        let answer = ask(&mut endpoint, sequence.next().unwrap(), &request, &mut answer);
        assert!(!matches!(answer, Response::Refused(_) | Response::Stepped { finished: false, .. }));
    }
    for request in [Request::Commit, Request::RollBack, Request::FactoryReset] {
        log.borrow_mut().clear();
        let answer = ask(&mut endpoint, sequence.next().unwrap(), &request, &mut answer);
        assert!(matches!(answer, Response::InForce { .. }), "{request:?}: {answer:?}");
        let log = log.borrow();
        assert_eq!((log.first(), log.last()), (Some(&Event::Lit), Some(&Event::Dark)), "{request:?}");
        let (mut pages, mut written) = (0, 0);
        for period in log[1..log.len() - 1].split(|&event| event == Event::Fed) {
            match period {
                [] => {}
                [Event::Erased(4096)] => pages += 1,
                &[Event::Written(bytes @ ..=128)] => written += bytes,
                other => panic!("{request:?}: {other:?} between two feeds"),
            }
        }
        let slots = if request == Request::FactoryReset { 2 } else { 1 };
        assert_eq!(pages, slots * slot_bytes as usize / 4096, "{request:?}");
        assert_eq!(written > slot_bytes as usize / 2, request == Request::Commit, "{request:?}: {written}");
    }
}

/// While a step, a requantization or an evaluation is under way, the watchdog is fed once a slice: a sample's pass or two
/// sweeps.
#[test]
fn the_watchdog_is_fed_between_slices_of_work() {
    let log = Log::default();
    let mut board = Hardware::new("fed", Still).with_watchdog(|| log.borrow_mut().push(Event::Fed));
    let (mut device_arena, mut truth_arena, mut memory) = (arena(), arena(), vec![0; link_bytes(&SIZES)]);
    let (mut device, mut truth) = (tuner(&mut device_arena), tuner(&mut truth_arena));
    let buffers = Buffers::new(&SIZES, &mut memory).unwrap();
    let mut endpoint = Endpoint::new(&mut device, &mut board, buffers);
    let (mut answer, mut sequence) = (Vec::new(), 0..);
    // How often the watchdog is fed during a request.
    let mut feeds = |request: &Request| {
        log.borrow_mut().clear();
        let answer = ask(&mut endpoint, sequence.next().unwrap(), request, &mut answer);
        assert!(!matches!(answer, Response::Refused(_)), "{request:?}: {answer:?}");
        log.borrow().len()
    };
    feeds(&Request::Identify);
    for seed in 1..=6 {
        let input = input(seed);
        feeds(&Request::Observe { label: seed.into(), input: &input });
        truth.observe(bytemuck::cast_slice(&input), seed.into()).unwrap();
    }
    feeds(&Request::Start(RECIPE));
    truth.start(RECIPE).unwrap();
    let mut slices = 1;
    while matches!(truth.poll().unwrap(), Progress::Underway(_)) {
        slices += 1;
    }
    // One for each of the six samples, at least.
    assert!(slices >= 6);
    assert_eq!(feeds(&Request::Step), slices);
    assert_eq!(feeds(&Request::Requantize), 6);
    assert_eq!(feeds(&Request::Measure { rho: 0.05 }), 6);
    assert_eq!(feeds(&Request::Summarize { rho: 0.05 }), 6);
}

/// A UART that has nothing at first, then bytes, then a damaged one.
struct Uart {
    incoming: VecDeque<nb::Result<u8, ErrorKind>>,
    outgoing: Vec<u8>,
    busy: bool,
}

impl serial::ErrorType for Uart {
    type Error = ErrorKind;
}

impl serial::Read for Uart {
    fn read(&mut self) -> nb::Result<u8, ErrorKind> {
        self.incoming.pop_front().unwrap_or(Err(nb::Error::WouldBlock))
    }
}

impl serial::Write for Uart {
    fn write(&mut self, byte: u8) -> nb::Result<(), ErrorKind> {
        self.busy = !self.busy;
        if self.busy {
            return Err(nb::Error::WouldBlock);
        }
        self.outgoing.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> nb::Result<(), ErrorKind> {
        Ok(())
    }
}

#[test]
fn a_uart_is_a_link_without_its_damaged_bytes() {
    let (nothing, noise) = (Err(nb::Error::WouldBlock), Err(nb::Error::Other(ErrorKind::Noise)));
    let incoming = [nothing, Ok(1), Ok(2), noise, nothing, Ok(3)].into();
    let mut link = Serial::new(Uart { incoming, outgoing: Vec::new(), busy: false });
    let mut bytes = [0; 4];
    assert_eq!(link.read_ready(), Ok(false));
    // Asked twice: the byte that was there stays the next.
    assert_eq!((link.read_ready(), link.read_ready()), (Ok(true), Ok(true)));
    assert_eq!((link.read(&mut bytes), bytes[0]), (Ok(1), 1));
    assert_eq!((link.read(&mut bytes), bytes[0]), (Ok(1), 2));
    assert_eq!(link.read_ready(), Ok(false));
    assert_eq!((link.read(&mut bytes), bytes[0]), (Ok(1), 3));
    link.write_all(&[7, 8, 9]).unwrap();
    link.flush().unwrap();
    assert_eq!(link.uart().outgoing, [7, 8, 9]);
}
