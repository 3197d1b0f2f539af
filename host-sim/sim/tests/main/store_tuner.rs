//! The bundled model's tuned tail through the store: the same bits after a reboot, and under power cuts.

use crate::bundled;

use crate::bundled::{Nor, answers, flash_of, observe, samples};
use flatmin::flash::{Partial, poll};
use flatmin::store::{Contents, Description, SlotState, Store, StoreError};
use flatmin::{Method, Pack, Recipe, Tuner, TunerError, Version};
use flatmin_model::model::Model;
use flatmin_sim::tuning::Tail;
use flatmin_sim::wearers::model_bytes;

const RECIPE: Recipe = Recipe { method: Method::Asam, epochs: 2, replay_capacity: 32, ..Recipe::DEFAULT };

fn packed(wearer: usize) -> Vec<u128> {
    let model = Model::bundled(format!("wearer {wearer}"), model_bytes(wearer).unwrap()).unwrap();
    let file = model.pack(2).unwrap();
    let mut words = vec![0u128; file.bytes().len().div_ceil(16)];
    bytemuck::cast_slice_mut(&mut words)[..file.bytes().len()].copy_from_slice(file.bytes());
    words
}

fn arena(pack: &Pack) -> Vec<u128> {
    bundled::arena(Tail::Full, pack, &RECIPE)
}

fn tuner<'a>(pack: &Pack<'a>, arena: &'a mut [u128]) -> Tuner<'a> {
    Tuner::new(*pack, RECIPE, bytemuck::cast_slice_mut(arena)).unwrap()
}

fn run(tuner: &mut Tuner, seed: u64) {
    bundled::run(tuner, Recipe { seed, ..RECIPE });
}

#[test]
fn after_a_reboot_the_bits_are_the_same_and_tuning_goes_on_with_the_same_bits() {
    let packed = packed(1);
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let data = samples(&pack, 20);
    let (store, mut flash) = flash_of(&pack, Contents::Int8AndF32);
    let record_bytes = 40 + pack.sizes().payload_bytes(Contents::Int8AndF32);
    println!("record of {record_bytes} bytes, slot of {} bytes in pages of 4096", store.slot_bytes());
    println!(
        "int8 alone: record of {} bytes, slot of {} bytes",
        40 + pack.sizes().payload_bytes(Contents::Int8),
        pack.sizes().slot_bytes::<Nor>(Contents::Int8)
    );

    let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
    let mut before = tuner(&pack, &mut first_arena);
    assert_eq!(before.commit(&store, &mut flash), Err(TunerError::NotTuned));
    assert_eq!(flash.operations(), 0);
    observe(&mut before, &data);
    run(&mut before, 1);
    let record = before.commit(&store, &mut flash).unwrap();
    assert_eq!(record.contents, Contents::Int8AndF32);
    assert_eq!(record.weights_crc32, before.weights_crc32());
    println!("commit: {} words and pages", flash.operations());

    let mut after = tuner(&pack, &mut second_arena);
    assert_ne!(after.weights_crc32(), before.weights_crc32());
    let recovery = after.restore(&store, &mut flash).unwrap();
    assert_eq!(recovery.in_force(), Some(record));
    assert_eq!(after.weights_crc32(), before.weights_crc32());
    assert_eq!(answers(&mut after, &data), answers(&mut before, &data));

    observe(&mut after, &data);
    run(&mut before, 2);
    run(&mut after, 2);
    assert_ne!(before.weights_crc32(), record.weights_crc32);
    assert_eq!(after.weights_crc32(), before.weights_crc32());
    assert_eq!(answers(&mut after, &data), answers(&mut before, &data));

    // The second tuning is taken back, then the first, then there is nothing left.
    let tuned_once = record.weights_crc32;
    after.commit(&store, &mut flash).unwrap();
    after.roll_back(&store, &mut flash).unwrap();
    assert_eq!(after.weights_crc32(), tuned_once);
    assert_eq!(after.roll_back(&store, &mut flash).unwrap().in_force(), None);
    assert_eq!(after.infer(&data[0].0, Version::Tuned).err(), Some(TunerError::NotTuned));
    let nothing = Err(TunerError::Store(StoreError::NothingToRollBack));
    assert_eq!(after.roll_back(&store, &mut flash), nothing);

    before.commit(&store, &mut flash).unwrap();
    before.factory_reset_stored(&store, &mut flash).unwrap();
    after.restore(&store, &mut flash).unwrap();
    assert_eq!(before.weights_crc32(), after.weights_crc32());
    assert!(flash.bytes().iter().all(|&byte| byte == 0xFF), "nothing of the wearer is left");
}

