//! Heads in closed form by the product's own calls: nothing tuned, the factory's statistics in the pack.

use flatmin::pack::format::header;
use flatmin::{Pack, PackError, Recipe, Tuner, TunerError};
use host_sim::tuning::{Subject, solve};

fn subject(wearer: usize, noise: f64) -> Subject {
    Subject::wearer(wearer, 9, noise, 1).unwrap().calibrated(wearer).unwrap()
}

fn aligned(bytes: &[u8]) -> Vec<u128> {
    let mut words = vec![0u128; bytes.len().div_ceil(16)];
    bytemuck::cast_slice_mut::<_, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

/// With a fifth of the labels flipped, and with one layer or two behind the cut.
#[test]
fn heads_are_better_than_the_factory_in_int8() {
    for layers in [1, 2] {
        let (mut factory, mut solved) = (0.0, 0.0);
        for wearer in [1, 4, 8] {
            let run = solve(&subject(wearer, 0.2), layers, Recipe::DEFAULT).unwrap();
            assert_eq!(run.method, "closed-form");
            assert_eq!(run.train_ram_bytes, run.memory.iter().map(|(_, bytes)| bytes).sum::<usize>());
            factory += run.factory_accuracy / 3.0;
            solved += run.accuracy_int8 / 3.0;
        }
        assert!(solved > factory + 0.01, "{layers} layers: factory {factory}, solved {solved}");
    }
}

/// Slices, samples in two orders, and what a short scratch memory is told.
#[test]
fn the_order_of_observing_says_nothing() {
    let subject = subject(2, 0.2);
    let file = subject.model.pack(2).unwrap();
    let (pack, recipe) = (file.pack(), Recipe { replay_capacity: 63, ..Recipe::DEFAULT });
    let sizes = pack.sizes();
    let mut crcs = Vec::new();
    for reverse in [false, true] {
        let mut words = vec![0u128; sizes.train_bytes(&recipe).div_ceil(16)];
        let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
        let mut scratch = vec![0; sizes.solve_words()];
        assert_eq!(tuner.solve(&mut scratch).err(), Some(TunerError::NoSamples));
        let mut samples: Vec<_> = subject.adaptation.iter().collect();
        if reverse {
            samples.reverse();
        }
        samples.into_iter().for_each(|(input, label)| tuner.observe(input, *label).unwrap());
        let short = scratch.len() - 1;
        let error = tuner.solve(&mut scratch[..short]).err();
        assert_eq!(
            error,
            Some(TunerError::SolveRoom { needed: sizes.solve_words(), found: short, samples: 63 })
        );
        let factory = tuner.weights_crc32();
        let mut solve = tuner.solve(&mut scratch).unwrap();
        let mut slices = 1;
        while !solve.slice() {
            slices += 1;
        }
        // Four rounds: a pass, the means, 64 rows and seven classes.
        assert_eq!(slices, 4 * (63 + 1 + 64 + 7));
        assert_ne!(tuner.weights_crc32(), factory);
        crcs.push(tuner.weights_crc32());
        tuner.requantize().unwrap();
        assert!(tuner.is_tuned());
    }
    assert_eq!(crcs[0], crcs[1]);
}

/// Samples that are held out say nothing but whether the head is taken.
#[test]
fn held_out_samples_judge_the_head() {
    let subject = subject(2, 0.0);
    let run = solve(&subject, 1, Recipe { held_out: 0.2, ..Recipe::DEFAULT }).unwrap();
    let verdict = run.verdict.unwrap();
    let whole = solve(&subject, 1, Recipe::DEFAULT).unwrap();
    assert!(whole.verdict.is_none());
    assert_ne!(run.weights_crc32, whole.weights_crc32);
    let expected = if verdict.accepted { run.accuracy_int8 } else { run.factory_accuracy };
    assert_eq!(run.accuracy_int8, expected);
}

#[test]
fn packs_with_and_without_statistics_are_read_and_broken_ones_refused() {
    let plain = Subject::wearer(3, 9, 0.0, 1).unwrap().model.pack(2).unwrap();
    assert!(plain.pack().statistics().is_none());
    let file = subject(3, 0.0).model.pack(2).unwrap();
    let statistics = file.pack().statistics().unwrap();
    assert_eq!((statistics.classes(), statistics.features()), (7, 64));
    // 64 deviations, seven means of 64 features, 2,016 correlations.
    let bytes = 4 * 64 + 2 * 7 * 64 + 2 * 2_016;
    assert_eq!(file.bytes().len(), plain.bytes().len().next_multiple_of(16) + bytes);
    // Cut off.
    let mut broken = file.bytes().to_vec();
    let past = (broken.len() - bytes + 16) as u32;
    broken[header::STATISTICS..][..4].copy_from_slice(&past.to_le_bytes());
    let crc = flatmin::crc32(&broken[header::CHECKED_FROM..]);
    broken[header::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
    let words = aligned(&broken);
    let refused = Pack::new(&bytemuck::cast_slice(&words)[..broken.len()]).err();
    assert!(matches!(refused, Some(PackError::Header(_))), "{refused:?}");
}
