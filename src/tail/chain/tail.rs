//! The chain as a [`Tail`]: what a step asks of it, over flat workspaces.

use super::{Ascended, DenseChain, Workspace};
use crate::cpu::block::TOGETHER;
use crate::optim::{BiasTreatment, Geometry, Segment};
use crate::part::Part;
use crate::recipe::Ascent;
use crate::tail::{Loss, Tail, Target};

impl Tail for DenseChain {
    fn parameters(&self) -> usize {
        self.parameters
    }

    fn features(&self) -> usize {
        Self::features(self)
    }

    fn classes(&self) -> usize {
        Self::classes(self)
    }

    fn objective(&self) -> Loss {
        self.objective
    }

    fn workspace_floats(&self) -> usize {
        Self::workspace_length(Self::features(self), self.outputs)
    }

    fn segments(&self) -> impl Iterator<Item = Segment> + Clone {
        Self::segments(self)
    }

    fn set_classes(&mut self, classes: usize) {
        self.spare = self.layers.last().map_or(0, |l| l.shape.outputs.saturating_sub(classes));
    }

    fn forward_macs(&self) -> u64 {
        Self::forward_macs(self)
    }

    fn backward_macs(&self) -> u64 {
        self.step_macs(None, false) - Self::forward_macs(self)
    }

    fn step_macs(&self, geometry: Option<&Geometry>, stored: bool) -> u64 {
        Self::step_macs(self, geometry, stored)
    }

    fn forward_loss(&self, parameters: &[f32], target: Target, workspace: &mut [f32]) -> f32 {
        match Workspace::new(self, workspace) {
            Some(mut workspace) => self.first_pass(parameters, target, &mut workspace),
            None => f32::NAN,
        }
    }

    fn forward_ranges(
        &self,
        parameters: &[f32],
        workspace: &mut [f32],
        see: &mut dyn FnMut(usize, f32, f32),
    ) {
        let Some(mut workspace) = Workspace::new(self, workspace) else { return };
        self.forward(parameters, &mut workspace);
        self.for_each_range(&workspace, see);
    }

    fn backward(
        &self,
        _: &[f32],
        scale: f32,
        bias: BiasTreatment,
        workspace: &mut [f32],
        gradient: &mut [f32],
    ) {
        if let Some(workspace) = Workspace::new(self, workspace) {
            self.accumulate(scale, bias, &workspace, false, gradient);
        }
    }

    fn output<'w>(&self, workspace: &'w [f32]) -> &'w [f32] {
        let end = Self::features(self) + self.outputs - self.spare.min(self.outputs);
        workspace.part(end.saturating_sub(Self::classes(self))..end)
    }

    fn last_input<'w>(&self, workspace: &'w [f32]) -> &'w [f32] {
        let Some(last) = self.layers.last() else { return &[] };
        // The outputs of the layer before lie in front of its own, those of the first after the features.
        let end = Self::features(self) + last.outputs;
        workspace.part(end.saturating_sub(last.shape.inputs)..end)
    }

    fn ascends_unstored(&self) -> bool {
        true
    }

    #[inline(always)]
    fn gradient_is_finite(&self, workspace: &[f32]) -> bool {
        let parts = workspace.split_at_checked(Self::features(self)).and_then(|(features, rest)| {
            let (outputs, rest) = rest.split_at_checked(self.outputs)?;
            Some((features, outputs, rest.get(..self.outputs)?))
        });
        parts.is_some_and(|(features, outputs, deltas)| {
            self.norm_squared(features, outputs, deltas).is_finite()
        })
    }

    fn ascend_unstored<'w>(
        &self,
        parameters: &[f32],
        ascent: Option<&Ascent>,
        target: Target,
        workspace: &'w mut [f32],
    ) -> Option<Ascended<'_, 'w>> {
        let mut workspace = Workspace::new(self, workspace)?;
        let mut slope = 0.0;
        let risen = ascent.and_then(|Ascent { rho, geometry }| {
            let norm = self.ascent_norm_squared(parameters, geometry, &mut workspace);
            let c = geometry.step_length(*rho, norm)?;
            slope = c * norm;
            Some(self.perturbed_pass(parameters, geometry, c, target, &mut workspace))
        });
        Some(Ascended { chain: self, workspace, risen, slope })
    }

    fn together(&self) -> usize {
        TOGETHER
    }

    fn pass_many(&self, parameters: &[f32], targets: &[Target], workspaces: &mut [f32], losses: &mut [f32]) {
        self.first_passes(parameters, targets, &mut self.workspaces(workspaces, targets.len()), losses);
    }

    fn accumulate_many(
        &self,
        _: &[f32],
        count: usize,
        scale: f32,
        bias: BiasTreatment,
        workspaces: &mut [f32],
        gradient: &mut [f32],
    ) {
        self.accumulate_together(scale, bias, &self.workspaces(workspaces, count), gradient);
    }
}
