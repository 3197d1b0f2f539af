//! Heads against textbook formulas in f64, which take no part of the solver's code.

#![allow(clippy::needless_range_loop, reason = "indices as in the formulas")]

use super::*;
use std::vec;
use std::vec::Vec;

type Sample = (Vec<i16>, usize);

/// Linear congruential (Knuth's MMIX), upper bits.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// About normal, of variance 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
    }
}

/// Classes around means of their own, with correlated features.
fn samples(random: &mut Random, classes: usize, features: usize, each: usize, offset: f64) -> Vec<Sample> {
    let centers: Vec<Vec<f64>> = (0..classes)
        .map(|c| (0..features).map(|i| 60.0 + 25.0 * ((c * 7 + i * 3) % 5) as f64).collect())
        .collect();
    let mut all = Vec::new();
    for _ in 0..each {
        for (class, center) in centers.iter().enumerate() {
            let common = random.normal();
            let x = center
                .iter()
                .map(|m| (m + offset + 12.0 * common + 15.0 * random.normal()).clamp(0.0, 255.0) as i16);
            all.push((x.collect(), class));
        }
    }
    all
}

fn head(
    settings: Settings,
    statistics: Option<&[u8]>,
    samples: &[Sample],
    classes: usize,
    features: usize,
    factory: &[f32],
) -> Vec<f32> {
    let statistics = statistics.map(|bytes| Statistics::new(bytes, classes, features).unwrap());
    let mut head = factory.to_vec();
    let mut scratch = vec![-1; scratch_words(classes, features)];
    let mut solver =
        ClosedForm::new(settings, statistics, samples.len(), (classes, features), &mut head, &mut scratch)
            .unwrap();
    loop {
        match solver.next() {
            Next::Sample(index) => solver.add(samples[index].0.iter().copied(), samples[index].1),
            Next::Compute => solver.compute(),
            Next::Done => return head,
        }
    }
}

fn answer(head: &[f32], x: &[i16], classes: usize) -> usize {
    let (weights, biases) = head.split_at(classes * x.len());
    let z = |class: usize| {
        let row = &weights[class * x.len()..][..x.len()];
        row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>() + f64::from(biases[class])
    };
    (0..classes).rev().max_by(|&a, &b| z(a).total_cmp(&z(b))).unwrap()
}

/// Little endian, aligned.
struct Bytes(Vec<u32>, usize);

impl Bytes {
    fn of(deviations: &[f32], means: &[i16], correlations: &[i16]) -> Self {
        let mut bytes: Vec<u8> = deviations.iter().flat_map(|d| d.to_le_bytes()).collect();
        bytes.extend(means.iter().chain(correlations).flat_map(|m| m.to_le_bytes()));
        let length = bytes.len();
        bytes.resize(length.next_multiple_of(4), 0);
        let word = |chunk: &[u8]| u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        Self(bytes.chunks(4).map(word).collect(), length)
    }

    fn get(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}

/// `A^-1 b` by Gauss and Jordan, with pivots.
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for column in 0..n {
        let pivot = (column..n).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs())).unwrap();
        a.swap(column, pivot);
        b.swap(column, pivot);
        for row in (0..n).filter(|&row| row != column) {
            let factor = a[row][column] / a[column][column];
            for i in 0..n {
                a[row][i] -= factor * a[column][i];
            }
            b[row] -= factor * b[column];
        }
    }
    (0..n).map(|i| b[i] / a[i][i]).collect()
}

