//! The bundle is complete, windows keep to their halves, draws are as documented, broken files are errors.

use super::*;

fn bundled() -> Recordings<'static> {
    Recordings::bundled().expect("the bundled recordings parse")
}

#[test]
fn the_bundle_is_complete() {
    let recordings = bundled();
    assert_eq!(recordings.all().len(), WEARERS * 2 * EXERCISES.len());
    for wearer in 1..=WEARERS {
        for side in 0..2 {
            for exercise in 0..EXERCISES.len() {
                let matching = recordings
                    .all()
                    .iter()
                    .filter(|r| (r.wearer, r.side, r.exercise) == (wearer, side, exercise))
                    .count();
                assert_eq!(matching, 1, "wearer {wearer}, side {side}, exercise {exercise}");
            }
        }
    }
    let samples: usize = recordings.all().iter().map(Recording::len).sum();
    assert_eq!(samples, 244_102);
}

#[test]
fn the_file_names_the_exercises() {
    for (i, name) in EXERCISES.iter().enumerate() {
        let stored = &DATA[68 + 8 * i..68 + 8 * (i + 1)];
        assert_eq!(stored, format!("{name:\0<8}").as_bytes());
    }
}

#[test]
fn every_wearer_has_a_model() {
    for wearer in 1..=WEARERS {
        let model = model_bytes(wearer).expect("a model");
        assert_eq!(&model[4..8], b"TFL3");
        assert!(model.len() <= 64 * 1024);
    }
    assert_eq!(model_bytes(0), None);
    assert_eq!(model_bytes(WEARERS + 1), None);
}

#[test]
fn no_window_reaches_over_the_cut_or_the_end() {
    for recording in bundled().all() {
        let cut = recording.len() / 2;
        let adaptation: Vec<_> = recording.adaptation_starts().collect();
        assert_eq!(adaptation.len(), cut / WINDOW);
        assert!(adaptation.iter().all(|start| start + WINDOW <= cut));
        let test: Vec<_> = recording.test_starts().collect();
        assert_eq!(test.len(), (recording.len() - cut - WINDOW) / TEST_STRIDE + 1);
        assert!(test.iter().all(|&start| start >= cut && start + WINDOW <= recording.len()));
    }
    assert_eq!(Recording::starts(5, 5 + WINDOW - 1, 1).count(), 0);
    assert_eq!(Recording::starts(5, 5 + WINDOW, 1).collect::<Vec<_>>(), [5]);
}

#[test]
fn windows_are_time_major_in_units_of_the_model() {
    // First sample of the first recording in the source: acceleration in g, rotation in rad/s.
    let source = [-1.083608, -0.018609, -0.02726, 0.41141 / 2.0, -1.603097 / 2.0, -2.488642 / 2.0];
    let window = bundled().windows_in_file_order(50).next().expect("a window");
    for (found, expected) in window.iter().zip(source) {
        assert!((found - expected).abs() <= 0.5 / 2048.0, "{found} for {expected}");
    }
    assert!((window[CHANNELS] - -1.077527).abs() <= 0.5 / 2048.0);
}

#[test]
fn windows_in_file_order_are_as_many_as_fit() {
    let recordings = bundled();
    let expected: usize = recordings.all().iter().map(|r| (r.len() - WINDOW) / 50 + 1).sum();
    assert_eq!(recordings.windows_in_file_order(50).count(), expected);
    assert!(expected >= 1000);
}

/// Adaptation candidates of the scarcest and the most frequent class, and test windows, as documented.
#[test]
fn window_counts() {
    let recordings = bundled();
    let mut found = Vec::new();
    for wearer in 1..=WEARERS {
        let mut candidates = [0; EXERCISES.len()];
        for recording in recordings.all().iter().filter(|r| r.wearer == wearer) {
            candidates[recording.exercise] += recording.adaptation_starts().count();
        }
        let test = recordings.test(wearer).expect("test windows").len();
        let [fewest, most] = [candidates.iter().min(), candidates.iter().max()].map(|n| *n.expect("classes"));
        found.push((fewest, most, test));
    }
    assert_eq!(
        found,
        [
            (13, 24, 270),
            (12, 22, 259),
            (9, 12, 143),
            (9, 11, 136),
            (12, 21, 235),
            (12, 20, 228),
            (12, 23, 251),
            (14, 20, 229),
            (14, 21, 230),
            (12, 23, 248),
        ]
    );
}

