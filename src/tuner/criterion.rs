//! The question that every judge asks: of two tails on the same samples, which one is better?

use super::beliefs::Believed;
use crate::math;
use crate::recipe::Recipe;
use crate::tail::{Loss, Target};

/// Losses are summed in steps of 1/4096 nat: below 4,096 nats in all, a sum does not depend on the order of the samples.
const STEPS_A_NAT: f32 = 4096.0;

/// What tails are compared by: more right answers, then a smaller loss, the very one that they are trained with. Plain
/// cross-entropy would prefer a confident tail to one that was trained to be less so. `keep_best` and, on the desktop, the
/// searches for a recipe and for a plan ask this one question; `accept` asks how many answers are right, wrong labels reckoned with.
/// [`crate::Tuner::criterion`] has an example.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Criterion {
    /// Label smoothing of the loss.
    pub smoothing: f32,
}

impl Criterion {
    /// The question of a run of `recipe`.
    /// [`crate::Tuner::criterion`] is that of a tuner's run.
    pub const fn of(recipe: &Recipe) -> Self {
        Self { smoothing: recipe.label_smoothing }
    }

    /// A sample's target with the smoothing that tails are trained with.
    /// [`crate::Tuner::score_by`] scores by it.
    pub fn target(self, target: Target<'_>) -> Target<'_> {
        target.smoothed(self.smoothing)
    }

    /// A sample's loss as it is summed: of labels in whole steps of 1/4096 nat.
    pub(super) fn summand(loss: f32, objective: Loss) -> f32 {
        if objective.has_answers() { math::round(loss * STEPS_A_NAT) / STEPS_A_NAT } else { loss }
    }
}

/// How a tail does on the samples that judge it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Judgement {
    /// Samples that judged.
    pub samples: u32,
    /// Samples among them whose label is the answer ([`crate::Tuner::answer`]): all of its bits, where it is bits. 0 for a
    /// squared error, where the loss alone judges.
    pub right: u32,
    /// Mean loss as it is trained, label smoothing included ([`Criterion`]), in nats; a squared error in the output's
    /// units, squared.
    pub loss: f32,
}

impl Judgement {
    /// A judgement by no sample.
    pub(crate) const NONE: Self = Self { samples: 0, right: 0, loss: 0.0 };

    /// Share of samples that are right.
    /// [`crate::Tuner::judge`] has an example.
    pub fn accuracy(&self) -> f32 {
        self.right as f32 / self.samples.max(1) as f32
    }

    /// Takes a sample's loss, and whether it is right, into a judgement that is still a sum.
    pub(crate) fn add(&mut self, sample: Option<(f32, bool)>) {
        if let Some((loss, right)) = sample {
            self.samples += 1;
            self.right += u32::from(right);
            self.loss += loss;
        }
    }

    /// Turns the sum into means; `None` without a sample.
    pub(crate) fn mean(mut self) -> Option<Self> {
        self.loss /= self.samples as f32;
        Some(self).filter(|judgement| judgement.samples > 0)
    }

    /// Strictly better on the same samples: more of them right, or as many at a smaller loss. A loss of NaN is never
    /// better.
    ///
    /// ```
    /// use flatmin::Judgement;
    /// let before = Judgement { samples: 10, right: 8, loss: 0.5 };
    /// assert!(Judgement { right: 9, loss: 0.9, ..before }.is_better_than(&before));
    /// assert!(Judgement { loss: 0.4, ..before }.is_better_than(&before));
    /// assert!(!before.is_better_than(&before));
    /// ```
    pub fn is_better_than(&self, other: &Self) -> bool {
        self.right > other.right || self.right == other.right && self.loss < other.loss
    }
}

/// Two tails' answers to the same samples: how many the second alone gets right, and how many the first alone does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Pairs {
    /// Samples that were wrong and are right.
    pub gained: u32,
    /// Samples that were right and are wrong.
    pub lost: u32,
}

