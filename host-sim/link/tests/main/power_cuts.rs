//! QEMU killed in the middle of commits, roll backs and factory resets on riscv32 `virt`, whose pflash is a file: what the
//! next boot finds is the tail before or the tail after, whole, and the next commit works.
//!
//! Part of the slow tests. `FLATMIN_KILLS` says how often (default 10).

use crate::skipping;

use flatmin::Recipe;
use flatmin::store::SlotState;
use flatmin::wire::Request;
use flatmin_link::device::Device;
use flatmin_link::emulate::{Answer, Firmware, LogSink, Options};
use flatmin_sim::subject::Subject;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// What a tail makes of the samples that are asked: classes and losses.
type Judgement = Vec<(u16, Option<u16>, u32)>;

struct Bench<'a> {
    subject: &'a Subject,
    recipe: Recipe,
    /// What each tail that was ever made answers, by its weights' CRC.
    known: HashMap<u32, Judgement>,
    /// Tails made so far.
    made: u16,
}

impl Bench<'_> {
    fn judge(&self, device: &mut Device) -> Judgement {
        let samples = self.subject.test.iter().step_by(60);
        let judged = samples.map(|(input, label)| {
            let request = Request::Judge { label: *label as u16, input: bytemuck::cast_slice(input) };
            match device.ask(&request).unwrap() {
                Answer::Judged { tuned_f32, tuned_int8, loss, .. } => (tuned_f32, tuned_int8, loss.to_bits()),
                other => panic!("{other:?}"),
            }
        });
        judged.collect()
    }

    /// Tunes a tail that there was not before; its CRC.
    fn make(&mut self, device: &mut Device) -> u32 {
        self.made += 1;
        device.ask(&Request::Forget).unwrap();
        for (input, label) in self.subject.adaptation.iter().step_by(9) {
            let request = Request::Observe { label: *label as u16, input: bytemuck::cast_slice(input) };
            device.ask(&request).unwrap();
        }
        let learning_rate = 1e-3 * f32::from(self.made);
        device.ask(&Request::Start(Recipe { learning_rate, ..self.recipe })).unwrap();
        while !matches!(device.ask(&Request::Step).unwrap(), Answer::Stepped { finished: true, .. }) {}
        device.ask(&Request::Requantize).unwrap();
        let crc32 = device.identify().unwrap().weights_crc32;
        let judged = self.judge(device);
        assert!(self.known.insert(crc32, judged).is_none(), "a tail of its own");
        crc32
    }

    fn commit(&mut self, device: &mut Device) -> u32 {
        let crc32 = self.make(device);
        match device.ask(&Request::Commit).unwrap() {
            Answer::InForce { weights_crc32, sequence: Some(_), .. } => assert_eq!(weights_crc32, crc32),
            other => panic!("{other:?}"),
        }
        crc32
    }
}

/// The CRCs of the whole records, newest first.
fn whole(device: &mut Device) -> Vec<u32> {
    let slots = (0..2).map(|slot| device.ask(&Request::Slot(slot)).unwrap());
    let mut records: Vec<_> = slots
        .filter_map(|slot| match slot {
            Answer::Slot(SlotState::Whole(record)) => Some(record),
            Answer::Slot(_) => None,
            other => panic!("{other:?}"),
        })
        .collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.sequence));
    records.iter().map(|record| record.weights_crc32).collect()
}

#[test]
fn a_killed_emulator_boots_with_the_old_tail_or_the_new() {
    if !skipping::emulating("qemu-system-riscv32") {
        return;
    }
    let kills = std::env::var("FLATMIN_KILLS").map_or(10, |text| text.parse().unwrap());
    let subject = Subject::wearer(1, 9, 0.0, 1).unwrap();
    let recipe = Recipe { epochs: 1, replay_capacity: 16, ..Recipe::DEFAULT };
    let firmware = Firmware::build("riscv32-virt", &subject.model, 2, &recipe, LogSink::new(|_| {})).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let flash = folder.path().join("pflash.bin");
    let boot = |flash: &Path| {
        let options = Options { flash: Some(flash), count_instructions: false };
        Device::emulated(firmware.image(), options, LogSink::new(|_| {})).unwrap()
    };
    let mut bench = Bench { subject: &subject, recipe, known: HashMap::new(), made: 0 };
    let mut random = Pcg32::seed_from_u64(18);

    // How long each takes if nothing comes between; then the store is erased again.
    let mut device = boot(&flash);
    let factory = device.identify().unwrap().weights_crc32;
    bench.commit(&mut device);
    let mut takes = [Request::Commit, Request::RollBack, Request::FactoryReset].map(|request| {
        let start = Instant::now();
        device.ask(&request).unwrap();
        start.elapsed()
    });
    println!("commit, roll back and factory reset take {takes:?}");
    drop(device);
    let mut allowed = vec![factory];
    // Of each operation: cuts, those that came before its end, those that left the tail before.
    let mut counts = [("commit", 0, 0, 0), ("roll back", 0, 0, 0), ("factory reset", 0, 0, 0)];
    let mut last = None;
    for kill in 0..=kills {
        let mut device = boot(&flash);
        let identity = device.identify().unwrap();
        let found = identity.weights_crc32;
        assert!(allowed.contains(&found), "kill {kill}: {found:#010x} in force, {allowed:x?} are allowed");
        assert_eq!(identity.sequence.is_none(), found == factory);
        if found != factory {
            // Whole: the int8 tail's classes and the f32 tail's losses, to the bit.
            assert_eq!(Some(&bench.judge(&mut device)), bench.known.get(&found), "kill {kill}");
        }
        if let Some(operation) = last {
            let count: &mut (&str, u32, u32, u32) = &mut counts[operation];
            count.3 += u32::from(found == allowed[0]);
        }
        if kill == kills {
            break;
        }

        let committed = bench.commit(&mut device);
        let records = whole(&mut device);
        assert_eq!(records[0], committed);
        let operation = [0, 0, 1, 2][random.next_u32() as usize % 4];
        let (request, after) = match operation {
            0 => (Request::Commit, bench.make(&mut device)),
            1 => (Request::RollBack, records.get(1).copied().unwrap_or(factory)),
            _ => (Request::FactoryReset, factory),
        };
        allowed = vec![committed, after];
        let machine = device.take_machine();
        let moment = takes[operation].mul_f64(f64::from(random.next_u32()) / f64::from(u32::MAX));
        let cut = std::thread::spawn(move || {
            std::thread::sleep(moment);
            drop(machine);
        });
        let start = Instant::now();
        let answered = device.ask(&request).is_ok();
        if answered {
            takes[operation] = takes[operation].min(start.elapsed());
        }
        cut.join().unwrap();
        counts[operation].1 += 1;
        counts[operation].2 += u32::from(!answered);
        last = Some(operation);
    }
    for (operation, cuts, inside, old) in counts {
        println!("{operation}: {cuts} kills, {inside} before the answer, {old} left the tail before");
    }
    let inside: u32 = counts.iter().map(|count| count.2).sum();
    assert!(inside >= kills / 2, "only {inside} of {kills} kills came in the middle of an operation");
}
