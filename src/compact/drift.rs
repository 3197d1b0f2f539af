//! How well samples are known before they are trained on: as [`crate::Tuner::watch`] has it.

use super::pass::Workspace;
use super::tuner::CompactTuner;
use crate::tuner::as_int8;

impl CompactTuner<'_> {
    /// Takes in the sample whose latent was observed last.
    pub(super) fn follow(&mut self, label: usize) {
        let Some((watch, drift)) = self.watched else { return };
        let Self { chain, weights, scratch, pack, .. } = self;
        let feature = pack.feature();
        // The features' place, two bytes each, may begin anywhere in front of or behind the latent's: so to the front
        // first, then from the last one on, before any is overwritten.
        let arena = as_int8(scratch);
        for i in 0..feature.len() {
            let q = arena.get(feature.arena_offset.saturating_add(i)).copied().unwrap_or(0);
            if let Some(place) = arena.get_mut(i) {
                *place = q;
            }
        }
        for i in (0..feature.len()).rev() {
            let q = as_int8(scratch).get(i).copied().unwrap_or(0);
            let Some(workspace) = Workspace::new(chain, scratch) else { return };
            if let Some(place) = workspace.features.get_mut(i) {
                // From -255 to 255.
                *place = (i32::from(q) - feature.affine.zero_point) as i16;
            }
        }
        let Some(mut workspace) = Workspace::new(chain, scratch) else { return };
        let (loss, _) = chain.loss_and_answer(weights, label, &mut workspace);
        let rise = chain.rise(weights, watch.rho, label, loss, &mut workspace);
        self.watched = Some((watch, drift.with(&watch, loss, rise)));
    }
}