impl Pairs {
    /// Takes a sample in: whether the first tail, and whether the second, gets it right.
    /// [`Self::evidence`] has an example.
    pub fn add(&mut self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => self.gained += 1,
            (true, false) => self.lost += 1,
            _ => {}
        }
    }

    /// The sign test at so many standard deviations: of `n` samples on which two equal tails differ, as many are gained as
    /// lost, give or take `sqrt(n)`.
    ///
    /// ```
    /// use flatmin::{Evidence, Pairs};
    /// assert_eq!(Pairs { gained: 2, lost: 0 }.evidence(1), Evidence::Better);
    /// assert_eq!(Pairs { gained: 3, lost: 1 }.evidence(1), Evidence::TooFew);
    /// assert_eq!(Pairs { gained: 0, lost: 2 }.evidence(1), Evidence::Worse);
    /// assert_eq!(Pairs { gained: 4, lost: 0 }.evidence(2), Evidence::TooFew);
    /// assert_eq!(Pairs { gained: 5, lost: 0 }.evidence(2), Evidence::Better);
    /// ```
    pub fn evidence(self, deviations: u16) -> Evidence {
        let Self { gained, lost } = self;
        let (more, differ) = (u64::from(gained.abs_diff(lost)), u64::from(gained) + u64::from(lost));
        let square = u64::from(deviations) * u64::from(deviations);
        // Two counts of 32 bits: the square fits, and the bound saturates where it would not.
        match more * more > differ.saturating_mul(square) {
            true if gained > lost => Evidence::Better,
            true => Evidence::Worse,
            false => Evidence::TooFew,
        }
    }
}

/// What the samples that judge show of a tail, beside the one in force.
/// [`crate::Tuner::accept`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum Evidence {
    /// By a whole sample or more, it answers more of them right, as far as that is known; or held-out ones show it alone, at two standard
    /// deviations. Of questions with two answers: more right answers to held-out samples than chance explains, by one
    /// standard deviation where five labels in eight are those of the factory's tail, or five held-out ones in eight those
    /// of the candidate, else by two. Of a squared error: a smaller loss.
    Better,
    /// By as much it answers fewer of them right, than the tail in force or the factory's; or held-out ones show it alone, at
    /// one standard deviation.
    Worse,
    /// Too few samples to tell, or too few answers that have changed: the smallest gain decides. Of questions with two
    /// answers the trained loss and the labels do ([`Labels::are_credible`]).
    TooFew,
    /// No weight has moved: there is nothing to judge.
    Unmoved,
}

/// How far the labels in the replay are those that the factory's tail gives, too. It was not trained on any of them: all
/// can tell, not the held-out ones alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Labels {
    /// Samples whose label the factory's tail knows.
    pub samples: u32,
    /// Samples among them whose label is its answer.
    pub agreed: u32,
}

impl Labels {
    /// Whether labels are to be believed, where they are no classes: then a tail may be taken that held-out samples say too
    /// little of. The factory's tail agrees with five labels in eight or more. Where fewer agree, either many labels are wrong, and a tail that has learnt them is usually worse
    /// than before, or the factory is so bad that held-out samples show what tuning gains. Without labels there is nothing
    /// to doubt.
    ///
    /// ```
    /// use flatmin::Labels;
    /// assert!(Labels { samples: 63, agreed: 40 }.are_credible());
    /// assert!(!Labels { samples: 63, agreed: 39 }.are_credible());
    /// ```
    pub fn are_credible(self) -> bool {
        8 * u64::from(self.agreed) >= 5 * u64::from(self.samples)
    }
}

/// What [`crate::Tuner::accept`] decided, and why: the int8 tails on the same samples.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Acceptance {
    /// The tail as packed.
    pub factory: Judgement,
    /// The tail that was in force before: the last one accepted, requantized or restored, else the factory's.
    pub running: Judgement,
    /// The tail that the current weights make; where they are still those of the running tail, that one.
    pub candidate: Judgement,
    /// What the samples show of the candidate.
    pub evidence: Evidence,
    /// What the replay shows of its labels.
    pub labels: Labels,
    /// The candidate is in force; else the running tail still is.
    pub accepted: bool,
    /// The running tail gave its place to the candidate, which was rejected: the factory's is in force until the former one is
    /// restored ([`crate::Tuner::awaits_restore`]). Not sent over a link: a device restores by itself.
    #[cfg_attr(feature = "wire", serde(skip))]
    pub restore: bool,
}

