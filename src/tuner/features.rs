//! A stored latent as the tail's f32 features.

use crate::pack::Pack;
use crate::replay::Replay;

/// Writes a latent as the tail's features; returns the label.
pub(super) fn load(replay: &Replay, slot: usize, pack: &Pack, features: &mut [f32]) -> usize {
    let Some((latent, label)) = replay.get(slot) else { return 0 };
    write_features(pack, latent, features);
    usize::from(label)
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
