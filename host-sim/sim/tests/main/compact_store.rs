//! A compact tail through the store and over the link: the same bits after a reboot and under power cuts, a tail of the
//! other tuner taken by its int8 part, drift and confusion as the samples have them one by one.

use crate::bundled;

use crate::bundled::{answers, confusion, flash_of, observe, packed, samples};
use flatmin::flash::Partial;
use flatmin::store::LAYER_BYTES;
use flatmin::store::{Contents, Description, SlotState, StoreError};
use flatmin::{Arithmetic, CompactTuner, Method, Pack, Recipe, Tuner, TunerError, Version, Watch};
use flatmin_sim::delta;
use flatmin_sim::tuning::Tail;

const RECIPE: Recipe =
    Recipe { method: Method::Asam, rho: 0.5, epochs: 2, replay_capacity: 32, ..Recipe::DEFAULT };

fn arena(pack: &Pack) -> Vec<u128> {
    bundled::arena(Tail::Compact, pack, &RECIPE)
}

fn tuner<'a>(pack: &Pack<'a>, arena: &'a mut [u128]) -> CompactTuner<'a> {
    CompactTuner::in_arena(*pack, RECIPE, bytemuck::cast_slice_mut(arena)).unwrap()
}

fn run<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, seed: u64) {
    bundled::run(tuner, Recipe { seed, ..RECIPE });
}

#[test]
fn after_a_reboot_the_bits_are_the_same_and_tuning_goes_on_with_the_same_bits() {
    for layers in [1, 2] {
        let file = packed(layers);
        let pack = file.pack();
        let data = samples(&pack, 20);
        let (store, mut flash) = flash_of(&pack, Contents::Int8AndCompact);
        let record_bytes = |contents| 40 + pack.sizes().payload_bytes(contents);
        println!(
            "{layers} layers: record of {} bytes; with f32 weights {}",
            record_bytes(Contents::Int8AndCompact),
            record_bytes(Contents::Int8AndF32)
        );
        let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
        let mut before = tuner(&pack, &mut first_arena);
        assert_eq!(before.commit(&store, &mut flash), Err(TunerError::NotTuned));
        observe(&mut before, &data);
        run(&mut before, 1);
        let record = before.commit(&store, &mut flash).unwrap();
        assert_eq!(record.contents, Contents::Int8AndCompact);
        assert_eq!(record.length as usize, before.tail_bytes());
        assert_eq!(record.weights_crc32, before.weights_crc32());

        let mut after = tuner(&pack, &mut second_arena);
        assert_ne!(after.weights_crc32(), before.weights_crc32());
        assert_eq!(after.restore(&store, &mut flash).unwrap().in_force(), Some(record));
        assert_eq!(after.weights_crc32(), before.weights_crc32());
        assert_eq!(answers(&mut after, &data), answers(&mut before, &data));

        observe(&mut after, &data);
        run(&mut before, 2);
        run(&mut after, 2);
        assert_ne!(before.weights_crc32(), record.weights_crc32);
        assert_eq!(after.weights_crc32(), before.weights_crc32());
        assert_eq!(answers(&mut after, &data), answers(&mut before, &data));

        after.commit(&store, &mut flash).unwrap();
        after.roll_back(&store, &mut flash).unwrap();
        assert_eq!(after.weights_crc32(), record.weights_crc32);
        assert_eq!(after.roll_back(&store, &mut flash).unwrap().in_force(), None);
        assert!(answers(&mut after, &data).is_empty());
        let nothing = Err(TunerError::Store(StoreError::NothingToRollBack));
        assert_eq!(after.roll_back(&store, &mut flash), nothing);
        before.commit(&store, &mut flash).unwrap();
        before.factory_reset_stored(&store, &mut flash).unwrap();
        assert_eq!(before.weights_crc32(), after.weights_crc32());
        assert!(flash.bytes().iter().all(|&byte| byte == 0xFF), "nothing of the wearer is left");
    }
}