impl Acceptance {
    /// What pairs show of a candidate, beside the factory's tail and beside the one in force; `judging` are the labels of held-out
    /// samples, and how many of them the candidate gives: none are, where it was tuned on all.
    pub(super) fn evidence(beside: [Pairs; 2], labels: Labels, judging: Option<Labels>) -> Evidence {
        if beside.iter().any(|pairs| pairs.evidence(1) == Evidence::Worse) {
            return Evidence::Worse;
        }
        // Right answers to what a tail was tuned on are no gain.
        let Some(judging) = judging else { return Evidence::TooFew };
        // Random labels are gained by chance. Labels that a tail gives without having been tuned on them are not random.
        let credible = labels.are_credible() || judging.are_credible();
        beside[1].evidence(if credible { 1 } else { 2 })
    }

    /// Harm that held-out samples show at one deviation decides, and a gain at two. Else a candidate is taken if more of its answers are believed
    /// to be right than of both tails before: `gain`, beside the factory's and beside the one in force.
    pub(super) fn believed(
        judgements: [Judgement; 3],
        beside: [Pairs; 2],
        gain: [i64; 2],
        labels: Labels,
        held_out: bool,
    ) -> Self {
        let [factory, running, candidate] = judgements;
        let shown = |deviations| match held_out {
            true => beside.map(|pairs| pairs.evidence(deviations)),
            false => [Evidence::TooFew; 2],
        };
        let [beside_factory, beside_running] = gain;
        let least = beside_factory.min(beside_running);
        let evidence = match shown(2) {
            _ if shown(1).contains(&Evidence::Worse) => Evidence::Worse,
            [_, Evidence::Better] => Evidence::Better,
            _ if least >= Believed::ONE => Evidence::Better,
            _ if least <= -Believed::ONE => Evidence::Worse,
            _ => Evidence::TooFew,
        };
        let accepted = match evidence {
            Evidence::TooFew => beside_running > 0 && beside_factory >= 0,
            evidence => evidence == Evidence::Better,
        };
        Self { factory, running, candidate, evidence, labels, accepted, restore: false }
    }

