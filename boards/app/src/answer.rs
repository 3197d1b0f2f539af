//! What each request does.

use crate::fmt::{debug, info, warn};
use crate::guard::Guard;
use crate::{Board, run, targets};
use flatmin::store::StoreError;
use flatmin::wire::{self, Request, Response};
use flatmin::{Answer, Arithmetic, Progress, Recipe, StepReport, Tuner, TunerError, Version, as_int8};

/// Tuner and board, and what lasts from one request to the next.
#[derive(Debug)]
pub(crate) struct Application<'a, T, B> {
    tuner: &'a mut T,
    board: &'a mut B,
    /// Number of the record that came into force last.
    pub sequence: Option<u32>,
    /// What the button stands for.
    label: Option<u16>,
    guard: Guard,
}

const NO_STORE: Response = Response::Refused("this board has no store");

impl<'a, 'p, A: Arithmetic<'p>, B: Board> Application<'a, Tuner<'p, A>, B> {
    pub fn new(tuner: &'a mut Tuner<'p, A>, board: &'a mut B) -> Self {
        let guard = Guard::new(board);
        let mut application = Self { tuner, board, sequence: None, label: None, guard };
        application.restore();
        application
    }

    pub fn tuner(&self) -> &Tuner<'p, A> {
        self.tuner
    }

    pub fn feed(&mut self) {
        self.board.feed();
    }

    pub fn between<R>(
        &mut self,
        solving: &mut [u32],
        work: impl FnOnce(&mut Tuner<'p, A>, &mut B, &mut [u32], Option<u16>) -> R,
    ) -> R {
        work(self.tuner, self.board, solving, self.label)
    }

    /// Puts the newest whole record in force, else the factory tail.
    #[inline(never)] // Once in a firmware.
    fn restore(&mut self) {
        let Some((store, mut flash)) = self.board.store() else { return };
        self.sequence = match self.tuner.restore(&store, &mut flash) {
            Ok(recovery) => {
                for (slot, state) in (0u8..).zip(recovery.slots()) {
                    info!("slot {=u8}: {}", slot, state);
                }
                recovery.in_force().map(|record| record.sequence)
            }
            Err(error) => {
                warn!("the store cannot be used, factory tail in force: {}", error);
                self.tuner.factory_reset();
                None
            }
        };
    }

    /// Puts the newest whole record in force again where the tail in force has given its place to what came to nothing.
    fn bring_back(&mut self) {
        if self.tuner.awaits_restore() {
            self.restore();
        }
    }

    /// Makes of a request what the frame with this number asks for, where it may; else the answer.
    #[inline(always)] // nothing where nobody is kept out
    pub fn admit(&mut self, sequence: u32, request: &mut Request) -> Option<Response<'static>> {
        self.guard.admit(self.board, sequence, request)
    }

    /// Carries a request out; `latent` holds a latent, `part` a part of a tail, and heads are solved in `solving`.
    pub fn answer<'r>(
        &mut self,
        request: &Request,
        latent: &mut [u8],
        part: &'r mut [u8],
        solving: &mut [u32],
    ) -> Response<'r> {
        self.board.busy(true);
        if matches!(request, Request::Start(_) | Request::Solve(_) | Request::ExpectRun { .. }) {
            self.bring_back();
        }
        let outcome = self.carry_out(request, latent, part, solving);
        // A verdict that is refused leaves what is being written as it is.
        let has_ended = match request {
            Request::Accept => outcome.is_ok(),
            Request::AdoptTail { .. } | Request::AdoptRun { .. } => true,
            _ => false,
        };
        if has_ended {
            self.bring_back();
        }
        let response = match outcome {
            Ok(response) => response,
            Err(error) => refusal(error),
        };
        self.board.busy(false);
        response
    }

    fn carry_out<'r>(
        &mut self,
        request: &Request,
        latent: &mut [u8],
        part: &'r mut [u8],
        solving: &mut [u32],
    ) -> Result<Response<'r>, TunerError> {
        let start = self.board.ticks();
        // A recipe is not copied: a small board's stack has no room for that.
        Ok(match *request {
            Request::Identify => self.identity(),
            Request::Observe { label, input } => {
                self.tuner.observe(as_int8(input), label.into())?;
                self.done(start)
            }
            Request::ObserveTarget { target, anomalous, input } => {
                targets::observe(self.tuner, target, anomalous, input)?;
                self.done(start)
            }
            Request::JudgeTarget { target, input } => targets::judge(self.tuner, target, input)?,
            Request::Start(ref recipe) => self.start(recipe, start)?,
            Request::Solve(ref recipe) => self.solve(recipe, solving, start)?,
            Request::Requantize => {
                self.tuner.requantize_between(|| self.board.feed())?;
                self.done(start)
            }
            Request::Forget => {
                self.tuner.forget();
                self.tuner.factory_reset();
                self.sequence = None;
                self.done(start)
            }
            Request::Step => {
                let report = loop {
                    self.board.feed();
                    if let Progress::Stepped(report) = self.tuner.poll()? {
                        break report;
                    }
                };
                self.stepped(&report, start)
            }
            Request::Judge { label, input } => judge(self.tuner, label, as_int8(input), latent)?,
            Request::Summarize { rho } => Response::Summary {
                weights_crc32: self.tuner.weights_crc32(),
                macs: self.tuner.macs(),
                sharpness: self.tuner.evaluate_between(rho, || self.board.feed())?.sharpness,
                stack_bytes: self.board.stack_bytes(),
            },
            Request::Label(label) => {
                self.label = label;
                self.done(start)
            }
            Request::Classify { input } => self.classify(as_int8(input), start)?,
            Request::Measure { rho } => {
                let means = self.tuner.evaluate_between(rho, || self.board.feed())?;
                Response::Metrics {
                    samples: short(self.tuner.samples()),
                    epoch: self.tuner.epoch(),
                    loss: means.loss,
                    accuracy: means.accuracy,
                    sharpness: means.sharpness,
                }
            }
            Request::Commit => self.commit(start)?,
            Request::RollBack => self.roll_back(start)?,
            Request::FactoryReset => self.factory_reset(start)?,
            Request::Slot(slot) => self.slot(slot.into())?,
            Request::Trace { first, input } => trace(self.tuner, first.into(), as_int8(input), part)?,
            Request::PullTail { offset } => {
                let count = self.tuner.read_tail(size(offset), part)?;
                let length = self.tuner.tail_bytes() as u32;
                Response::Tail { length, bytes: part.get(..count).unwrap_or(&[]) }
            }
            Request::PushTail { offset, bytes } => {
                self.tuner.write_tail(size(offset), bytes)?;
                self.sequence = None;
                self.done(start)
            }
            Request::AdoptTail { layers, crc32 } => {
                self.sequence = None;
                self.tuner.adopt_tail(layers, crc32)?;
                self.in_force(start)
            }
            Request::Poll => self.poll(start)?,
            Request::AddClass => {
                let label = short(self.tuner.add_class()?);
                Response::ClassAdded { label, ticks: self.ticks_since(start) }
            }
            Request::Auc { version } => {
                let auc = self.tuner.auc_between(version, || self.board.feed())?;
                Response::Auc { auc, ticks: self.ticks_since(start) }
            }
            Request::Accept => {
                let acceptance = self.tuner.accept_between(|| self.board.feed())?;
                Response::Accepted { acceptance, ticks: self.ticks_since(start) }
            }
            Request::ExpectRun { head } => {
                self.tuner.expect_run_between(head, || self.board.feed())?;
                self.done(start)
            }
            _ => match run::carry_out(self.tuner, request, part)? {
                Some(response) => response,
                None => self.done(start),
            },
        })
    }

    #[inline(never)] // Keeps the recipe's copies off the stack of all other requests.
    fn start(&mut self, recipe: &Recipe, start: u32) -> Result<Response<'static>, TunerError> {
        self.tuner.start_between(*recipe, || self.board.feed())?;
        Ok(self.done(start))
    }

    #[inline(never)] // As `start`.
    fn solve(
        &mut self,
        recipe: &Recipe,
        solving: &mut [u32],
        start: u32,
    ) -> Result<Response<'static>, TunerError> {
        self.tuner.solve(*recipe, solving, &mut || self.board.feed())?;
        Ok(self.done(start))
    }

    fn identity(&mut self) -> Response<'static> {
        let slots = self.board.store().map_or(0, |(store, _)| store.slots());
        let sizes = self.tuner.pack().sizes();
        Response::Identity {
            version: wire::VERSION,
            pack_crc32: self.tuner.pack().crc32(),
            arena_bytes: self.tuner.arena_bytes() as u32,
            input_length: sizes.input_length as u32,
            capacity: short(self.tuner.capacity()),
            samples: short(self.tuner.samples()),
            weights_crc32: self.tuner.weights_crc32(),
            tuned: self.tuner.is_tuned(),
            sequence: self.sequence,
            slots: u8::try_from(slots).unwrap_or(u8::MAX),
            hertz: self.board.hertz(),
            board: self.board.name(),
            contents: self.tuner.contents(),
            access: self.guard.access(),
        }
    }

    fn ticks_since(&mut self, start: u32) -> u32 {
        self.board.ticks().wrapping_sub(start)
    }

    fn done(&mut self, start: u32) -> Response<'static> {
        Response::Done { ticks: self.ticks_since(start) }
    }

    fn in_force(&mut self, start: u32) -> Response<'static> {
        let ticks = self.ticks_since(start);
        Response::InForce { sequence: self.sequence, weights_crc32: self.tuner.weights_crc32(), ticks }
    }

    fn poll(&mut self, start: u32) -> Result<Response<'static>, TunerError> {
        Ok(match self.tuner.poll()? {
            Progress::Underway(position) => Response::Underway { position, ticks: self.ticks_since(start) },
            Progress::Stepped(report) => self.stepped(&report, start),
        })
    }

    fn stepped(&mut self, report: &StepReport, start: u32) -> Response<'static> {
        let ticks = self.ticks_since(start);
        let (epoch, loss) = (report.epoch, report.loss);
        let (epoch_finished, finished) = (report.epoch_finished, report.finished);
        if epoch_finished {
            debug!("epoch {}: loss {=f32} in its last minibatch", epoch, loss);
        }
        if finished {
            info!("tuned: weights {=u32:#010x}", self.tuner.weights_crc32());
        }
        Response::Stepped { epoch, loss, epoch_finished, finished, ticks }
    }

    fn classify(&mut self, input: &[i8], start: u32) -> Result<Response<'static>, TunerError> {
        let Answer { label, score, version, .. } = self.tuner.classify(input)?;
        // The very number that it was dequantized from.
        let output = self.tuner.output_affine(version).quantize(score);
        let kept = match self.label {
            Some(label) if self.board.pressed() => {
                self.tuner.observe(input, label.into())?;
                true
            }
            _ => false,
        };
        let (class, tuned) = (short(label), version == Version::Tuned);
        Ok(Response::Classified { class, output, tuned, kept, ticks: self.ticks_since(start) })
    }

    fn commit(&mut self, start: u32) -> Result<Response<'static>, TunerError> {
        let Some((store, mut flash)) = self.board.store() else { return Ok(NO_STORE) };
        let record = self.tuner.commit(&store, &mut flash)?;
        drop(flash);
        self.sequence = Some(record.sequence);
        Ok(self.in_force(start))
    }

    fn roll_back(&mut self, start: u32) -> Result<Response<'static>, TunerError> {
        let Some((store, mut flash)) = self.board.store() else { return Ok(NO_STORE) };
        let outcome = self.tuner.roll_back(&store, &mut flash);
        drop(flash);
        let recovery = outcome.map_err(|error| self.after(error))?;
        self.sequence = recovery.in_force().map(|record| record.sequence);
        Ok(self.in_force(start))
    }

    fn factory_reset(&mut self, start: u32) -> Result<Response<'static>, TunerError> {
        let outcome = match self.board.store() {
            Some((store, mut flash)) => self.tuner.factory_reset_stored(&store, &mut flash),
            None => {
                self.tuner.factory_reset();
                Ok(())
            }
        };
        outcome.map_err(|error| self.after(error))?;
        self.sequence = None;
        Ok(self.in_force(start))
    }

    fn slot(&mut self, slot: usize) -> Result<Response<'static>, TunerError> {
        let Some((store, mut flash)) = self.board.store() else { return Ok(NO_STORE) };
        let found = store.recover(&mut flash, self.tuner.pack().crc32())?;
        Ok(found
            .slots()
            .get(slot)
            .map_or(Response::Refused("the store has no such slot"), |state| Response::Slot(*state)))
    }

    /// After a failure in the middle of a change the store decides what is in force.
    fn after(&mut self, error: TunerError) -> TunerError {
        if error != TunerError::Store(StoreError::NothingToRollBack) {
            self.restore();
        }
        error
    }
}

