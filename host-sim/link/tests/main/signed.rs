//! Only the holder of a device's key changes it over the link: against one who hears every byte and sends what he likes.

use crate::session::{Still, line, link_memory, packed, samples, tuner};
use crate::skipping::emulating;
use embedded_storage::nor_flash::NorFlash;
use flatmin::flash::{Flash, Partial};
use flatmin::store::{Contents, Store};
use flatmin::wire::signed::{KEY_BYTES, Key};
use flatmin::wire::{self, Access, Request, Response};
use flatmin::{Method, Pack, Recipe, Tuner, Version};
use flatmin_app::{Board, Endpoint, Hardware};
use flatmin_link::device::{self, Device};
use flatmin_link::emulate::{Firmware, Kind, LogSink, Options};
use flatmin_link::link::{Answer, LinkError, Session};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Tail, Training, train};
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::ops::Range;

type Nor = Flash<4, 4096>;

const RECIPE: Recipe =
    Recipe { method: Method::Sgd, epochs: 1, minibatch: 8, replay_capacity: 32, ..Recipe::DEFAULT };
const KEY: [u8; KEY_BYTES] = [0x5A; KEY_BYTES];
const OTHER: [u8; KEY_BYTES] = [0xA5; KEY_BYTES];
/// Pages of the flash after the store's.
const KEY_PAGES: u32 = 2 * 4096;

fn store(pack: &Pack) -> Store {
    Store::new(0, pack.sizes().slot_bytes::<Nor>(Contents::Int8), 2)
}

/// The pages after it, for the key.
fn keys(pack: &Pack) -> Range<u32> {
    let end = u32::try_from(store(pack).end()).unwrap();
    end..end + KEY_PAGES
}

fn flash(pack: &Pack) -> Nor {
    Nor::new((keys(pack).end as usize) / Nor::ERASE_SIZE).write_once()
}

/// A board with this flash, which its owner keeps through restarts.
fn board<'f>(pack: &Pack, flash: &'f mut Nor) -> Hardware<Still, &'f mut Nor> {
    Hardware::new("locked", Still).with_store(store(pack), flash).with_keys(keys(pack))
}

/// What comes over the line, heard by others.
struct Heard<'h, L>(L, &'h mut Vec<u8>);

impl<L: Write> Write for Heard<'_, L> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<L: Read> Read for Heard<'_, L> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

/// Observes, tunes and commits.
fn adapt<L: Read + Write>(session: &mut Session<L>, pack: &Pack) -> Result<Answer, LinkError> {
    for (input, label) in samples(pack).iter().take(8) {
        let request = Request::Observe { label: *label as u16, input: bytemuck::cast_slice(input) };
        session.ask(&request)?;
    }
    session.ask(&Request::Start(RECIPE))?;
    while !matches!(session.ask(&Request::Step)?, Answer::Stepped { finished: true, .. }) {}
    session.ask(&Request::Requantize)?;
    session.ask(&Request::Commit)
}

fn access<L: Read + Write>(session: &mut Session<L>) -> Access {
    match session.ask(&Request::Identify) {
        Ok(Answer::Identity(identity)) => identity.access,
        other => panic!("{other:?}"),
    }
}

