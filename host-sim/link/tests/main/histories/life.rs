//! A device under power beside a twin without line and flash: every operation is given to both.

use super::Operation;
use super::kept::{Committed, Kept, Nor, Shared};
use crate::bundled::Labelled;
use crate::session::{Line, Still, line, link_memory};
use embedded_storage::nor_flash::ReadNorFlash;
use flatmin::flash::FlashError;
use flatmin::store::{LAYER_BYTES, Store};
use flatmin::wire::{Request, TAIL_PART_BYTES};
use flatmin::{Acceptance, Arithmetic, Pack, Progress, RUN_HEAD_BYTES, Recipe, Tuner, Version, crc32};
use flatmin_app::{Board, Hardware};
use flatmin_link::link::{Answer, Identity, LinkError, Session};
use flatmin_sim::tuning::Tail;
use std::cell::RefCell;

pub const RECIPE: Recipe =
    Recipe { minibatch: 2, epochs: 2, replay_capacity: 6, learning_rate: 0.05, ..Recipe::DEFAULT };

/// What histories have been through, so that a test that shows nothing is seen.
#[derive(Debug, Default)]
pub struct Counts {
    pub operations: u64,
    pub commits: u64,
    pub cuts: u64,
    pub resumed: u64,
    pub adopted: u64,
    pub taken_back: u64,
    pub repeats: u64,
    pub brought_back: u64,
}

/// A network, its samples, the arithmetic it is tuned in, and the line.
pub struct Bench<'k> {
    pub pack: Pack<'k>,
    pub samples: Vec<Labelled>,
    pub kind: Tail,
    pub recipe: Recipe,
    /// Bytes of a million that the line damages.
    pub per_million: u32,
}

/// What outlives the power.
pub struct World<'f> {
    pub flash: &'f RefCell<Nor>,
    pub store: Store,
    pub kept: Kept,
    /// On the desktop: a tail's bytes, and a run's.
    pub tail: Vec<u8>,
    pub run: Vec<u8>,
}

impl World<'_> {
    fn power_is_off(&self) -> bool {
        self.flash.borrow_mut().read(0, &mut [0]) == Err(FlashError::PowerLost)
    }
}

/// A device under power, and its twin.
struct Life<'a, 'p, 'f, B, A: Arithmetic<'p>> {
    session: Session<Line<'a, 'p, B, A>>,
    twin: &'a mut Tuner<'p, A>,
    bench: &'a Bench<'p>,
    world: &'a mut World<'f>,
    counts: &'a mut Counts,
}

