//! Gestures with a wand: three named users, acceleration on three axes.

use super::{Corpus, Standard, factory};
use crate::experiments::start::Pretraining;
use anyhow::{Context, Result};
use flatmin_sim::subject::Labelled;
use std::path::Path;

/// Every recording is resampled to this many places: gestures differ in how long they take.
const PLACES: usize = 32;
const GESTURES: [&str; 3] = ["wing", "ring", "slope"];
const USERS: [&str; 3] = ["dengyl", "hyw", "jiangyh"];
/// Shorter recordings are none.
const SHORTEST: usize = 40;

struct Recording {
    gesture: usize,
    user: usize,
    features: Vec<f64>,
}

/// A user whom the factory does not know: the first half of each gesture's recordings adapts, the rest tests.
pub fn new_user(folder: &Path, subject: usize, pretraining: Option<Pretraining>) -> Result<Corpus> {
    let recordings = read(folder)?;
    let others = recordings.iter().filter(|r| r.user + 1 != subject);
    let reference: Vec<Vec<f64>> = others.clone().map(|r| r.features.clone()).collect();
    let standard = Standard::of(&reference)?;
    let int8 = |r: &Recording| -> Labelled { (standard.int8(&r.features), r.gesture) };
    let known: Vec<Labelled> = others.map(int8).collect();
    let network = factory(Standard::AFFINE, &[3 * PLACES, 24, GESTURES.len()], &known, 30, pretraining)?;
    let (mut pool, mut test) = (Vec::new(), Vec::new());
    for gesture in 0..GESTURES.len() {
        let own: Vec<_> =
            recordings.iter().filter(|r| r.user + 1 == subject && r.gesture == gesture).collect();
        let (first, second) = own.split_at(own.len() / 2);
        pool.extend(first.iter().map(|r| int8(r)));
        test.extend(second.iter().map(|r| int8(r)));
    }
    Ok(Corpus { network, known, pool, test, classes: GESTURES.len() })
}

fn read(folder: &Path) -> Result<Vec<Recording>> {
    let path = folder.join("gesture_magic_wand/gestures.csv");
    let mut table =
        csv::Reader::from_path(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut all: Vec<(String, String, String, Vec<[f64; 3]>)> = Vec::new();
    for row in table.records() {
        let row = row.with_context(|| path.display().to_string())?;
        let field = |index: usize| row.get(index).context("gestures.csv: a field is missing");
        let (gesture, user, recording) = (field(0)?, field(1)?, field(2)?);
        let axis = |index: usize| anyhow::Ok(field(index)?.trim().parse::<f64>()?);
        let place = [axis(4)?, axis(5)?, axis(6)?];
        match all.last_mut() {
            Some((g, u, r, places)) if g == gesture && u == user && r == recording => places.push(place),
            _ => all.push((gesture.into(), user.into(), recording.into(), vec![place])),
        }
    }
    let known = all.iter().filter(|(_, _, _, places)| places.len() >= SHORTEST);
    let recording = |(gesture, user, _, places): &(String, String, String, Vec<[f64; 3]>)| {
        let gesture = GESTURES.iter().position(|known| known == gesture)?;
        let user = USERS.iter().position(|known| known == user)?;
        Some(Recording { gesture, user, features: resampled(places) })
    };
    Ok(known.filter_map(recording).collect())
}

/// Linear between neighbours.
fn resampled(places: &[[f64; 3]]) -> Vec<f64> {
    let last = places.len() - 1;
    (0..PLACES)
        .flat_map(|index| {
            let at = index as f64 * last as f64 / (PLACES - 1) as f64;
            let (below, share) = (at.floor() as usize, at - at.floor());
            let above = (below + 1).min(last);
            [0, 1, 2].map(|axis| places[below][axis] + share * (places[above][axis] - places[below][axis]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_straight_line_stays_one() {
        let line: Vec<[f64; 3]> = (0..90).map(|t| [f64::from(t), 0.0, -2.0 * f64::from(t)]).collect();
        let places = super::resampled(&line);
        for (index, place) in places.chunks(3).enumerate() {
            let expected = 89.0 * index as f64 / 31.0;
            assert!(
                (place[0] - expected).abs() < 1e-9
                    && place[1] == 0.0
                    && (place[2] + 2.0 * expected).abs() < 1e-9
            );
        }
    }
}