/// Samples that the factory's means count as: the classes' deviations less what so few samples make by chance.
fn measured_prior(
    settings: Settings,
    mu0: &[Vec<f64>],
    s0: &[Vec<f64>],
    samples: &[Sample],
    weights: &[f64],
    offset: &[f64],
) -> f64 {
    let (d, least) = (mu0[0].len(), f64::from(settings.prior_samples));
    let shrinkage = f64::from(settings.shrinkage);
    let mean_variance = (0..d).map(|i| s0[i][i]).sum::<f64>() / d as f64;
    let variance = |i: usize| (1.0 - shrinkage) * s0[i][i] + shrinkage * mean_variance + 1.0 / 12.0;
    let (mut deviations, mut chance, mut squares, mut all, mut free) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (c, mu0) in mu0.iter().enumerate() {
        let own: Vec<(&f64, &Sample)> = weights.iter().zip(samples).filter(|(_, (_, y))| *y == c).collect();
        let count: f64 = own.iter().map(|(w, _)| **w).sum();
        if count < 0.5 {
            // Its squares are within around a mean of 0, like those of labels that are no class's.
            squares += (0..d)
                .map(|i| {
                    own.iter().map(|(w, (x, _))| **w * f64::from(x[i]).powi(2)).sum::<f64>() / variance(i)
                })
                .sum::<f64>();
            continue;
        }
        let mean = |i: usize| own.iter().map(|(w, (x, _))| **w * f64::from(x[i])).sum::<f64>() / count;
        let of_mean = |i: usize| (mean(i) - mu0[i] - offset[i]).powi(2) / variance(i);
        deviations += count * (0..d).map(of_mean).sum::<f64>() / d as f64;
        chance += 1.0;
        squares += (0..d)
            .map(|i| {
                own.iter().map(|(w, (x, _))| **w * (f64::from(x[i]) - mean(i)).powi(2)).sum::<f64>()
                    / variance(i)
            })
            .sum::<f64>();
        all += count;
        free += count - 1.0;
    }
    let within = squares / d as f64 / free.max(1.0);
    if within <= 0.0 {
        return least;
    }
    (1.0 / ((deviations / within - chance + 3.0 / least) / (all + 3.0)).max(0.001)).max(least)
}

