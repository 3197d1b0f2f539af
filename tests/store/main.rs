//! The store under power cuts at every operation, torn in every way that the flash model knows, and under bit rot.
//! Payloads are a few hundred bytes, so that no operation is left out; host-sim runs real tails.

mod awaited;
mod cases;

use cases::*;
use flatmin::flash::{Flash, Partial};
use flatmin::{
    internals::record,
    store::{Contents, Description, Recovery, SlotState, Store, StoreError},
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// Cuts every case at every operation; returns the number of cuts.
fn cut_everywhere<const W: usize, const E: usize, const R: usize>(
    store: Store,
    blank: Flash<W, E, R>,
) -> u64 {
    let mut cuts = 0;
    for Case { name, flash, change, old, new } in cases(&store, &blank) {
        let mut whole = flash.clone();
        assert_eq!(boot(&store, &mut whole), old, "{name}");
        assert_eq!(whole.operations(), flash.operations(), "a boot writes nothing");
        change.act(&store, &mut whole).unwrap();
        assert_eq!(boot(&store, &mut whole), new, "{name}");
        let operations = whole.operations() - flash.operations();
        assert!(operations > 0, "{name}");
        for (n, partial) in (0..operations).flat_map(|n| PARTIALS.map(|partial| (n, mixed(partial, n)))) {
            let what = || format!("{name}: words of {W}, pages of {E}, cut at {n}, {partial:?}");
            let mut flash = flash.clone();
            flash.cut_at(n, partial);
            assert!(change.act(&store, &mut flash).is_err(), "{}", what());
            assert!(flash.power_on(), "{}", what());
            let left = boot(&store, &mut flash);
            assert!(left == old || left == new, "{}: {:?}", what(), store.recover(&mut flash, PACK));
            // The next commit works, and leaves alone what was in force.
            commit(&store, &mut flash, 10).unwrap_or_else(|error| panic!("{}: {error}", what()));
            assert_eq!(boot(&store, &mut flash), Some(payload(10)), "{}", what());
            if left.is_some() {
                store.roll_back(&mut flash, PACK).unwrap();
                assert_eq!(boot(&store, &mut flash), left, "{}", what());
            }
            cuts += 1;
        }
    }
    cuts
}

fn cut<const W: usize, const E: usize, const R: usize>(slots: usize) -> u64 {
    let (store, blank) = pages::<W, E, R>(slots);
    let cuts = cut_everywhere(store, blank.clone()) + cut_everywhere(store, blank.torn_words_unreadable());
    println!("words of {W}, pages of {E}, reads of {R}, {slots} slots: {cuts} cuts");
    cuts
}

#[test]
fn a_cut_at_any_operation_leaves_the_old_tail_or_the_new() {
    let cuts = cut::<1, 256, 1>(2)
        + cut::<1, 4096, 1>(2)
        + cut::<4, 256, 1>(2)
        + cut::<4, 256, 4>(3)
        + cut::<4, 2048, 1>(2)
        + cut::<4, 4096, 4>(5)
        + cut::<8, 256, 1>(2)
        + cut::<8, 2048, 1>(3)
        + cut::<16, 256, 4>(2)
        + cut::<16, 4096, 1>(2)
        + cut::<32, 256, 1>(3)
        + cut::<32, 2048, 1>(2)
        + cut::<32, 4096, 32>(2);
    println!("{cuts} cuts in all");
    assert!(cuts >= 100_000, "{cuts}");
}

/// The power goes in a commit, and again in the next one: every pair of operations.
#[test]
fn two_cuts_one_after_the_other() {
    let (store, blank) = pages::<8, 256, 1>(2);
    let mut cuts = 0;
    let partials = [Partial::Clean, Partial::Prefix(128), Partial::Random(7)];
    for blank in [blank.clone(), blank.torn_words_unreadable()] {
        for Case { name, flash, change, old, new } in cases(&store, &blank) {
            for (n, partial) in (0..).flat_map(|n| partials.map(|partial| (n, mixed(partial, n)))) {
                let mut once = flash.clone();
                once.cut_at(n, partial);
                if change.act(&store, &mut once).is_ok() {
                    break;
                }
                once.power_on();
                let left = boot(&store, &mut once);
                assert!(left == old || left == new);
                for m in 0.. {
                    let mut twice = once.clone();
                    twice.cut_at(m, mixed(partial, m));
                    if commit(&store, &mut twice, 11).is_ok() {
                        break;
                    }
                    twice.power_on();
                    let found = boot(&store, &mut twice);
                    assert!(found == left || found == Some(payload(11)), "{name}: {n}, {m}, {partial:?}");
                    commit(&store, &mut twice, 12).unwrap();
                    assert_eq!(boot(&store, &mut twice), Some(payload(12)));
                    cuts += 1;
                }
            }
        }
    }
    println!("{cuts} pairs of cuts");
    assert!(cuts > 10_000);
}

/// States of a store, and the tails that may be found in it when bits have rotted.
fn states<const W: usize, const E: usize, const R: usize>(
    slots: usize,
) -> (Store, Vec<(Flash<W, E, R>, Vec<Tail>)>) {
    let (store, blank) = pages::<W, E, R>(slots);
    let mut flash = blank.clone();
    let mut states = vec![(blank, vec![None])];
    commit(&store, &mut flash, 1).unwrap();
    states.push((flash.clone(), vec![Some(payload(1)), None]));
    commit(&store, &mut flash, 2).unwrap();
    states.push((flash.clone(), vec![Some(payload(2)), Some(payload(1))]));
    commit(&store, &mut flash, 4).unwrap();
    states.push((flash.clone(), vec![Some(payload(4)), Some(payload(2))]));
    let mut rolled_back = flash.clone();
    store.roll_back(&mut rolled_back, PACK).unwrap();
    let before = if slots > 2 { Some(payload(1)) } else { None };
    states.push((rolled_back, vec![Some(payload(2)), before]));
    store.factory_reset(&mut flash, PACK).unwrap();
    states.push((flash, vec![None]));
    (store, states)
}

/// Any single bit: what it hits is not used any more, and nothing else changes.
fn flip_each<const W: usize, const E: usize, const R: usize>(slots: usize) -> u64 {
    let (store, states) = states::<W, E, R>(slots);
    let mut flips = 0;
    for (mut flash, allowed) in states {
        let intact = store.recover(&mut flash, PACK).unwrap();
        let in_force = intact.in_force();
        let record = in_force.map_or(0..0, |found| {
            let start = E as u32 + found.slot as u32 * store.slot_bytes();
            let unit = W.max(R) as u32;
            let body = (record::header::BYTES as u32 + found.length).next_multiple_of(unit);
            // Behind the commit word is padding that nobody reads.
            start as usize * 8..(start + body + 8) as usize * 8
        });
        for bit in 0..flash.bytes().len() * 8 {
            flash.flip(bit);
            let found = boot(&store, &mut flash);
            let expected = if record.contains(&bit) { &allowed[1] } else { &allowed[0] };
            assert_eq!(&found, expected, "words of {W}, pages of {E}, bit {bit}");
            flash.flip(bit);
            flips += 1;
        }
    }
    flips
}

#[test]
fn no_flipped_bit_yields_a_wrong_tail() {
    let flips = flip_each::<1, 256, 1>(2)
        + flip_each::<4, 256, 1>(3)
        + flip_each::<8, 2048, 1>(2)
        + flip_each::<16, 256, 4>(2)
        + flip_each::<32, 4096, 1>(2);
    println!("{flips} single flips");
}

#[test]
fn no_two_or_three_flipped_bits_yield_a_wrong_tail() {
    let (store, states) = states::<4, 256, 1>(3);
    let mut random = Pcg32::seed_from_u64(5);
    let mut flips = 0;
    for (mut flash, allowed) in states {
        // With three flips two records can be hit, and the third tail, the factory's or an older one, be in force.
        let mut allowed = allowed;
        allowed.extend([Some(payload(1)).filter(|_| allowed[0].is_some()), None]);
        let bits = flash.bytes().len() * 8;
        for round in 0..100_000 {
            let count = 2 + round % 2;
            // Half of the rounds near one place: where a record's fields lie together.
            let near = random.next_u32() as usize % bits;
            let spread = if round % 4 < 2 { bits } else { 600 };
            let places: Vec<usize> =
                (0..count).map(|_| (near + random.next_u32() as usize % spread) % bits).collect();
            places.iter().for_each(|&bit| flash.flip(bit));
            let found = boot(&store, &mut flash);
            assert!(allowed.contains(&found), "{places:?}");
            places.iter().for_each(|&bit| flash.flip(bit));
            flips += 1;
        }
    }
    println!("{flips} times two or three flips");
}

/// Reads that succeed at recovery and not after it: the second check catches what changed in between.
#[test]
fn a_record_that_rots_after_recovery_is_not_handed_out() {
    let (store, mut flash) = pages::<4, 256, 1>(2);
    commit(&store, &mut flash, 1).unwrap();
    let record = store.recover(&mut flash, PACK).unwrap().in_force().unwrap();
    let mut payload = vec![0; record.length as usize];
    for bit in 256 * 8..(256 + 32 + payload.len()) * 8 {
        flash.flip(bit);
        let read = store.read(&mut flash, &record, &mut [&mut payload]);
        assert_eq!(read, Err(StoreError::Damaged { slot: 0 }));
        flash.flip(bit);
    }
    let too_short = store.read(&mut flash, &record, &mut [&mut payload[1..]]);
    let expected = record.length;
    assert_eq!(too_short, Err(StoreError::PayloadLength { expected, found: expected as usize - 1 }));
}

#[test]
fn every_slot_says_why_it_is_not_used() {
    let (store, mut flash) = pages::<4, 256, 1>(6);
    let slot_bits = store.slot_bytes() as usize * 8;
    let slot_start = |slot: usize| 256 * 8 + slot * slot_bits;
    (0..5).for_each(|number| commit(&store, &mut flash, number).unwrap());
    flash.flip(slot_start(0) + 3); // the magic
    flash.flip(slot_start(1) + record::header::LENGTH * 8);
    flash.flip(slot_start(2) + (record::header::BYTES + 5) * 8);
    let commit_word = (record::header::BYTES + payload(3).len()).next_multiple_of(4) + 4;
    flash.flip(slot_start(3) + commit_word * 8);
    let found = store.recover(&mut flash, PACK).unwrap();
    let number = |state: &SlotState| match state {
        SlotState::Whole(record) => record.sequence,
        _ => 0,
    };
    assert!(matches!(found.slots()[0], SlotState::Foreign));
    assert!(matches!(found.slots()[1], SlotState::HeaderDamaged));
    assert!(matches!(found.slots()[2], SlotState::Damaged { sequence: 3 }));
    assert!(matches!(found.slots()[3], SlotState::Uncommitted { sequence: 4 }));
    assert_eq!(number(&found.slots()[4]), 5);
    assert!(matches!(found.slots()[5], SlotState::Blank));
    assert!(found.slots()[3].to_string().contains("not committed"));
    let other = store.recover(&mut flash, OTHER_PACK).unwrap();
    assert_eq!(other.in_force(), None);
    assert!(matches!(other.slots()[4], SlotState::OtherPack { found: PACK, expected: OTHER_PACK }));
}

/// A header that is sound and says what cannot be. 91 is the length in the same number of words: only the record's CRC
/// tells.
#[test]
fn lengths_that_are_not_the_records_are_refused() {
    for length in [0, 1, 91, 470, 473, 513, 1 << 20, u32::MAX - 31, u32::MAX - 7, u32::MAX] {
        let (store, mut flash) = pages::<4, 256, 1>(2);
        commit(&store, &mut flash, 3).unwrap(); // 90 bytes
        patch(&mut flash, 256, record::header::LENGTH, length);
        let found = store.recover(&mut flash, PACK).unwrap();
        let reason = found.slots()[0];
        let expected = matches!(reason, SlotState::Damaged { .. } | SlotState::Uncommitted { .. });
        assert!(expected, "{length}: {reason:?}");
        assert_eq!(found.in_force(), None);
        commit(&store, &mut flash, 4).unwrap();
        assert_eq!(boot(&store, &mut flash), Some(payload(4)));
    }
}

/// Three slots, a few erases a page: commits succeed until the flash is worn out, and then what was committed last
/// stays in force.
#[test]
fn worn_pages_lose_nothing() {
    let (store, blank) = pages::<4, 256, 1>(3);
    let mut flash = blank.endurance(20);
    let mut in_force = None;
    let mut refused = 0;
    for number in 0..200 {
        // 301 bytes: two pages.
        let number = number * 4;
        match commit(&store, &mut flash, number) {
            Ok(()) => in_force = Some(payload(number)),
            Err(error) => {
                assert!(matches!(error, StoreError::WornOut { .. }), "{error}");
                refused += 1;
            }
        }
        assert_eq!(boot(&store, &mut flash), in_force, "{number}");
    }
    // Now and then the stuck bits are zeros of the record anyway, and a commit gets through.
    println!("{refused} of 200 commits refused");
    assert!(refused > 20 && in_force.is_some());
    // Not before all pages were worn out: six pages, two a record.
    assert!(flash.erases()[1..].iter().all(|&erases| erases > 20), "{:?}", flash.erases());
}

#[test]
fn commits_go_round_all_slots() {
    let (store, mut flash) = pages::<4, 256, 1>(4);
    (0..40).for_each(|_| commit(&store, &mut flash, 0).unwrap());
    assert_eq!(flash.erases(), [0, 10, 10, 10, 10, 10, 10, 10, 10]);
}

/// Back through all that the slots remember, then the factory tail, then no further.
#[test]
fn rolling_back_goes_back_one_commit_at_a_time() {
    let (store, mut flash) = pages::<4, 256, 1>(3);
    (1..6).for_each(|number| commit(&store, &mut flash, number).unwrap());
    for expected in [Some(payload(4)), Some(payload(3)), None] {
        let recovery: Recovery = store.roll_back(&mut flash, PACK).unwrap();
        assert_eq!(
            recovery.in_force().map(|record| record.weights_crc32),
            expected.as_ref().map(|tail| { (1..6).find(|&number| payload(number) == *tail).unwrap() })
        );
        assert_eq!(boot(&store, &mut flash), expected);
    }
    assert_eq!(store.roll_back(&mut flash, PACK), Err(StoreError::NothingToRollBack));
}

#[test]
fn slots_that_do_not_fit_the_flash_are_refused() {
    let mut flash = Flash::<4, 256>::new(4);
    let recover = |store: Store| store.recover(&mut flash.clone(), PACK).map(drop);
    assert_eq!(recover(Store::new(0, 512, 2)), Ok(()));
    assert_eq!(recover(Store::new(0, 256, 1)), Err(StoreError::Slots { found: 1 }));
    assert_eq!(recover(Store::new(0, 256, 17)), Err(StoreError::Slots { found: 17 }));
    assert!(matches!(recover(Store::new(4, 256, 2)), Err(StoreError::Alignment { found: 4, .. })));
    assert!(matches!(recover(Store::new(0, 300, 2)), Err(StoreError::Alignment { found: 300, .. })));
    assert_eq!(recover(Store::new(256, 512, 2)), Err(StoreError::BeyondFlash { end: 1280, capacity: 1024 }));
    assert!(recover(Store::new(u32::MAX / 256 * 256, u32::MAX / 256 * 256, 16)).is_err());
    assert!(matches!(recover(Store::new(0, 0, 2)), Err(StoreError::SlotTooSmall { found: 0, .. })));
    let store = Store::new(0, 256, 2);
    let before = flash.operations();
    let description = Description { pack_crc32: PACK, contents: Contents::Int8, weights_crc32: 0 };
    let too_long = store.commit(&mut flash, &description, &[&[0; 217]]);
    assert_eq!(too_long, Err(StoreError::SlotTooSmall { needed: 260, found: 256 }));
    assert_eq!(flash.operations(), before);
    assert!(store.commit(&mut flash, &description, &[&[0; 216]]).is_ok());
}