/// A device without a key is changed by nobody; the first key is taken, and then its holder alone is let in, over a line that
/// damages three bytes in a thousand and through restarts.
#[test]
fn the_first_key_is_kept_and_its_holder_let_in() {
    let packed = packed();
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let mut flash = flash(&pack);
    let (mut arena, mut memory) = (Vec::new(), link_memory(&pack));
    {
        let (mut device, mut board) = (tuner(&pack, &RECIPE, &mut arena), board(&pack, &mut flash));
        let mut session = line(&mut device, &mut board, &mut memory, 3_000);
        assert_eq!(access(&mut session), Access::Unclaimed);
        let refused = adapt(&mut session, &pack).unwrap_err().to_string();
        assert!(refused.contains("no key yet"), "{refused}");
        session.ask(&Request::Provision { key: KEY }).unwrap();
        assert!(matches!(adapt(&mut session, &pack), Ok(Answer::InForce { sequence: Some(1), .. })));
        assert_eq!(access(&mut session), Access::KeyHolder);
    }
    for (key, expected) in [(None, "name the key's file"), (Some(OTHER), "does not prove"), (Some(KEY), "")] {
        let (mut device, mut board) = (tuner(&pack, &RECIPE, &mut arena), board(&pack, &mut flash));
        let mut session = line(&mut device, &mut board, &mut memory, 3_000);
        if let Some(key) = key {
            session = session.with_key(Key::new(key));
        }
        match (adapt(&mut session, &pack), expected) {
            (Ok(Answer::InForce { sequence, .. }), "") => assert_eq!(sequence, Some(2)),
            (Err(error), _) if !expected.is_empty() => {
                assert!(error.to_string().contains(expected), "{error}");
                assert_eq!(state(session.line_mut().device()).0, 0);
            }
            (other, _) => panic!("{other:?}"),
        }
    }
    // The holder may give it another key; the one before it is worth nothing then.
    let (mut device, mut board) = (tuner(&pack, &RECIPE, &mut arena), board(&pack, &mut flash));
    let mut session = line(&mut device, &mut board, &mut memory, 0).with_key(Key::new(KEY));
    session.ask(&Request::Provision { key: OTHER }).unwrap();
    session.ask(&Request::RollBack).unwrap();
    let mut late = Session::new(session.line_mut()).with_key(Key::new(KEY));
    assert!(matches!(late.ask(&Request::RollBack), Err(LinkError::KeyDiffers)));
}

/// What a device is: samples, weights, and whether a tuned tail is in force.
fn state<'p, B: Board>(device: &Endpoint<Tuner<'p>, B>) -> (usize, u32, bool) {
    let tuner = device.tuner();
    (tuner.samples(), tuner.weights_crc32(), tuner.is_tuned())
}

/// Sends bytes of anybody's; what the device answers is lost.
fn send<'p, B: Board>(device: &mut Endpoint<Tuner<'p>, B>, bytes: &[u8]) {
    for &byte in bytes {
        let _ = device.take(byte);
    }
}

fn frame(sequence: u32, request: &Request) -> Vec<u8> {
    let (mut scratch, mut frame) = ([0; 1024], [0; 1024]);
    wire::encode(sequence, request, &mut scratch, &mut frame).unwrap().to_vec()
}

/// All that was heard on the line is sent again: at once, into a session of the holder's, and after a restart; and with any bit of
/// number, tag and request changed. The device stays as it is. The requests themselves, on a board without a key, change it.
#[test]
fn what_was_heard_is_worth_nothing() {
    let packed = packed();
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let mut flash = flash(&pack);
    let (mut arena, mut memory) = (Vec::new(), link_memory(&pack));
    let mut heard = Vec::new();
    {
        let (mut device, mut board) = (tuner(&pack, &RECIPE, &mut arena), board(&pack, &mut flash));
        let mut first = line(&mut device, &mut board, &mut memory, 0);
        first.ask(&Request::Provision { key: KEY }).unwrap();
        let line = first.line_mut();
        adapt(&mut Session::new(Heard(&mut *line, &mut heard)).with_key(Key::new(KEY)), &pack).unwrap();
        let tuned = state(line.device());
        assert_eq!((tuned.0, tuned.2), (8, true));
        send(line.device(), &heard);
        send(line.device(), &heard);
        assert_eq!(state(line.device()), tuned, "at once");

        let mut holder = Session::new(&mut *line).with_key(Key::new(KEY));
        holder.ask(&Request::Forget).unwrap();
        let forgotten = state(holder.line_mut().device());
        assert_eq!(forgotten.0, 0);
        send(holder.line_mut().device(), &heard);
        assert_eq!(state(holder.line_mut().device()), forgotten, "into a session of the holder's");
        holder.ask(&Request::Label(Some(1))).unwrap();
    }
    let kept = flash.bytes()[..store(&pack).end() as usize].to_vec();
    {
        let (mut device, mut board) = (tuner(&pack, &RECIPE, &mut arena), board(&pack, &mut flash));
        let mut session = line(&mut device, &mut board, &mut memory, 0);
        let restarted = state(session.line_mut().device());
        send(session.line_mut().device(), &heard);
        assert_eq!(state(session.line_mut().device()), restarted, "after a restart");

        // A request of the holder's and all that differ from it by a bit, which none before them has spoilt.
        let Ok(Answer::Challenged { nonce, .. }) = session.ask(&Request::Challenge { nonce: [1; 16] }) else {
            panic!("no challenge")
        };
        let (key, device) = (Key::new(KEY).session(&[1; 16], &nonce), session.line_mut().device());
        let mut scratch = [0; 1024];
        let label = Request::Observe { label: 3, input: &[5; 600] };
        let request = wire::write_body(&label, &mut scratch).unwrap();
        let tag = key.sign(77, request);
        for bit in 0..32 {
            send(device, &frame(77 ^ 1 << bit, &Request::Signed { tag, request }));
        }
        for bit in 0..8 * tag.len() {
            let mut other = tag;
            other[bit / 8] ^= 1 << (bit % 8);
            send(device, &frame(77, &Request::Signed { tag: other, request }));
        }
        for bit in 0..8 * request.len() {
            let mut other = request.to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            send(device, &frame(77, &Request::Signed { tag, request: &other }));
        }
        assert_eq!(state(device), restarted, "a bit off");
        send(device, &frame(77, &Request::Signed { tag, request }));
        assert_eq!(state(device).0, 1);
    }
    assert!(flash.bytes().starts_with(&kept), "the store");

    let (mut device, mut open) = (tuner(&pack, &RECIPE, &mut arena), Hardware::new("open", Still));
    let mut session = line(&mut device, &mut open, &mut memory, 0);
    for heard in heard.split_inclusive(|&byte| byte == 0) {
        if let Ok((_, Request::Signed { request, .. })) = wire::decode(&mut heard.to_vec()) {
            // It has no store: the commit is refused.
            let _ = session.ask(&wire::read_body(request).unwrap());
            if session.line_mut().device().tuner().samples() == 8 {
                return;
            }
        }
    }
    panic!("the requests changed nothing without tags either");
}

