//! Sets of layers, by what training each alone brings, and a beam through them.

use super::Cost;
use super::plan_of;
use super::space::WAYS;
use anyhow::Result;
use flatmin::internals::pack::format::operator as code;
use flatmin_model::packer::{Network, TailPlan, Trains};
use std::collections::HashSet;

/// Sets that are kept from one round of the search to the next.
const BEAM: usize = 8;

/// One layer trained in one way, all others frozen.
#[derive(Debug, Clone)]
pub(super) struct Single {
    /// Of the layers that are searched, which.
    layer: usize,
    /// What of it.
    pub trains: Trains,
    /// Index into [`Network::steps`].
    pub step: usize,
    pub plan: TailPlan,
}

/// The last layers, and what is known of training each alone.
#[derive(Default)]
pub(super) struct Layers {
    /// Indices into [`Network::steps`], and whether a share of the channels can be trained.
    layers: Vec<(usize, bool)>,
    /// Of every layer, by what of it: the gain.
    gains: Vec<Vec<(Trains, f64)>>,
}

impl Layers {
    pub fn new(network: &Network, depth: usize) -> Self {
        let cut = network.cut(depth);
        let weighted = network.steps.iter().enumerate().skip(cut).filter(|(_, step)| step.has_weights());
        let layers: Vec<_> =
            weighted.map(|(place, step)| (place, step.kind != code::DEPTHWISE_CONV_2D)).collect();
        Self { gains: vec![Vec::new(); layers.len()], layers }
    }

    /// Every layer in every way.
    pub fn singles(&self) -> Vec<Single> {
        let mut all = Vec::new();
        for (layer, &(step, shares)) in self.layers.iter().enumerate() {
            for trains in WAYS {
                if shares || !matches!(trains, Trains::Percent(_)) {
                    let mut set = vec![Trains::Nothing; self.layers.len()];
                    set[layer] = trains;
                    all.push(Single { layer, trains, step, plan: plan_of(&set) });
                }
            }
        }
        all
    }

    /// What a single layer brought.
    pub fn record(&mut self, single: &Single, gain: f64) {
        self.gains[single.layer].push((single.trains, gain));
    }

    /// Sets of two layers or more, within the budget, that promise most by the sum of their gains: those that no cheaper
    /// set promises to beat, the largest promises first. `cost` says what a plan takes, or that it takes too much.
    pub fn promising(
        &self,
        most: usize,
        cost: impl Fn(&TailPlan) -> Result<Option<Cost>>,
    ) -> Result<Vec<TailPlan>> {
        let mut beam: Vec<(Vec<Trains>, f64)> = vec![(vec![Trains::Nothing; self.layers.len()], 0.0)];
        let mut known = HashSet::new();
        let mut found: Vec<(TailPlan, usize, f64)> = Vec::new();
        for round in 0..self.layers.len() {
            let mut next: Vec<(Vec<Trains>, f64)> = Vec::new();
            for (set, promise) in &beam {
                for (layer, gains) in self.gains.iter().enumerate() {
                    if set[layer] != Trains::Nothing {
                        continue;
                    }
                    for &(trains, gain) in gains.iter().filter(|(_, gain)| *gain > 0.0) {
                        let mut set = set.clone();
                        set[layer] = trains;
                        if !known.insert(set.clone()) {
                            continue;
                        }
                        let Some(cost) = cost(&plan_of(&set))? else { continue };
                        let promise = promise + gain;
                        if round > 0 {
                            found.push((plan_of(&set), cost.ram_bytes, promise));
                        }
                        next.push((set, promise));
                    }
                }
            }
            next.sort_by(|a, b| b.1.total_cmp(&a.1));
            next.truncate(BEAM);
            beam = next;
        }
        Ok(best_of(found, most))
    }
}

/// Those that no cheaper set beats, then the largest promises.
fn best_of(mut found: Vec<(TailPlan, usize, f64)>, most: usize) -> Vec<TailPlan> {
    found.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.1.cmp(&b.1)));
    let mut least = usize::MAX;
    let (mut undominated, mut others) = (Vec::new(), Vec::new());
    for (plan, ram, _) in found {
        if ram < least {
            least = ram;
            undominated.push(plan);
        } else {
            others.push(plan);
        }
    }
    undominated.into_iter().chain(others).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Layers {
        let gains = [(Trains::Biases, 0.1), (Trains::All, 0.3)];
        Layers {
            layers: vec![(0, true), (1, true), (2, false)],
            gains: vec![gains.into(), vec![(Trains::Scales, 0.2)], vec![(Trains::All, -0.1)]],
        }
    }

    #[test]
    fn the_beam_finds_the_best_affordable_set() {
        let within = |budget: usize| {
            move |plan: &TailPlan| {
                let each = (0..plan.layers).map(|layer| match plan.trains(layer) {
                    Trains::All => 100,
                    Trains::Nothing => 0,
                    _ => 10,
                });
                let cost = Cost { ram_bytes: each.sum(), step_macs: 0, parameters: 0 };
                Ok(Some(cost).filter(|cost| cost.ram_bytes <= budget))
            }
        };
        let first = |found: Vec<TailPlan>| found[0].trains.clone();
        let none = Trains::Nothing;
        let rich = space().promising(16, within(200)).unwrap();
        assert_eq!(first(rich), [Trains::All, Trains::Scales, none]);
        let poor = space().promising(16, within(50)).unwrap();
        assert_eq!(first(poor), [Trains::Biases, Trains::Scales, none]);
        assert_eq!(space().promising(16, within(15)).unwrap(), []);
    }

    #[test]
    fn depthwise_layers_have_no_shares() {
        let singles = space().singles();
        assert_eq!(singles.len(), 5 + 5 + 3);
        assert_eq!(singles[12].plan, TailPlan::of(1));
        assert_eq!(singles[0].plan.layers, 3);
    }
}