fn size(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn short(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn refusal(error: TunerError) -> Response<'static> {
    use TunerError as E;
    warn!("refused: {}", error);
    Response::Refused(match error {
        E::InputLength { .. } => "input of the wrong length",
        E::LatentLength { .. } => "latent of the wrong length",
        E::LeftOut { .. } => "the recipe asks for what a compact tail leaves out",
        E::FlushesToZero => "the processor flushes subnormal numbers to zero: clear FPSCR.FZ",
        E::Diverged => "the run has diverged: reset, and tune with a smaller learning rate",
        E::Label { .. } => "label out of range",
        E::WantsTarget => "this tail's loss takes targets, not labels",
        E::WantsLabel => "this tail's loss takes labels, not targets",
        E::TargetLength { .. } => "target of the wrong length",
        E::NoSpareClass { .. } => "no spare class is left: pack with more",
        E::NoSamplesOfClass { .. } => "no sample of the class to add: observe some first",
        E::ClassFeatures { .. } => "the samples of the class to add are like all others",
        E::OneKind => "no anomalies to tell from normal samples, or not with this tail's loss",
        E::Running => "a tuning run is under way",
        E::NoSamples => "no samples to tune on",
        E::NotRunning => "no tuning run under way",
        E::NotTuned => "no tuned tail yet",
        E::OnlyCopy => "commit the tuned tail first, or reset",
        E::RestoreExpected => "reset first",
        E::NoSolver => "this firmware solves no heads: build it around a pack with --calibration",
        E::NoHead => "the head cannot be solved: the tail does not end in a dense layer of classes",
        E::SolveRoom { .. } => "too little memory to solve the head in, or too many samples",
        E::Step(_) => "loss or gradient not finite",
        E::Recipe(_) => "recipe out of range",
        E::Store(StoreError::NothingToRollBack) => "nothing was committed that could be rolled back",
        E::Store(StoreError::SlotTooSmall { .. }) => "the store's slots are too small for this tail",
        E::Store(StoreError::WornOut { .. }) => "the store's flash is worn out",
        E::Store(_) => "the store's flash failed",
        E::ArenaTooSmall { .. } => "arena too small for this recipe",
        E::TailRange { .. } => "bytes outside of the tail",
        E::RunExpected => "a saved run is expected",
        E::TailExpected => "a tail is being written: write and adopt it, or start a run",
        E::RunLength { .. } => "the run has another length than its recipe and samples make",
        E::RunDamaged => "not a whole saved run",
        E::RunOfAnother { .. } => {
            "the run was saved with another pack, other samples, another tuner or version"
        }
        E::TailDamaged => "not the tail that was announced; the tail of before is in force",
        _ => "refused",
    })
}

/// All that is asked of a test sample, from one run of the trunk; `keep` holds a latent.
fn judge<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    label: u16,
    input: &[i8],
    keep: &mut [u8],
) -> Result<Response<'static>, TunerError> {
    let latent = tuner.latent(input)?;
    let keep = keep.get_mut(..latent.len()).unwrap_or(&mut []);
    for (keep, &value) in keep.iter_mut().zip(latent) {
        *keep = value.cast_unsigned();
    }
    let latent = as_int8(keep);
    let factory = short(tuner.classify_latent(latent, Version::Factory)?.label);
    let tuned_int8 = match tuner.classify_latent(latent, Version::Tuned) {
        Ok(answer) => Some(short(answer.label)),
        Err(TunerError::NotTuned) => None,
        Err(error) => return Err(error),
    };
    let score = tuner.score_latent(latent, label.into())?;
    Ok(Response::Judged { factory, tuned_f32: short(score.class), tuned_int8, loss: score.loss })
}

/// The checksums of the operators from `first` on, as many as `part` holds.
fn trace<'r, 'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    first: usize,
    input: &[i8],
    part: &'r mut [u8],
) -> Result<Response<'r>, TunerError> {
    let (mut operators, mut bytes) = (0, 0);
    let mut places = part.as_chunks_mut::<4>().0.iter_mut();
    tuner.trace(input, |index, crc32| {
        operators = index.saturating_add(1);
        if index >= first
            && let Some(place) = places.next()
        {
            *place = crc32.to_le_bytes();
            bytes += place.len();
        }
    })?;
    Ok(Response::Checksums { operators: short(operators), crc32s: part.get(..bytes).unwrap_or(&[]) })
}