/// Without the key, a device that has one answers what [`Request::is_open`] names, and nothing of the rest: all requests, one by
/// one.
#[test]
fn all_else_takes_the_key() {
    let packed = packed();
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let mut flash = flash(&pack);
    let (mut arena, mut memory) = (Vec::new(), link_memory(&pack));
    let (mut device, mut board) = (tuner(&pack, &RECIPE, &mut arena), board(&pack, &mut flash));
    let mut session = line(&mut device, &mut board, &mut memory, 0);
    session.ask(&Request::Provision { key: KEY }).unwrap();
    let device = session.line_mut().device();
    let input: &[u8] = &[0; 600];
    let closed = [
        Request::Observe { label: 0, input },
        Request::Start(RECIPE),
        Request::Step,
        Request::Requantize,
        Request::Commit,
        Request::RollBack,
        Request::FactoryReset,
        Request::Forget,
        Request::Classify { input },
        Request::Label(Some(1)),
        Request::PullTail { offset: 0 },
        Request::PushTail { offset: 0, bytes: &[1] },
        Request::AdoptTail { layers: &[], crc32: 0 },
        Request::Poll,
        Request::Accept,
        Request::Watch(None),
        Request::PullRun { offset: 0 },
        Request::ExpectRun { head: &[] },
        Request::PushRun { offset: 0, bytes: &[1] },
        Request::AdoptRun { head: &[] },
        Request::ObserveTarget { target: None, anomalous: true, input },
        Request::AddClass,
        Request::Solve(RECIPE),
        Request::Provision { key: OTHER },
    ];
    let open = [
        Request::Identify,
        Request::Judge { label: 0, input },
        Request::JudgeTarget { target: None, input },
        Request::Summarize { rho: 0.05 },
        Request::Measure { rho: 0.05 },
        Request::Slot(0),
        Request::Trace { first: 0, input },
        Request::Confusion { version: Version::Factory, label: 0, first: 0 },
        Request::Drift,
        Request::Auc { version: Version::Factory },
        Request::Challenge { nonce: [1; 16] },
    ];
    let before = state(device);
    let requests = closed.iter().map(|request| (request, true)).chain(open.iter().map(|r| (r, false)));
    for (number, (request, locked)) in (100..).zip(requests) {
        let (sent, mut answer) = (frame(number, request), Vec::new());
        sent.iter().for_each(|&byte| answer.extend_from_slice(device.take(byte).unwrap_or(&[])));
        let (_, response) = wire::decode::<Response>(&mut answer).unwrap();
        let refused = matches!(response, Response::Refused(why) if why.contains("only the key's holder"));
        assert_eq!(refused, locked, "{request:?}: {response:?}");
    }
    assert_eq!(state(device), before);
    // The numbers of postcard's encoding: no request is missing above but the signed one.
    let numbers = closed.iter().chain(&open).map(|request| {
        let mut bytes = [0; 1024];
        wire::write_body(request, &mut bytes).unwrap()[0]
    });
    assert_eq!(numbers.collect::<HashSet<_>>(), (0..35).collect());
    assert_eq!(wire::read_body::<Request>(&[35; 64]).map(|request| request.is_open()), Some(false));
    assert_eq!(wire::read_body::<Request>(&[36; 64]), None);
}

