//! The front end of a microphone: a second of made-up sound.

use crate::board::{Board, measured};
use crate::checksum::crc32;
use crate::random::fill;
use flatmin::Affine;
use flatmin::mfcc::{FEATURES, HOP, Mfcc};

/// Of the input of MLPerf Tiny's keyword spotting network.
const INPUT: Affine = Affine { scale: 0.584_702_9, zero_point: 83 };
const SEED: u32 = 0x00c0_ffee;
/// 20 ms each: the second that is heard, and a hop more.
const HOPS: u32 = 51;

/// Prints `front-end hop TICKS 0`, of the last of them, and `front-end features TICKS CRC`.
///
/// # Errors
/// Those of the line.
pub fn run_front_end(board: &mut impl Board) -> core::fmt::Result {
    let mut mfcc = Mfcc::new();
    let (mut noise, mut hop, mut features) = ([0i8; HOP], [0i16; HOP], [0; FEATURES]);
    let mut ticks = 0;
    for index in 0..HOPS {
        fill(SEED.wrapping_add(index), &mut noise);
        // From loud to quiet.
        let gain = 1 << (7 - index / 8);
        for (place, &value) in hop.iter_mut().zip(&noise) {
            *place = i16::from(value) * gain;
        }
        ticks = measured(board, || mfcc.push(&hop));
    }
    writeln!(board, "front-end hop {ticks} 0")?;
    let ticks = measured(board, || mfcc.features(INPUT, &mut features));
    writeln!(board, "front-end features {ticks} {:08x}", crc32(&features))
}