fn is_done(answer: &Result<Answer, LinkError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(LinkError::Refused(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

impl<'p, B: Board, A: Arithmetic<'p>> Life<'_, 'p, '_, B, A> {
    fn ask(&mut self, request: Request) -> Result<Answer, LinkError> {
        self.session.ask(&request)
    }

    /// Device and twin both do it, or both refuse.
    fn both<T, E>(
        &mut self,
        request: Request,
        twin: impl FnOnce(&mut Tuner<'p, A>) -> Result<T, E>,
    ) -> Option<(Answer, T)> {
        let answer = self.ask(request);
        let twins = twin(self.twin);
        assert_eq!(is_done(&answer), twins.is_ok(), "{request:?}: {answer:?}");
        answer.ok().zip(twins.ok())
    }

    fn identity(&mut self) -> Identity {
        match self.ask(Request::Identify) {
            Ok(Answer::Identity(identity)) => identity,
            other => panic!("{other:?}"),
        }
    }

    /// Weights, samples and answers are the twin's.
    fn compare(&mut self) {
        let identity = self.identity();
        let twin = (self.twin.weights_crc32(), self.twin.samples(), self.twin.is_tuned());
        assert_eq!((identity.weights_crc32, usize::from(identity.samples), identity.tuned), twin);
        for (input, _) in &self.bench.samples[..2] {
            let own = self.twin.classify(input).unwrap();
            let output = self.twin.output_affine(own.version).quantize(own.score);
            match self.session.ask(&Request::Classify { input: bytemuck::cast_slice(input) }) {
                Ok(Answer::Classified { class, output: found, tuned, .. }) => assert_eq!(
                    (usize::from(class), found, tuned),
                    (own.label, output, own.version == Version::Tuned)
                ),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The twin gets what the oracle's list has in force.
    fn adopt(&mut self) {
        adopt(self.twin, &self.world.kept);
    }

    /// A device brings back what a run or half a tail has taken the place of.
    fn bring_back(&mut self) {
        if self.twin.awaits_restore() {
            self.adopt();
            self.counts.brought_back += 1;
        }
    }

    fn poll(&mut self) -> bool {
        let Some((answer, progress)) = self.both(Request::Poll, |twin| twin.poll()) else { return true };
        match (answer, progress) {
            (Answer::Underway { position, .. }, Progress::Underway(own)) => {
                assert_eq!(position, own);
                false
            }
            (Answer::Stepped { loss, finished, .. }, Progress::Stepped(own)) => {
                assert_eq!((loss, finished), (own.loss, own.finished));
                finished
            }
            (answer, own) => panic!("{answer:?}, {own:?}"),
        }
    }

    fn pull(&mut self, request: impl Fn(u32) -> Request<'static>) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match self.ask(request(bytes.len() as u32)) {
                Ok(Answer::Tail { bytes: part, .. }) if part.is_empty() => return bytes,
                Ok(Answer::Tail { bytes: part, .. }) => bytes.extend_from_slice(&part),
                Err(LinkError::Refused(_)) => return bytes,
                other => panic!("{other:?}"),
            }
        }
    }

    fn tail(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.twin.tail_bytes()];
        let count = self.twin.read_tail(0, &mut bytes).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    fn push_tail(&mut self, whole: bool) {
        let bytes = self.world.tail.clone();
        if bytes.is_empty() {
            return;
        }
        let first = self.bench.pack.sizes().tail_layers * LAYER_BYTES;
        for (index, part) in bytes[first..].chunks(TAIL_PART_BYTES).enumerate() {
            let offset = first + index * TAIL_PART_BYTES;
            let request = Request::PushTail { offset: offset as u32, bytes: part };
            // Where one copy is held, a tail that lies in no flash is not overwritten.
            if self.both(request, |twin| twin.write_tail(offset, part)).is_none() {
                assert!(self.twin.is_only_copy(), "a tail is refused");
                return;
            }
            if !whole {
                return;
            }
        }
        let (layers, crc32) = (&bytes[..first], crc32(&bytes));
        let taken = self.both(Request::AdoptTail { layers, crc32 }, |twin| twin.adopt_tail(layers, crc32));
        // What a tuner gave away, a tuner of that pack takes.
        assert!(taken.is_some(), "a whole tail is refused");
        self.counts.adopted += 1;
    }

    fn resume_run(&mut self, whole: bool) {
        let bytes = self.world.run.clone();
        let Some((head, body)) = bytes.split_at_checked(RUN_HEAD_BYTES) else { return };
        self.bring_back();
        // Other samples, or another recipe than it began with: refused by both.
        if self.both(Request::ExpectRun { head }, |twin| twin.expect_run(head)).is_none() {
            return;
        }
        for (index, part) in body.chunks(TAIL_PART_BYTES).enumerate() {
            let offset = RUN_HEAD_BYTES + index * TAIL_PART_BYTES;
            let request = Request::PushRun { offset: offset as u32, bytes: part };
            self.both(request, |twin| twin.write_run(offset, part));
            if !whole {
                return;
            }
        }
        self.both(Request::AdoptRun { head }, |twin| twin.adopt_run(head));
        self.bring_back();
        self.counts.resumed += 1;
    }

    fn commit(&mut self) {
        let answer = self.ask(Request::Commit);
        let bytes = self.tail();
        if self.world.power_is_off() {
            return self.world.kept.cut_commit(bytes);
        }
        match answer {
            Ok(Answer::InForce { sequence: Some(sequence), .. }) => {
                self.world.kept.commit(sequence, bytes);
                self.twin.release();
                self.counts.commits += 1;
            }
            Err(LinkError::Refused(_)) => assert!(bytes.is_empty(), "a tuned tail is not committed"),
            other => panic!("{other:?}"),
        }
    }

    fn roll_back(&mut self) {
        let answer = self.ask(Request::RollBack);
        let newest = self.world.kept.tails.last_mut();
        if self.world.flash.borrow_mut().read(0, &mut [0]) == Err(FlashError::PowerLost) {
            newest.unwrap().sure = false;
            return;
        }
        match answer {
            Ok(Answer::InForce { sequence, .. }) => {
                self.world.kept.tails.pop();
                self.world.kept.settle(sequence);
                self.adopt();
                self.counts.taken_back += 1;
            }
            Err(LinkError::Refused(why)) => {
                assert!(newest.is_none() && why.contains("nothing was committed"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn factory_reset(&mut self) {
        let answer = self.ask(Request::FactoryReset);
        if self.world.power_is_off() {
            self.world.kept.tails.iter_mut().for_each(|kept| kept.sure = false);
            self.world.kept.was_reset = true;
            return;
        }
        assert!(matches!(answer, Ok(Answer::InForce { sequence: None, .. })), "{answer:?}");
        self.world.kept.tails.clear();
        self.twin.factory_reset();
    }

    fn carry_out(&mut self, operation: &Operation) {
        match *operation {
            Operation::Observe { sample, label } => {
                let input = &self.bench.samples[sample].0;
                let label = label % self.twin.classes();
                let request = Request::Observe { label: label as u16, input: bytemuck::cast_slice(input) };
                self.both(request, |twin| twin.observe(input, label));
            }
            Operation::Start { method, epochs, held_out, seed } => {
                let recipe = Recipe { method, epochs, held_out, seed, ..self.bench.recipe };
                self.bring_back();
                self.both(Request::Start(recipe), |twin| twin.start(recipe));
            }
            Operation::Poll { slices } => (0..slices).for_each(|_| _ = self.poll()),
            Operation::Finish => while !self.poll() {},
            Operation::Requantize => _ = self.both(Request::Requantize, |twin| twin.requantize()),
            Operation::Accept => {
                let had = self.twin.is_tuned();
                if let Some((answer, own)) = self.both(Request::Accept, |twin| twin.accept()) {
                    assert!(!had || !own.restore, "a tail in force is not lost");
                    // A device restores before anybody asks.
                    let own = Acceptance { restore: false, ..own };
                    assert!(matches!(answer, Answer::Accepted { acceptance, .. } if acceptance == own));
                    self.bring_back();
                }
            }
            Operation::Measure => {
                let answer = self.both(Request::Measure { rho: 0.05 }, |twin| twin.evaluate(0.05));
                if let Some((answer, own)) = answer {
                    let Answer::Metrics(found) = answer else { panic!("{answer:?}") };
                    assert_eq!((found.loss, found.accuracy), (own.loss, own.accuracy));
                }
            }
            Operation::Commit => self.commit(),
            Operation::RollBack => self.roll_back(),
            Operation::FactoryReset => self.factory_reset(),
            Operation::Forget => {
                self.ask(Request::Forget).unwrap();
                self.twin.forget();
                self.twin.factory_reset();
            }
            Operation::PullTail => {
                let bytes = self.pull(|offset| Request::PullTail { offset });
                assert!(bytes == self.tail(), "another tail than the twin's");
                self.world.tail = bytes;
            }
            Operation::PushTail { whole } => self.push_tail(whole),
            Operation::SaveRun => self.world.run = self.pull(|offset| Request::PullRun { offset }),
            Operation::ResumeRun { whole } => self.resume_run(whole),
            Operation::CutPower { operations, partial } => {
                self.world.flash.borrow_mut().cut_at(operations, partial);
            }
            Operation::Restart => {}
        }
    }
}

fn adopt<'p, A: Arithmetic<'p>>(twin: &mut Tuner<'p, A>, kept: &Kept) {
    twin.factory_reset();
    if let Some(Committed { bytes, .. }) = kept.tails.last() {
        let first = twin.pack().sizes().tail_layers * LAYER_BYTES;
        twin.write_tail(first, &bytes[first..]).unwrap();
        twin.adopt_tail(&bytes[..first], crc32(bytes)).unwrap();
        twin.release();
    }
}

/// From one moment without power to the next, with a device and a twin that have just been made; what is left of the history.
pub fn live<'a, 'h, 'p, A: Arithmetic<'p>>(
    bench: &'a Bench<'p>,
    world: &'a mut World<'_>,
    history: &'h [Operation],
    (device, twin): (&'a mut Tuner<'p, A>, &'a mut Tuner<'p, A>),
    counts: &'a mut Counts,
) -> &'h [Operation] {
    let flash = world.flash;
    let mut board = Hardware::new("double", Still).with_store(world.store, Shared(flash));
    let mut memory = link_memory(&bench.pack);
    let session = line(device, &mut board, &mut memory, bench.per_million);
    let mut life = Life { session, twin, bench, world, counts };
    let sequence = life.identity().sequence;
    life.world.kept.boot(sequence);
    life.adopt();
    life.compare();
    let mut rest = history;
    while let Some((operation, further)) = rest.split_first() {
        rest = further;
        life.counts.operations += 1;
        life.carry_out(operation);
        if life.world.power_is_off() {
            life.counts.cuts += 1;
            break;
        }
        if matches!(operation, Operation::Restart) {
            break;
        }
        life.compare();
    }
    life.counts.repeats += life.session.repeats();
    flash.borrow_mut().power_on();
    rest
}