/// The power goes at every operation of the flash while a key is kept, and while sessions are opened, over many restarts: the key
/// is there or not, never another; no nonce comes twice.
#[test]
fn power_cuts_cost_neither_key_nor_nonces() {
    let packed = packed();
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let (mut arena, mut memory) = (Vec::new(), link_memory(&pack));
    let mut cuts = 0;
    for partial in [Partial::Clean, Partial::Prefix(128), Partial::Suffix(128), Partial::Random(7)] {
        for first in (0..40).step_by(5) {
            let mut flash = flash(&pack);
            let (mut provisioned, mut nonces) = (false, HashSet::new());
            for start in 0..400 {
                // Where so many operations come: two headers and their pages take 34, a start one.
                flash.cut_at((13 * start + first) % 40, partial);
                {
                    let (mut device, mut board) =
                        (tuner(&pack, &RECIPE, &mut arena), board(&pack, &mut flash));
                    let mut session = line(&mut device, &mut board, &mut memory, 0);
                    let found = access(&mut session);
                    assert!(
                        found == Access::KeyHolder || !provisioned && found == Access::Unclaimed,
                        "{found:?}"
                    );
                    if found == Access::Unclaimed {
                        provisioned = session.ask(&Request::Provision { key: KEY }).is_ok();
                    }
                    for _ in 0..2 {
                        if let Ok(Answer::Challenged { nonce, proof }) =
                            session.ask(&Request::Challenge { nonce: [3; 16] })
                        {
                            assert!(nonces.insert(nonce), "a nonce came twice");
                            assert!(Key::new(KEY).proves(&[3; 16], &nonce, &proof));
                            provisioned = true;
                        }
                    }
                }
                cuts += u32::from(flash.power_on());
            }
            assert!(nonces.len() > 700, "{} nonces", nonces.len());
        }
    }
    println!("{cuts} power cuts");
    assert!(cuts > 300);
}

/// Firmware in QEMU whose flash outlasts it: the first key is kept through a restart, another is not let in, and the owner tunes to
/// the desktop's weights.
#[test]
fn an_emulated_device_lets_its_owner_in() {
    if !emulating("qemu-system-riscv32") {
        return;
    }
    let subject = Subject::wearer(1, 9, 0.0, 1).unwrap();
    let recipe = Recipe { epochs: 1, replay_capacity: 63, ..Recipe::DEFAULT };
    let (kind, quiet) = (Kind { signed: true, ..Kind::default() }, LogSink::new(|_| {}));
    let firmware =
        Firmware::build_as(kind, "riscv32-virt", &subject.model, 1, &recipe, quiet.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let flash = folder.path().join("pflash.bin");
    let boot = || {
        let options = Options { flash: Some(&flash), count_instructions: false };
        Device::emulated(firmware.image(), options, quiet.clone()).unwrap()
    };
    let mut device = boot();
    assert_eq!(device.identify().unwrap().access, Access::Unclaimed);
    device.ask(&Request::Provision { key: KEY }).unwrap();
    drop(device);
    let mut stranger = boot().with_key(Key::new(OTHER));
    assert_eq!(stranger.identify().unwrap().access, Access::KeyHolder);
    let refused = stranger.ask(&Request::FactoryReset).unwrap_err().to_string();
    assert!(refused.contains("does not prove"), "{refused}");
    drop(stranger);
    let mut owner = boot().with_key(Key::new(KEY));
    let pack = subject.model.pack(1).unwrap();
    let training = Training::steps(Tail::Full, recipe);
    let run = device::train(&mut owner, &pack, &subject, &training, false, |_| {}).unwrap().run;
    assert_eq!(run.weights_crc32, train(&subject, 1, &training, || {}).unwrap().weights_crc32);
    assert!(matches!(owner.ask(&Request::Commit), Ok(Answer::InForce { sequence: Some(1), .. })));
}