/// A slot without room for the weights, and a firmware that was changed for one with the other tuner: what classifies is
/// kept, and the weights are those that the int8 tail stands for, whichever way it came.
#[test]
fn the_int8_tail_is_taken_of_a_small_slot_and_of_the_other_tuner() {
    let file = packed(2);
    let pack = file.pack();
    let data = samples(&pack, 20);
    let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
    let mut f32_words = vec![0u128; pack.sizes().train_bytes(&RECIPE).div_ceil(16)];
    let mut full = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut f32_words)).unwrap();
    let mut compact = tuner(&pack, &mut first_arena);
    let mut booted = tuner(&pack, &mut second_arena);
    observe(&mut full, &data);
    observe(&mut compact, &data);

    let (store, mut flash) = flash_of(&pack, Contents::Int8);
    run(&mut compact, 1);
    assert_eq!(compact.commit(&store, &mut flash).unwrap().contents, Contents::Int8);
    booted.restore(&store, &mut flash).unwrap();
    assert_eq!(answers(&mut booted, &data), answers(&mut compact, &data));
    // Rounded to int8, the weights are others, and close: a class more or less of 20.
    let (input, label) = &data[0];
    let latent = compact.latent(input).unwrap().to_vec();
    let (own, restored) =
        (compact.score_latent(&latent, *label).unwrap(), booted.score_latent(&latent, *label).unwrap());
    assert_ne!(booted.weights_crc32(), compact.weights_crc32());
    assert!((own.loss - restored.loss).abs() < 0.1 * own.loss.max(0.5), "{own:?} {restored:?}");

    // Of the f32 tuner: with its weights and without, the same.
    run(&mut full, 1);
    let mut crcs = Vec::new();
    for contents in [Contents::Int8, Contents::Int8AndF32] {
        let (store, mut flash) = flash_of(&pack, contents);
        assert_eq!(full.commit(&store, &mut flash).unwrap().contents, contents);
        let recovery = booted.restore(&store, &mut flash).unwrap();
        assert_eq!(recovery.in_force().unwrap().contents, contents);
        assert_eq!(answers(&mut booted, &data), answers(&mut full, &data));
        crcs.push(booted.weights_crc32());
    }
    assert_eq!(crcs[0], crcs[1]);
    // And the way back.
    let (store, mut flash) = flash_of(&pack, Contents::Int8AndCompact);
    compact.commit(&store, &mut flash).unwrap();
    full.restore(&store, &mut flash).unwrap();
    assert_eq!(answers(&mut full, &data), answers(&mut compact, &data));
    run(&mut full, 2);
}

/// Operations near the begin and the end of a commit, and every 97th between: each boots with the old tail or the new.
#[test]
fn a_cut_during_the_commit_leaves_the_old_tail_or_the_new() {
    let file = packed(1);
    let pack = file.pack();
    let data = samples(&pack, 8);
    let (store, blank) = flash_of(&pack, Contents::Int8AndCompact);
    let mut flash = blank.torn_words_unreadable();
    let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
    let mut tuning = tuner(&pack, &mut first_arena);
    let mut booted = tuner(&pack, &mut second_arena);
    observe(&mut tuning, &data);
    for seed in 1..4 {
        run(&mut tuning, seed);
        tuning.commit(&store, &mut flash).unwrap();
    }
    let old = (tuning.weights_crc32(), answers(&mut tuning, &data));
    run(&mut tuning, 4);
    let new = (tuning.weights_crc32(), answers(&mut tuning, &data));
    assert_ne!(old.0, new.0);
    let mut whole = flash.clone();
    tuning.commit(&store, &mut whole).unwrap();
    let operations = whole.operations() - flash.operations();
    let (mut olds, mut news) = (0, 0);
    for n in (0..operations).filter(|n| *n < 20 || *n + 20 > operations || n % 97 == 0) {
        for partial in [Partial::Clean, Partial::Prefix(128), Partial::Random(n)] {
            let mut flash = flash.clone();
            flash.cut_at(n, partial);
            assert!(tuning.commit(&store, &mut flash).is_err());
            flash.power_on();
            booted.restore(&store, &mut flash).unwrap();
            let found = (booted.weights_crc32(), answers(&mut booted, &data));
            assert!(found == old || found == new, "cut at {n} of {operations}, {partial:?}");
            *(if found == old { &mut olds } else { &mut news }) += 1;
            tuning.commit(&store, &mut flash).unwrap();
            booted.restore(&store, &mut flash).unwrap();
            assert_eq!(booted.weights_crc32(), new.0);
        }
    }
    println!("{olds} cuts left the old tail, {news} the new; a commit has {operations} operations");
    assert!(olds > 0);
}

/// Records that are sound, but hold numbers that no tail has: the one before is used.
#[test]
fn numbers_that_are_no_tail_are_refused() {
    let file = packed(1);
    let pack = file.pack();
    let sizes = pack.sizes();
    let (store, mut flash) = flash_of(&pack, Contents::Int8AndCompact);
    let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
    let mut tuned = tuner(&pack, &mut first_arena);
    let mut booted = tuner(&pack, &mut second_arena);
    observe(&mut tuned, &samples(&pack, 8));
    run(&mut tuned, 1);
    let good = tuned.commit(&store, &mut flash).unwrap();
    let mut payload = vec![0; good.length as usize];
    store.read(&mut flash, &good, &mut [&mut payload]).unwrap();
    let int8 = sizes.payload_bytes(Contents::Int8);
    let scales = payload.len() - 4 * sizes.tail_outputs;
    for (what, at, bytes) in [
        ("an output scale of NaN", 0, f32::NAN.to_le_bytes().to_vec()),
        ("a weight of -128 steps", int8, vec![0x80]),
        ("a weight's scale of NaN", scales, f32::NAN.to_le_bytes().to_vec()),
        ("an infinite scale", payload.len() - 4, f32::INFINITY.to_le_bytes().to_vec()),
    ] {
        let mut flash = flash.clone();
        let mut payload = payload.clone();
        payload[at..at + bytes.len()].copy_from_slice(&bytes);
        let contents = Contents::Int8AndCompact;
        let description = Description { pack_crc32: pack.crc32(), contents, weights_crc32: 0 };
        store.commit(&mut flash, &description, &[&payload]).unwrap();
        let recovery = booted.restore(&store, &mut flash).unwrap();
        assert_eq!(recovery.in_force(), Some(good), "{what}");
        assert!(matches!(recovery.slots()[1], SlotState::Damaged { sequence: 2 }), "{what}");
        assert_eq!(booted.weights_crc32(), tuned.weights_crc32());
    }
}

