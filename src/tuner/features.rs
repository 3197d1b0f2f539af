//! A stored latent as the tail's f32 features.

use super::observe::target_affine;
use crate::pack::Pack;
use crate::replay::Replay;
use crate::tail::{Kept, Loss, Target};

/// Writes a latent as the tail's features; returns what its output is compared with.
pub(super) fn load<'r>(replay: &'r Replay, slot: usize, pack: &Pack, features: &mut [f32]) -> Target<'r> {
    if let Some((latent, _)) = replay.get(slot) {
        write_features(pack, latent, features);
    }
    target(replay, slot, pack)
}

/// What the output of a sample is compared with.
pub(super) fn target<'r>(replay: &'r Replay, slot: usize, pack: &Pack) -> Target<'r> {
    let label = replay.label(slot).unwrap_or(0);
    match pack.loss() {
        Loss::SquaredError => {
            let affine = target_affine(pack, label & Kept::ITSELF != 0);
            Target::Values { values: replay.target(slot), affine }
        }
        _ => usize::from(label).into(),
    }
}

/// `unit * (q - zero_point)` of every element. The unit is the tensor's scale, and a chain's that of the pack.
pub(super) fn write_features(pack: &Pack, latent: &[i8], features: &mut [f32]) {
    let (mut latent, mut features) = (latent, features);
    for tensor in pack.features() {
        let unit = if pack.tail_is_chain() { pack.feature_unit() } else { tensor.affine.scale };
        let (own, behind) = latent.split_at(tensor.len().min(latent.len()));
        let (own_features, features_behind) =
            core::mem::take(&mut features).split_at_mut_checked(own.len()).unwrap_or_default();
        for (feature, &q) in own_features.iter_mut().zip(own) {
            *feature = unit * (i32::from(q) - tensor.affine.zero_point) as f32;
        }
        (latent, features) = (behind, features_behind);
    }
}