/// The module's formulas, written down once more in f64, sample by sample.
fn textbook(
    settings: Settings,
    fixed_prior: Option<f64>,
    mu0: &[Vec<f64>],
    s0: &[Vec<f64>],
    samples: &[Sample],
) -> Vec<f64> {
    let (classes, d) = (mu0.len(), mu0[0].len());
    let (least, e) = (f64::from(settings.prior_samples), f64::from(settings.wrong_labels));
    let (shrinkage, mut weights) = (f64::from(settings.shrinkage), vec![1.0; samples.len()]);
    let (mut w, mut b) = (vec![vec![0.0; d]; classes], vec![0.0; classes]);
    for _ in 0..settings.rounds {
        let n: f64 = weights.iter().sum();
        let offset: Vec<f64> = (0..d)
            .map(|i| {
                let sum = weights.iter().zip(samples).map(|(w, (x, y))| w * (f64::from(x[i]) - mu0[*y][i]));
                sum.sum::<f64>() / (least + n)
            })
            .collect();
        let n0 = fixed_prior.unwrap_or_else(|| measured_prior(settings, mu0, s0, samples, &weights, &offset));
        let mu: Vec<Vec<f64>> = (0..classes)
            .map(|c| {
                let own = || weights.iter().zip(samples).filter(move |(_, (_, y))| *y == c);
                let count: f64 = own().map(|(w, _)| w).sum();
                let sum = |i: usize| own().map(|(w, (x, _))| w * f64::from(x[i])).sum::<f64>();
                (0..d).map(|i| (n0 * (mu0[c][i] + offset[i]) + sum(i)) / (n0 + count)).collect()
            })
            .collect();
        let share = n / (n + n0 * d as f64);
        let mut s = vec![vec![0.0; d]; d];
        for i in 0..d {
            for j in 0..d {
                let off = |x: &[i16], y: usize, i: usize| f64::from(x[i]) - mu[y][i];
                let terms = weights.iter().zip(samples).map(|(w, (x, y))| w * off(x, *y, i) * off(x, *y, j));
                s[i][j] = (1.0 - share) * s0[i][j] + share * terms.sum::<f64>() / n;
            }
        }
        let mean = (0..d).map(|i| s[i][i]).sum::<f64>() / d as f64;
        for i in 0..d {
            for j in 0..d {
                s[i][j] *= 1.0 - shrinkage;
            }
            s[i][i] += shrinkage * mean + 1.0 / 12.0;
        }
        for c in 0..classes {
            w[c] = solved(s.clone(), mu[c].clone());
            b[c] = -0.5 * w[c].iter().zip(&mu[c]).map(|(w, m)| w * m).sum::<f64>();
        }
        for (weight, (x, y)) in weights.iter_mut().zip(samples) {
            let z = |c: usize| w[c].iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>() + b[c];
            let p = 1.0 / (0..classes).map(|c| (z(c) - z(*y)).exp()).sum::<f64>();
            *weight = ((1.0 - e) * p / ((1.0 - e) * p + e / classes as f64) * 128.0).round() / 128.0;
        }
    }
    for i in 0..d {
        let mean = (0..classes).map(|c| w[c][i]).sum::<f64>() / classes as f64;
        (0..classes).for_each(|c| w[c][i] -= mean);
    }
    let mean = b.iter().sum::<f64>() / classes as f64;
    b.iter_mut().for_each(|b| *b -= mean);
    let smoothing = f64::from(settings.smoothing);
    let loss = |scale: f64| {
        let losses = weights.iter().zip(samples).map(|(weight, (x, y))| {
            let logit =
                |c: usize| scale * (w[c].iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>() + b[c]);
            let most = (0..classes).map(logit).fold(f64::NEG_INFINITY, f64::max);
            let sum = most + (0..classes).map(|c| (logit(c) - most).exp()).sum::<f64>().ln();
            let spread = (0..classes).map(logit).sum::<f64>() / classes as f64;
            weight * (sum - (1.0 - smoothing) * logit(*y) - smoothing * spread)
        });
        losses.sum::<f64>()
    };
    let scales = (0..24).map(|index| 0.5f64.powf(f64::from(index) / 2.0));
    let scale = scales.min_by(|&a, &b| loss(a).total_cmp(&loss(b))).unwrap();
    w.into_iter().flatten().chain(b).map(|w| scale * w).collect()
}

/// Means, covariance and their bytes.
fn factory(random: &mut Random, classes: usize, d: usize) -> (Vec<Vec<f64>>, Vec<Vec<f64>>, Bytes) {
    let known = samples(random, classes, d, 200, 0.0);
    let mean = |class: usize, i: usize| {
        known.iter().filter(|(_, y)| *y == class).map(|(x, _)| f64::from(x[i])).sum::<f64>() / 200.0
    };
    let mu: Vec<Vec<f64>> = (0..classes).map(|c| (0..d).map(|i| mean(c, i)).collect()).collect();
    let covariance = |i: usize, j: usize| {
        let terms = known.iter().map(|(x, y)| (f64::from(x[i]) - mu[*y][i]) * (f64::from(x[j]) - mu[*y][j]));
        terms.sum::<f64>() / known.len() as f64
    };
    let s: Vec<Vec<f64>> = (0..d).map(|i| (0..d).map(|j| covariance(i, j)).collect()).collect();
    let deviations: Vec<f32> = (0..d).map(|i| s[i][i].sqrt() as f32).collect();
    let means: Vec<i16> = mu.iter().flatten().map(|m| (m * f64::from(MEAN_STEPS)).round() as i16).collect();
    let correlations: Vec<i16> = (0..d)
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .map(|(i, j)| (s[i][j] / (s[i][i] * s[j][j]).sqrt() * f64::from(WHOLE)).round() as i16)
        .collect();
    let bytes = Bytes::of(&deviations, &means, &correlations);
    // As they were rounded.
    let rounded = |i: usize, j: usize| {
        let scale = f64::from(deviations[i]) * f64::from(deviations[j]);
        let (low, high) = (i.min(j), i.max(j));
        if i == j {
            scale
        } else {
            scale * f64::from(correlations[high * (high - 1) / 2 + low]) / f64::from(WHOLE)
        }
    };
    let s = (0..d).map(|i| (0..d).map(|j| rounded(i, j)).collect()).collect();
    let mu = means
        .chunks(d)
        .map(|row| row.iter().map(|&m| f64::from(m) / f64::from(MEAN_STEPS)).collect())
        .collect();
    (mu, s, bytes)
}