/// Part by part as over a link, whole and as a delta.
#[test]
fn a_tail_travels_in_parts_and_as_a_delta() {
    let file = packed(2);
    let pack = file.pack();
    let data = samples(&pack, 20);
    let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
    let mut own = tuner(&pack, &mut first_arena);
    let mut other = tuner(&pack, &mut second_arena);
    observe(&mut own, &data);
    assert_eq!(own.read_tail(0, &mut [0; 8]), Err(TunerError::NotTuned));
    run(&mut own, 1);
    let mut tail = vec![0; own.tail_bytes()];
    for offset in (0..tail.len()).step_by(63) {
        let end = tail.len().min(offset + 63);
        assert_eq!(own.read_tail(offset, &mut tail[offset..end]), Ok(end - offset));
    }
    let layers = pack.sizes().tail_layers * LAYER_BYTES;
    assert!(matches!(other.write_tail(layers - 1, &[0]), Err(TunerError::TailRange { .. })));
    assert!(matches!(other.write_tail(tail.len(), &[0]), Err(TunerError::TailRange { .. })));
    let push = |other: &mut CompactTuner, tail: &[u8]| {
        for (index, part) in tail[layers..].chunks(64).enumerate() {
            other.write_tail(layers + 64 * index, part).unwrap();
        }
    };
    push(&mut other, &tail);
    other.adopt_tail(&tail[..layers], flatmin::crc32(&tail)).unwrap();
    assert_eq!(other.weights_crc32(), own.weights_crc32());
    assert_eq!(answers(&mut other, &data), answers(&mut own, &data));
    // Damaged on the way: the tail of before, and the weights that it stands for.
    let (before, stands_for) = (answers(&mut other, &data), {
        let int8 = &tail[..pack.sizes().payload_bytes(Contents::Int8)];
        delta::weights_crc32(&file, int8, Tail::Compact).unwrap()
    });
    let mut damaged = tail.clone();
    *damaged.last_mut().unwrap() ^= 1;
    push(&mut other, &damaged);
    let refused = other.adopt_tail(&tail[..layers], flatmin::crc32(&tail));
    assert_eq!((refused, other.weights_crc32()), (Err(TunerError::TailDamaged), stands_for));
    assert_eq!(answers(&mut other, &data), before);

    let bytes = delta::encode(&file, &tail).unwrap();
    println!("delta of {} bytes, whole tail {}", bytes.len(), tail.len());
    assert!(bytes.len() < tail.len() / 3);
    let int8 = delta::decode_int8(&file, &bytes).unwrap();
    assert_eq!(int8, tail[..int8.len()]);
    push(&mut other, &int8);
    other.adopt_tail(&int8[..layers], flatmin::crc32(&int8)).unwrap();
    assert_eq!(answers(&mut other, &data), answers(&mut own, &data));
    assert_eq!(delta::weights_crc32(&file, &int8, Tail::Compact).unwrap(), other.weights_crc32());
}

#[test]
fn confusion_and_drift_are_those_of_the_samples_one_by_one() {
    for layers in [1, 2] {
        let file = packed(layers);
        let pack = file.pack();
        let data = samples(&pack, 24);
        let (mut memory, mut spare) = (arena(&pack), arena(&pack));
        let mut own = tuner(&pack, &mut memory);
        let mut truth = tuner(&pack, &mut spare);
        assert_eq!(own.drift(), None);
        own.watch(Some(Watch { samples: 1000, rho: 0.05, loss: 1e3, rise: 1e3 }));
        observe(&mut own, &data);
        observe(&mut truth, &data);
        let (drift, means) = (own.drift().unwrap(), truth.evaluate(0.05).unwrap());
        assert_eq!((drift.samples, drift.drifted), (24, false));
        assert!((drift.loss - means.loss).abs() < 1e-5 * means.loss.max(1.0), "{drift:?} {means:?}");
        assert!((drift.rise - means.rise).abs() < 1e-5 && means.rise > means.sharpness);
        assert_eq!(own.evaluate(0.05), Ok(means));

        let classes = pack.sizes().output_length;
        run(&mut own, 1);
        for version in [Version::Factory, Version::Tuned] {
            let expected = confusion(&mut own, &data, version);
            let mut found = vec![9; classes * classes];
            own.confusion(version, &mut found).unwrap();
            assert_eq!(found, expected);
        }
        let (expected, found) = (classes * classes, 1);
        assert_eq!(
            own.confusion(Version::Tuned, &mut [0]),
            Err(TunerError::ConfusionLength { expected, found })
        );
    }
}