/// A driver that is awaited: the same record, and after it the same bits. A restore that is given up leaves the factory
/// tail, wherever it was.
#[test]
fn an_awaited_driver_keeps_and_restores_the_same_tail() {
    let packed = packed(1);
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let data = samples(&pack, 8);
    let (store, mut blocking) = flash_of(&pack, Contents::Int8AndF32);
    assert_eq!(pack.sizes().slot_bytes_async::<Nor>(Contents::Int8AndF32), store.slot_bytes());
    let mut awaited = blocking.clone();
    let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
    let mut before = tuner(&pack, &mut first_arena);
    let mut after = tuner(&pack, &mut second_arena);
    let factory = after.weights().to_vec();
    observe(&mut before, &data);
    run(&mut before, 1);
    let record = before.commit(&store, &mut blocking).unwrap();
    assert_eq!(poll(before.commit_async(&store, &mut awaited), usize::MAX), Some(Ok(record)));
    assert_eq!(awaited.bytes(), blocking.bytes());
    let found = poll(after.restore_async(&store, &mut awaited), usize::MAX).unwrap().unwrap();
    assert_eq!(found.in_force(), Some(record));
    assert_eq!(after.weights(), before.weights());
    assert_eq!(answers(&mut after, &data), answers(&mut before, &data));
    let mut given_up = 0;
    for polls in 0.. {
        after.factory_reset();
        if poll(after.restore_async(&store, &mut awaited), polls).is_some() {
            break;
        }
        assert_eq!(after.weights(), factory, "{polls}");
        assert_eq!(after.infer(&data[0].0, Version::Tuned).err(), Some(TunerError::NotTuned));
        given_up += 1;
    }
    // Every chunk of 128 bytes is read twice: at recovery, and into the tuner.
    assert!(given_up > 2 * record.length as usize / 128, "{given_up}");
    let back = poll(after.roll_back_async(&store, &mut awaited), usize::MAX).unwrap().unwrap();
    assert_eq!((back.in_force(), after.weights()), (None, &*factory));
    poll(before.factory_reset_stored_async(&store, &mut awaited), usize::MAX).unwrap().unwrap();
    assert_eq!(before.weights(), factory);
    assert!(awaited.bytes().iter().all(|&byte| byte == 0xFF));
}

/// Where a slot has no room for the f32 weights, the int8 tail is kept, and tuning goes on from what it stands for:
/// every weight within half a step of its row's scale.
#[test]
fn a_small_slot_keeps_the_int8_tail() {
    let packed = packed(1);
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let data = samples(&pack, 20);
    let (store, mut flash) = flash_of(&pack, Contents::Int8);
    let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
    let mut before = tuner(&pack, &mut first_arena);
    observe(&mut before, &data);
    run(&mut before, 1);
    assert_eq!(before.commit(&store, &mut flash).unwrap().contents, Contents::Int8);
    let mut after = tuner(&pack, &mut second_arena);
    after.restore(&store, &mut flash).unwrap();
    assert_eq!(answers(&mut after, &data), answers(&mut before, &data));
    let shapes = flatmin::internals::tail::DenseChain::of(&pack).unwrap();
    let (mut old, mut new) = (before.weights(), after.weights());
    for shape in shapes.layers() {
        let (w, rest) = old.split_at(shape.inputs * shape.outputs);
        let (restored, restored_rest) = new.split_at(w.len());
        // One scale for all rows is no finer than the largest row's.
        let largest = w.iter().fold(0f32, |m, w| m.max(w.abs()));
        for (&w, &restored) in w.iter().zip(restored) {
            assert!((w - restored).abs() <= 0.5001 * largest / 127.0, "{w} {restored}");
        }
        let (b, rest) = rest.split_at(shape.outputs);
        let (restored, restored_rest) = restored_rest.split_at(shape.outputs);
        for (&b, &restored) in b.iter().zip(restored) {
            assert!((b - restored).abs() <= 1e-3 * b.abs().max(0.1), "{b} {restored}");
        }
        (old, new) = (rest, restored_rest);
    }
    observe(&mut after, &data);
    run(&mut after, 2);
    let sizes = Store::new(0, 4096, 2);
    let needed = 40 + pack.sizes().payload_bytes(Contents::Int8) as u64;
    let too_small = StoreError::SlotTooSmall { needed: needed.next_multiple_of(4), found: 4096 };
    assert_eq!(after.commit(&sizes, &mut flash), Err(too_small.into()));
}

#[test]
fn the_tail_of_another_pack_is_refused() {
    let (packed_one, packed_two) = (packed(1), packed(2));
    let one = Pack::new(bytemuck::cast_slice(&packed_one)).unwrap();
    let two = Pack::new(bytemuck::cast_slice(&packed_two)).unwrap();
    let data = samples(&one, 20);
    let (store, mut flash) = flash_of(&one, Contents::Int8AndF32);
    let (mut first_arena, mut second_arena) = (arena(&one), arena(&two));
    let mut tuned = tuner(&one, &mut first_arena);
    observe(&mut tuned, &data);
    run(&mut tuned, 1);
    tuned.commit(&store, &mut flash).unwrap();
    let mut other = tuner(&two, &mut second_arena);
    let factory = other.weights_crc32();
    let recovery = other.restore(&store, &mut flash).unwrap();
    assert_eq!(recovery.in_force(), None);
    let reason = SlotState::OtherPack { found: one.crc32(), expected: two.crc32() };
    assert_eq!(recovery.slots(), [reason, SlotState::Blank]);
    assert_eq!(other.weights_crc32(), factory);
    assert!(answers(&mut other, &data).is_empty());
}