#[test]
fn heads_are_those_of_the_textbook() {
    for (classes, d, each, seed) in [(2, 3, 5, 1), (4, 9, 6, 2), (7, 24, 9, 3), (3, 16, 1, 4)] {
        let mut random = Random(seed);
        let (mu, s, bytes) = factory(&mut random, classes, d);
        let mut own = samples(&mut random, classes, d, each, 20.0);
        // A wrong label, whose weight falls.
        own[0].1 = (own[0].1 + 1) % classes;
        // One round has whole weights, so that sums are exact; later, a weight may be rounded the other way.
        for (rounds, within) in [(1, 0.005), (4, 0.1)] {
            let settings = Settings { rounds, ..Settings::DEFAULT };
            let found = head(settings, Some(bytes.get()), &own, classes, d, &vec![0.0; classes * (d + 1)]);
            let expected = textbook(settings, None, &mu, &s, &own);
            for (x, _) in &own {
                for class in 0..classes {
                    let z = |weight: &dyn Fn(usize) -> f64| {
                        let row = (0..d).map(|i| weight(class * d + i) * f64::from(x[i])).sum::<f64>();
                        row + weight(classes * d + class)
                    };
                    let (a, b) = (z(&|i| f64::from(found[i])), z(&|i| expected[i]));
                    assert!(
                        (a - b).abs() < within,
                        "{classes} {d} {rounds} rounds, class {class}: {a} {b} nats"
                    );
                }
            }
        }
    }
}

/// Worked by hand: no rounds but one; means (10, 0) and (0, 10), deviations 1, no correlation, one sample of each class
/// right on its mean: offset 0, means as they are, S = (1 - 2/6) I + 2/6 * 0, shrunk to itself, plus 1/12: 3/4 I. So
/// W = 4/3 mu and b = -4/6 * 100; less the classes' mean: +-20/3 and 0. Both samples then lead by m = 400/3, and at a scale s the
/// smoothed loss is ln(1 + exp(-s m)) + s m / 10: least, of the scales that are tried, at 1/64 (0.3257; 0.3458 at the next
/// larger one, 0.3535 at the next smaller).
#[test]
fn a_head_worked_by_hand() {
    let bytes = Bytes::of(&[1.0, 1.0], &[1280, 0, 0, 1280], &[0]);
    let own = [(vec![10, 0], 0), (vec![0, 10], 1)];
    let settings = Settings { rounds: 1, ..Settings::DEFAULT };
    let found = head(settings, Some(bytes.get()), &own, 2, 2, &[0.0; 6]);
    let third = 20.0 / 3.0 / 64.0;
    for (a, b) in found.iter().zip([third, -third, -third, third, 0.0, 0.0]) {
        assert!((a - b).abs() < 1e-5, "{found:?}");
    }
}