#[test]
fn adaptation_is_balanced_distinct_and_deterministic() {
    let recordings = bundled();
    for wearer in 1..=WEARERS {
        let nine = recordings.adaptation(wearer, 9, 7).expect("nine a class");
        for class in 0..EXERCISES.len() {
            assert_eq!(nine.iter().filter(|w| w.label == class).count(), 9);
        }
        for (i, window) in nine.iter().enumerate() {
            assert_eq!(window.samples.len(), WINDOW_VALUES);
            assert!(!nine[..i].contains(window), "wearer {wearer}: window {i} twice");
        }
        assert_eq!(recordings.adaptation(wearer, 9, 7).as_ref(), Ok(&nine));
        assert_eq!(recordings.adaptation(wearer, 4, 7).as_deref(), Ok(&nine[..4 * EXERCISES.len()]));
        assert_ne!(recordings.adaptation(wearer, 9, 8).as_ref(), Ok(&nine));
    }
}

#[test]
fn impossible_requests_name_both_values() {
    let recordings = bundled();
    assert_eq!(recordings.test(0), Err(WearersError::NoSuchWearer { wearer: 0 }));
    assert_eq!(recordings.adaptation(11, 1, 0), Err(WearersError::NoSuchWearer { wearer: 11 }));
    let error = recordings.adaptation(3, 25, 0).expect_err("too many");
    assert_eq!(error, WearersError::TooFewWindows { class: 0, requested: 25, available: 10 });
    assert_eq!(error.to_string(), "25 adaptation windows of class 0 requested, 10 available");
}

#[test]
fn flips_are_exactly_the_share() {
    let original: Vec<usize> = (0..70).map(|i| i % 7).collect();
    for (share, expected) in
        [(0.0, 0), (0.1, 7), (0.2, 14), (0.25, 18), (1.0, 70), (1.5, 70), (-0.5, 0), (f64::NAN, 0)]
    {
        let mut labels = original.clone();
        flip_labels(&mut labels, 7, share, 3);
        let changed = labels.iter().zip(&original).filter(|(a, b)| a != b).count();
        assert_eq!(changed, expected, "share {share}");
        assert!(labels.iter().all(|&label| label < 7));
        let mut again = original.clone();
        flip_labels(&mut again, 7, share, 3);
        assert_eq!(again, labels);
    }
    let mut single = vec![0; 4];
    flip_labels(&mut single, 1, 1.0, 0);
    assert_eq!(single, [0; 4]);
}

#[test]
fn flips_reach_every_other_class() {
    let mut seen = [0; 7];
    for seed in 0..700 {
        let mut labels = [3];
        flip_labels(&mut labels, 7, 1.0, seed);
        seen[labels[0]] += 1;
    }
    assert_eq!(seen[3], 0);
    assert!(seen.iter().enumerate().all(|(class, &n)| class == 3 || (60..180).contains(&n)), "{seen:?}");
}

#[test]
fn splitmix64_known_answers() {
    // The reference implementation's first outputs for seed 1234567.
    let mut random = SplitMix64::new(1_234_567);
    let outputs: Vec<u64> = (0..5).map(|_| random.next_u64()).collect();
    assert_eq!(
        outputs,
        [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821
        ]
    );
}

#[test]
fn broken_files_are_errors() {
    assert_eq!(Recordings::parse(b"IMU"), Err(WearersError::NotARecordingsFile));
    assert_eq!(Recordings::parse(&DATA[..60]), Err(WearersError::Length { found: 60, expected: 124 }));
    assert_eq!(
        Recordings::parse(&DATA[..DATA.len() - 1]),
        Err(WearersError::Length { found: DATA.len() - 1, expected: DATA.len() })
    );
    let mut other = DATA.to_vec();
    other[4] = 2;
    assert_eq!(
        Recordings::parse(&other),
        Err(WearersError::Unsupported { field: "version", found: 2, supported: 1 })
    );
    let mut other = DATA.to_vec();
    other[124 + 8] = 11;
    assert_eq!(Recordings::parse(&other), Err(WearersError::BadRecord { index: 1 }));
    // Any single changed header byte is read or refused, without a panic.
    let mut other = DATA.to_vec();
    for at in 0..124 + 1120 {
        other[at] ^= 0xff;
        let _ = Recordings::parse(&other);
        other[at] ^= 0xff;
    }
}