    /// A candidate is taken if the samples show that it is better. If they are too few to show anything, it is taken if its
    /// loss on them is smaller and the labels are credible.
    pub(super) fn decide(judgements: [Judgement; 3], evidence: Evidence, labels: Labels) -> Self {
        let [factory, running, candidate] = judgements;
        let accepted = match evidence {
            Evidence::Better => true,
            Evidence::TooFew => candidate.loss < running.loss && labels.are_credible(),
            Evidence::Worse | Evidence::Unmoved => false,
        };
        Self { factory, running, candidate, evidence, labels, accepted, restore: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: of 1 sample that differs the bound is 1, of 4 it is 2, of 5 it is 2.24, of 9 it is 3, of 10 it is 3.16.
    #[test]
    fn pairs_show_what_chance_does_not_explain() {
        use Evidence::{Better, TooFew, Worse};
        for (gained, lost, expected) in
            [(1, 0, TooFew), (2, 0, Better), (3, 1, TooFew), (4, 1, Better), (6, 3, TooFew), (7, 3, Better)]
        {
            assert_eq!(Pairs { gained, lost }.evidence(1), expected, "{gained} gained, {lost} lost");
            let reverse = if expected == Better { Worse } else { TooFew };
            assert_eq!(Pairs { gained: lost, lost: gained }.evidence(1), reverse);
        }
        assert_eq!(Pairs { gained: u32::MAX, lost: 0 }.evidence(u16::MAX), Better);
        let mut pairs = Pairs::default();
        [(false, false), (true, true), (false, true), (true, false), (false, true)]
            .into_iter()
            .for_each(|(before, after)| pairs.add(before, after));
        assert_eq!(pairs, Pairs { gained: 2, lost: 1 });
    }

    #[test]
    fn doubtful_labels_take_two_deviations_and_harm_is_seen_at_one() {
        let [good, bad] = [5, 4].map(|agreed| Labels { samples: 8, agreed });
        let [two_gained, six_gained, two_lost] =
            [(2, 0), (6, 0), (0, 2)].map(|(gained, lost)| Pairs { gained, lost });
        let shown = |pairs, labels, judging| Acceptance::evidence([Pairs::default(), pairs], labels, judging);
        assert_eq!(shown(two_gained, good, Some(bad)), Evidence::Better);
        assert_eq!(shown(two_gained, bad, Some(good)), Evidence::Better);
        assert_eq!(shown(two_gained, bad, Some(bad)), Evidence::TooFew);
        assert_eq!(shown(six_gained, bad, Some(bad)), Evidence::Better);
        assert_eq!(shown(six_gained, good, None), Evidence::TooFew);
        for judging in [None, Some(good)] {
            assert_eq!(shown(two_lost, good, judging), Evidence::Worse);
        }
        let beside_factory = Acceptance::evidence([two_lost, two_gained], good, Some(good));
        assert_eq!(beside_factory, Evidence::Worse);
    }

    #[test]
    fn harm_takes_one_deviation_of_held_out_samples_and_a_gain_two() {
        let running = Judgement { samples: 14, right: 10, loss: 1.0 };
        let labels = Labels { samples: 63, agreed: 40 };
        let taken = |gained, lost, gain, held_out| {
            let pairs = [Pairs { gained, lost }; 2];
            let own = Acceptance::believed([running; 3], pairs, gain, labels, held_out);
            (own.accepted, own.evidence)
        };
        // 4,096 parts are a sample.
        for (gained, lost, gain, held_out, expected) in [
            (0, 2, [9_000; 2], true, (false, Evidence::Worse)),
            (0, 2, [9_000; 2], false, (true, Evidence::Better)),
            (2, 0, [-1; 2], true, (false, Evidence::TooFew)),
            (5, 0, [-9_000; 2], true, (true, Evidence::Better)),
            (0, 0, [0, 1], true, (true, Evidence::TooFew)),
            (0, 0, [-1, 1], true, (false, Evidence::TooFew)),
            (0, 0, [4_096, 0], true, (false, Evidence::TooFew)),
            (0, 0, [4_096, -4_096], true, (false, Evidence::Worse)),
        ] {
            assert_eq!(taken(gained, lost, gain, held_out), expected, "{gained} {lost} {gain:?} {held_out}");
        }
    }

    #[test]
    fn what_pairs_do_not_show_loss_and_labels_decide_together() {
        let running = Judgement { samples: 14, right: 10, loss: 1.0 };
        let [lower, higher] = [0.9, 1.1].map(|loss| Judgement { loss, ..running });
        let [good, bad] = [40, 39].map(|agreed| Labels { samples: 63, agreed });
        let taken = |candidate, evidence, labels| {
            Acceptance::decide([running, running, candidate], evidence, labels).accepted
        };
        assert!(taken(lower, Evidence::TooFew, good));
        assert!(!taken(lower, Evidence::TooFew, bad));
        assert!(!taken(higher, Evidence::TooFew, good));
        assert!(!taken(Judgement { loss: f32::NAN, ..running }, Evidence::TooFew, good));
        assert!(taken(higher, Evidence::Better, bad));
        assert!(!taken(lower, Evidence::Worse, good));
        assert!(!taken(lower, Evidence::Unmoved, good));
    }

    /// Sums of whole steps are exact: no order gives another.
    #[test]
    fn the_order_of_samples_does_not_matter() {
        let losses =
            [0.1, 2.3, 1e-4, 7.77, 0.33, 5.0, 1.0 / 3.0].map(|l| Criterion::summand(l, Loss::CrossEntropy));
        let sum = |order: [usize; 7]| {
            let mut sum = Judgement::NONE;
            order.into_iter().for_each(|i| sum.add(Some((losses[i], i % 2 == 0))));
            sum.mean().unwrap()
        };
        let first = sum([0, 1, 2, 3, 4, 5, 6]);
        for order in [[6, 5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 6, 2, 4], [2, 4, 6, 0, 1, 3, 5]] {
            assert_eq!(sum(order), first);
        }
        assert!(Criterion::summand(f32::NAN, Loss::CrossEntropy).is_nan());
        // Squared errors may be of any unit.
        assert_eq!(Criterion::summand(1e-6, Loss::SquaredError), 1e-6);
    }
}