#[test]
fn the_order_of_samples_says_nothing() {
    let mut random = Random(7);
    let (_, _, bytes) = factory(&mut random, 5, 12);
    let mut own = samples(&mut random, 5, 12, 8, -15.0);
    for i in 0..10 {
        own[3 * i].1 = i % 5;
    }
    let factory: Vec<f32> = (0..5 * 13).map(|i| 0.01 * ((i * 29 % 17) as f32 - 8.0)).collect();
    for statistics in [Some(bytes.get()), None] {
        let first = head(Settings::DEFAULT, statistics, &own, 5, 12, &factory);
        for _ in 0..3 {
            for i in (1..own.len()).rev() {
                own.swap(i, random.below(i as u64 + 1) as usize);
            }
            let other = head(Settings::DEFAULT, statistics, &own, 5, 12, &factory);
            assert!(first.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

/// With a third of the labels wrong, the robust weights answer better than none.
#[test]
fn wrong_labels_lose_their_say() {
    let mut random = Random(11);
    let (_, _, bytes) = factory(&mut random, 4, 10);
    let mut own = samples(&mut random, 4, 10, 9, 40.0);
    let test = samples(&mut random, 4, 10, 100, 40.0);
    for sample in own.iter_mut().step_by(3) {
        sample.1 = (sample.1 + 1) % 4;
    }
    let right = |wrong_labels: f32| {
        let settings = Settings { wrong_labels, ..Settings::DEFAULT };
        let head = head(settings, Some(bytes.get()), &own, 4, 10, &[0.0; 44]);
        test.iter().filter(|(x, y)| answer(&head, x, 4) == *y).count()
    };
    let (robust, plain) = (right(0.3), right(0.0));
    assert!(robust > plain && robust > 380, "{robust} {plain}");
}

/// No sample, one sample, one class, one value throughout, dead features, the ends of the range, far too many labels that
/// are none: a head of numbers.
#[test]
fn degenerate_samples_give_finite_heads() {
    let mut random = Random(13);
    let (_, _, bytes) = factory(&mut random, 3, 6);
    let dead = Bytes::of(&[0.0; 6], &[0; 18], &[0; 15]);
    let flat = |x: i16, class: usize| (vec![x; 6], class);
    let one_class: Vec<Sample> =
        samples(&mut random, 3, 6, 5, 0.0).into_iter().map(|(x, _)| (x, 2)).collect();
    let cases: [&[Sample]; 7] = [
        &[],
        &[flat(100, 1)],
        &one_class,
        &[flat(0, 0), flat(0, 1), flat(0, 2)],
        &[flat(255, 0), flat(-255, 1), flat(255, 2), flat(-255, 0)],
        &[flat(9, 3), flat(9, usize::MAX)],
        &[(vec![0, 0, 200, 0, 0, 0], 0), (vec![0, 0, 20, 0, 0, 0], 1)],
    ];
    for (index, own) in cases.into_iter().enumerate() {
        for statistics in [None, Some(bytes.get()), Some(dead.get())] {
            for factory in [[0.0; 21], [100.0; 21]] {
                let head = head(Settings::DEFAULT, statistics, own, 3, 6, &factory);
                assert!(head.iter().all(|w| w.is_finite()), "{index}: {head:?}");
            }
        }
    }
}

/// Many features that never change, and labels that contradict one another: what rounding leaves of the covariance must not
/// become a head that is no number, or one that answers anything but the factory's mean.
#[test]
fn features_that_never_change_give_finite_heads() {
    for features in [24, 64, 128] {
        for value in [1, 60, 97, 255] {
            for count in [2, 8, 63, 300] {
                let own: Vec<Sample> = (0..count).map(|index| (vec![value; features], index % 2)).collect();
                let factory = vec![0.0; 2 * (features + 1)];
                let head = head(Settings::DEFAULT, None, &own, 2, features, &factory);
                assert!(head.iter().all(|w| w.abs() < 1.0), "{features} {value} {count}: {head:?}");
            }
        }
    }
}

/// A subject of the factory's own kind: with few samples, the head keeps to the factory's means, and answers better than one whose
/// factory counts as two samples throughout would.
#[test]
fn where_the_factory_fits_its_means_count_as_many_samples() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..10 {
        let mut random = Random(100 + seed);
        let (mu, s, bytes) = factory(&mut random, 4, 24);
        // Noisier than the factory's, so that means of few samples mislead.
        let noisy = |random: &mut Random, each: usize| -> Vec<Sample> {
            let mut own = samples(random, 4, 24, each, 0.0);
            own.iter_mut().flat_map(|(x, _)| x).for_each(|x| *x += (40.0 * random.normal()) as i16);
            own.iter_mut().flat_map(|(x, _)| x).for_each(|x| *x = (*x).clamp(-255, 255));
            own
        };
        let (own, test) = (noisy(&mut random, 3), noisy(&mut random, 100));
        let settings = Settings { rounds: 1, ..Settings::DEFAULT };
        let offset = vec![0.0; 24];
        assert!(measured_prior(settings, &mu, &s, &own, &[1.0; 12], &offset) > 4.0);
        let right = |head: &[f32]| test.iter().filter(|(x, y)| answer(head, x, 4) == *y).count();
        kept += right(&head(settings, Some(bytes.get()), &own, 4, 24, &[0.0; 100]));
        let fixed: Vec<f32> =
            textbook(settings, Some(2.0), &mu, &s, &own).into_iter().map(|w| w as f32).collect();
        lost += right(&fixed);
    }
    assert!(kept > lost, "{kept} {lost}");
}

/// Without samples the factory's statistics alone answer.
#[test]
fn without_samples_the_factory_answers() {
    let mut random = Random(17);
    let (_, _, bytes) = factory(&mut random, 4, 8);
    let head = head(Settings::DEFAULT, Some(bytes.get()), &[], 4, 8, &[0.0; 36]);
    let test = samples(&mut random, 4, 8, 50, 0.0);
    let right = test.iter().filter(|(x, y)| answer(&head, x, 4) == *y).count();
    assert!(right > 190, "{right}");
}

#[test]
fn sums_hold_the_largest_features_of_the_most_samples() {
    let (mut head, mut scratch) = ([0.0; 2], [0; scratch_words(1, 1)]);
    let most = 33_025;
    assert!(ClosedForm::new(Settings::DEFAULT, None, most + 1, (1, 1), &mut head, &mut scratch).is_none());
    let mut solver = ClosedForm::new(Settings::DEFAULT, None, most, (1, 1), &mut head, &mut scratch).unwrap();
    let mut slices = 0;
    while solver.next() != Next::Done {
        match solver.next() {
            Next::Sample(_) => solver.add([255].into_iter(), 0),
            _ => solver.compute(),
        }
        slices += 1;
    }
    // Passes for the factory's answers and for the scale, and four rounds, each with means, one row and one class.
    assert_eq!(slices, 6 * most + 4 * 3);
}

#[test]
fn lengths_that_do_not_match_are_refused() {
    let bytes = Bytes::of(&[1.0, 1.0], &[0; 4], &[0]);
    assert!(Statistics::new(bytes.get(), 2, 3).is_none());
    assert!(Statistics::new(&bytes.get()[..12], 2, 2).is_none());
    let negative = Bytes::of(&[1.0, -1.0], &[0; 4], &[0]);
    let not_a_number = Bytes::of(&[1.0, f32::NAN], &[0; 4], &[0]);
    assert!([negative, not_a_number].iter().all(|bytes| Statistics::new(bytes.get(), 2, 2).is_none()));
    let statistics = Statistics::new(bytes.get(), 2, 2).unwrap();
    let (mut head, mut scratch) = (vec![0.0; 6], vec![0; scratch_words(2, 2)]);
    let mut new = |classes, features, floats: usize, words: usize| {
        let (head, scratch) = (&mut head[..floats], &mut scratch[..words]);
        ClosedForm::new(Settings::DEFAULT, Some(statistics), 1, (classes, features), head, scratch).is_some()
    };
    let words = scratch_words(2, 2);
    assert!(new(2, 2, 6, words));
    assert!(!new(2, 2, 5, words) && !new(2, 2, 6, words - 1) && !new(1, 2, 3, words) && !new(0, 2, 0, words));
}