/// A record that is sound, but holds numbers that no tail has: the one before it is used.
#[test]
fn numbers_that_are_no_tail_are_refused() {
    let packed = packed(1);
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let sizes = pack.sizes();
    let (store, mut flash) = flash_of(&pack, Contents::Int8);
    let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
    let mut tuned = tuner(&pack, &mut first_arena);
    let mut booted = tuner(&pack, &mut second_arena);
    observe(&mut tuned, &samples(&pack, 8));
    run(&mut tuned, 1);
    let good = tuned.commit(&store, &mut flash).unwrap();
    let mut payload = vec![0; good.length as usize];
    store.read(&mut flash, &good, &mut [&mut payload]).unwrap();
    let outputs = shape_outputs(&pack);
    let words = sizes.tail_layers * 8;
    for (what, at, value) in [
        ("an output scale of NaN", 0, f32::NAN.to_bits()),
        ("a zero point beyond int8", 4, 200),
        ("the second layer's output scale of 0", 8, 0),
        ("a negative mantissa", words + outputs[0] * 4, u32::MAX),
        ("a shift of 31", words + outputs[0] * 8, 31),
        ("a negative scale", words + outputs[0] * 12, (-1f32).to_bits()),
        ("a shift of -32 in the last layer", words + outputs[0] * 16 + outputs[1] * 8, (-32i32) as u32),
    ] {
        let mut flash = flash.clone();
        let mut payload = payload.clone();
        payload[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let description =
            Description { pack_crc32: pack.crc32(), contents: Contents::Int8, weights_crc32: 0 };
        store.commit(&mut flash, &description, &[&payload]).unwrap();
        let recovery = booted.restore(&store, &mut flash).unwrap();
        assert_eq!(recovery.in_force(), Some(good), "{what}");
        assert!(matches!(recovery.slots()[1], SlotState::Damaged { sequence: 2 }), "{what}");
    }
    // Nor a payload of another length.
    let description = Description { pack_crc32: pack.crc32(), contents: Contents::Int8, weights_crc32: 0 };
    store.commit(&mut flash, &description, &[&payload[1..]]).unwrap();
    assert_eq!(booted.restore(&store, &mut flash).unwrap().in_force(), Some(good));
}

fn shape_outputs(pack: &Pack) -> Vec<usize> {
    flatmin::internals::tail::DenseChain::of(pack).unwrap().layers().map(|layer| layer.outputs).collect()
}

/// Every operation near the begin and the end of a commit, every 97th between, or with FLATMIN_EVERY_CUT=1 (minutes) all
/// of them: each boots with the old tail or the new, every bit of it.
#[test]
fn a_cut_during_the_commit_of_a_real_tail() {
    let packed = packed(1);
    let pack = Pack::new(bytemuck::cast_slice(&packed)).unwrap();
    let data = samples(&pack, 8);
    let (store, blank) = flash_of(&pack, Contents::Int8AndF32);
    let mut flash = blank.torn_words_unreadable();
    let (mut first_arena, mut second_arena) = (arena(&pack), arena(&pack));
    let mut tuning = tuner(&pack, &mut first_arena);
    let mut booted = tuner(&pack, &mut second_arena);
    observe(&mut tuning, &data);
    // Three commits: the fourth erases the slot of the second.
    let mut old = Vec::new();
    for seed in 1..4 {
        run(&mut tuning, seed);
        tuning.commit(&store, &mut flash).unwrap();
        old = answers(&mut tuning, &data);
    }
    let old_crc = tuning.weights_crc32();
    run(&mut tuning, 4);
    let (new, new_crc) = (answers(&mut tuning, &data), tuning.weights_crc32());
    let mut whole = flash.clone();
    tuning.commit(&store, &mut whole).unwrap();
    let operations = whole.operations() - flash.operations();
    let stride = if std::env::var_os("FLATMIN_EVERY_CUT").is_some() { 1 } else { 97 };
    let chosen = (0..operations).filter(|n| *n < 40 || *n + 40 > operations || n % stride == 0);
    let mut cuts = 0;
    for n in chosen {
        for partial in [Partial::Clean, Partial::Prefix(128), Partial::Random(n)] {
            let mut flash = flash.clone();
            flash.cut_at(n, partial);
            assert!(tuning.commit(&store, &mut flash).is_err());
            flash.power_on();
            booted.restore(&store, &mut flash).unwrap();
            let found = (booted.weights_crc32(), answers(&mut booted, &data));
            assert!(
                found == (old_crc, old.clone()) || found == (new_crc, new.clone()),
                "cut at {n} of {operations}, {partial:?}"
            );
            tuning.commit(&store, &mut flash).unwrap();
            booted.restore(&store, &mut flash).unwrap();
            assert_eq!(booted.weights_crc32(), new_crc);
            cuts += 1;
        }
    }
    println!("{cuts} cuts of a commit of {operations} operations");
}
