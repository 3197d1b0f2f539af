//! Gradients at `w` and at `w + e` against candle's automatic differentiation in f64, within bounds that follow
//! from f32 rounding alone (see `reference/rounding.rs`); candle against finite differences; and the identities of
//! the ascent.

// micromath's exp and ln are off by far more than f32 rounding.
#![cfg(not(feature = "micromath"))]

mod reference;

use flatmin::internals::optim::{Geometry, sam};
use flatmin::internals::tail::{DenseChain, Workspace};
use flatmin::{BiasTreatment, Method, Recipe, internals::pack::Activation};
use reference::rounding::{self, Approx};
use reference::{Random, Sample, State, autodiff, gradient, kinds, tail, workspace};

const WIDTHS: [&[usize]; 7] =
    [&[5, 3], &[8, 8], &[1, 2], &[17, 9, 4], &[64, 16, 10], &[24, 13, 7, 5], &[10, 16, 11, 9, 3]];
const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Relu, Activation::Relu6];
const BIASES: [BiasTreatment; 3] = [BiasTreatment::Unit, BiasTreatment::Elementwise, BiasTreatment::Frozen];
const GEOMETRIES: [(Option<f32>, f32); 4] = [(None, 0.05), (None, 0.5), (Some(0.01), 0.5), (Some(0.0), 1.0)];

/// Pre-activations stay farther from the kinks than this, so that neither f32 nor a finite difference crosses.
const CLEARANCE: f64 = 1e-4;

struct Case {
    name: String,
    tail: DenseChain,
    parameters: Vec<f32>,
    sample: Sample,
}

/// Every shape with every activation, on the first seed that gives what `accept` asks for.
fn cases(accept: impl Fn(&Case) -> bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for widths in WIDTHS {
        for activation in ACTIVATIONS {
            let tail = tail(widths, activation);
            let case = (1..1000).find_map(|seed| {
                let mut random = Random::new(seed);
                let mut parameters = random.parameters(&tail);
                let hidden = widths.len() > 2;
                if activation == Activation::Relu6 && hidden {
                    // Large enough for the ceiling to be met.
                    let first = widths[0] * widths[1];
                    parameters[..first].iter_mut().for_each(|w| *w *= 4.0);
                }
                let sample = (random.vector(widths[0], 1.5), random.below(tail.classes()));
                let name = format!("{widths:?} {activation:?} seed {seed}");
                let case = Case { name, tail: tail.clone(), parameters, sample };
                let at_w = case.at_w();
                let [off, full] = at_w.flat.map(|units| units > 0);
                let branches = match activation {
                    Activation::None => true,
                    Activation::Relu => off || !hidden,
                    Activation::Relu6 => off && full || !hidden,
                };
                // A sample that is explained already has a gradient of cancelled digits.
                Some(case).filter(|case| branches && at_w.loss.value > 0.2 && accept(case))
            });
            cases.push(case.unwrap_or_else(|| panic!("no acceptable seed for {widths:?} {activation:?}")));
        }
    }
    cases
}

fn exact(parameters: &[f32]) -> Vec<Approx> {
    parameters.iter().copied().map(Approx::exact).collect()
}

fn wide(parameters: &[f32]) -> Vec<f64> {
    parameters.iter().copied().map(f64::from).collect()
}

impl Case {
    fn at_w(&self) -> rounding::Pass {
        rounding::pass(&self.tail, &exact(&self.parameters), &self.sample.0, self.sample.1)
    }

    fn candle(&self, parameters: &[f64]) -> (f64, Vec<f64>) {
        autodiff::loss_and_gradient(&self.tail, parameters, &self.sample.0, self.sample.1)
    }

    /// The model of the rounding errors carries values of its own: they must be candle's, or its bounds are
    /// about something else.
    fn assert_model(&self, pass: &rounding::Pass, loss: f64, gradient: &[f64]) {
        assert!((pass.loss.value - loss).abs() <= 1e-12 * (1.0 + loss), "{}: loss", self.name);
        let size = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        for (mine, candle) in pass.gradient.iter().zip(gradient) {
            assert!((mine.value - candle).abs() <= 1e-12 * size, "{}: {} {candle}", self.name, mine.value);
        }
    }

    /// Asserts that every element is within its bound of candle's.
    fn assert_gradient(
        &self,
        what: &str,
        found: &[f32],
        candle: &[f64],
        bounds: &[Approx],
        bias: BiasTreatment,
    ) {
        assert_eq!(found.len(), candle.len());
        for (i, is_bias) in kinds(&self.tail).enumerate() {
            let frozen = is_bias && bias == BiasTreatment::Frozen;
            let expected = if frozen { Approx::exact(0.0) } else { Approx { value: candle[i], ..bounds[i] } };
            assert!(
                expected.admits(found[i]),
                "{} {what}: parameter {i}: {} for {} +- {:e}",
                self.name,
                found[i],
                expected.value,
                expected.error
            );
        }
    }
}

/// The bounds' norm over the gradient's. Bounds that admit anything would prove nothing.
fn slack(bounds: &[Approx]) -> f64 {
    let norm = |part: fn(&Approx) -> f64| bounds.iter().map(|b| part(b).powi(2)).sum::<f64>().sqrt();
    norm(|b| b.error) / norm(|b| b.value)
}

#[test]
fn gradients_are_candles_to_rounding() {
    for case in cases(|case| case.at_w().clearance > CLEARANCE) {
        let (loss, expected) = case.candle(&wide(&case.parameters));
        let bounds = case.at_w();
        case.assert_model(&bounds, loss, &expected);
        for bias in [BiasTreatment::Unit, BiasTreatment::Frozen] {
            let (found_loss, found) = gradient(&case.tail, &case.parameters, bias, &case.sample);
            assert!(bounds.loss.admits(found_loss), "{}: loss {found_loss} for {loss}", case.name);
            case.assert_gradient("at w", &found, &expected, &bounds.gradient, bias);
        }
        let slack = slack(&bounds.gradient);
        assert!(slack < 1e-3, "{}: bounds of {slack:e} of the gradient", case.name);
    }
}

#[test]
fn candles_gradients_are_finite_differences() {
    const STEP: f64 = 1e-5;
    for case in cases(|case| case.at_w().clearance > CLEARANCE) {
        let mut parameters = wide(&case.parameters);
        let (_, expected) = case.candle(&parameters);
        let loss = |parameters: &[f64]| forward_loss(&case.tail, parameters, &case.sample);
        for i in 0..parameters.len() {
            let kept = parameters[i];
            parameters[i] = kept + STEP;
            let above = loss(&parameters);
            parameters[i] = kept - STEP;
            let difference = (above - loss(&parameters)) / (2.0 * STEP);
            parameters[i] = kept;
            // Truncation is STEP^2 / 6 times a third derivative (features and hidden outputs are up to 6, so up
            // to some hundreds), rounding 1e-16 / STEP times the operations that the loss is made of.
            assert!(
                (difference - expected[i]).abs() < 1e-7,
                "{}: {i}: {difference} {}",
                case.name,
                expected[i]
            );
        }
    }
}

/// The loss in plain f64.
fn forward_loss(tail: &DenseChain, parameters: &[f64], (features, label): &Sample) -> f64 {
    let (mut a, mut rest) = (wide(features), parameters);
    for layer in tail.layers() {
        let (own, behind) = rest.split_at(layer.parameters());
        let (weights, biases) = own.split_at(layer.weights());
        let z = weights.chunks(layer.inputs).zip(biases);
        let z = z.map(|(row, b)| row.iter().zip(&a).map(|(w, a)| w * a).sum::<f64>() + b);
        a = match layer.activation {
            Activation::None => z.collect(),
            Activation::Relu => z.map(|z| z.max(0.0)).collect(),
            Activation::Relu6 => z.map(|z| z.clamp(0.0, 6.0)).collect(),
        };
        rest = behind;
    }
    a.iter().map(|z| z.exp()).sum::<f64>().ln() - a[*label]
}

/// T of one parameter, from the papers: see tests/golden/README.md.
fn normalization(geometry: &Geometry, w: f64, is_bias: bool) -> f64 {
    match (is_bias, geometry.bias, geometry.eta) {
        (true, BiasTreatment::Frozen, _) => 0.0,
        (_, _, None) | (true, BiasTreatment::Unit, _) => 1.0,
        (_, _, Some(eta)) => w.abs() + f64::from(eta),
    }
}

/// `e = rho T^2 g / ||T g||`, and `||T g||`, in f64.
fn ascent(tail: &DenseChain, w: &[f64], g: &[f64], geometry: &Geometry, rho: f32) -> (Vec<f64>, f64) {
    let t: Vec<f64> =
        w.iter().zip(kinds(tail)).map(|(&w, is_bias)| normalization(geometry, w, is_bias)).collect();
    let norm = t.iter().zip(g).map(|(t, g)| (t * g).powi(2)).sum::<f64>().sqrt();
    (t.iter().zip(g).map(|(t, g)| f64::from(rho) * t * t * g / norm).collect(), norm)
}

/// The crate's loss and gradient at `w + e` of one sample, by the rank-one identity.
fn rank_one(case: &Case, geometry: &Geometry, rho: f32) -> (f32, Vec<f32>) {
    let (tail, w) = (&case.tail, &case.parameters);
    let (mut memory, mut g) = (workspace(tail), vec![0.0; tail.parameters()]);
    let mut workspace = Workspace::new(tail, &mut memory).expect("workspace");
    workspace.features.copy_from_slice(&case.sample.0);
    tail.first_pass(w, case.sample.1, &mut workspace);
    let norm = tail.ascent_norm_squared(w, geometry, &mut workspace);
    let c = geometry.step_length(rho, norm).expect("a gradient");
    let loss = tail.perturbed_pass(w, geometry, c, case.sample.1, &mut workspace);
    tail.accumulate(1.0, geometry.bias, &workspace, true, &mut g);
    (loss, g)
}

/// The crate's `w + e`, written out.
fn stored(case: &Case, geometry: &Geometry, rho: f32) -> Vec<f32> {
    let (mut w, tail) = (case.parameters.clone(), &case.tail);
    let (_, mut g) = gradient(tail, &w, geometry.bias, &case.sample);
    let norm = sam::ascent_norm_squared(&w, &g, geometry, tail.segments());
    let c = geometry.step_length(rho, norm).expect("a gradient");
    sam::perturb(&mut w, &mut g, c, geometry, tail.segments());
    w
}

#[test]
fn gradients_at_w_plus_e_are_candles_to_rounding() {
    for (eta, rho) in GEOMETRIES {
        for bias in BIASES {
            let geometry = Geometry { weights: true, eta, bias };
            let bounds = |case: &Case| {
                let at_w = case.at_w();
                let (moved, _) =
                    rounding::ascend(&case.tail, &case.parameters, &at_w.gradient, &geometry, rho);
                (at_w, rounding::pass(&case.tail, &moved, &case.sample.0, case.sample.1))
            };
            let clear = |case: &Case| {
                let (at_w, moved) = bounds(case);
                // What e does to the gradient must stand out from the bounds, which a long step on a deep network
                // widens.
                let values =
                    |pass: &rounding::Pass| pass.gradient.iter().map(|g| g.value).collect::<Vec<_>>();
                let apart = reference::relative(values(&at_w), values(&moved));
                at_w.clearance > CLEARANCE
                    && moved.clearance > CLEARANCE
                    && slack(&moved.gradient) < 0.05 * apart
            };
            for case in cases(clear) {
                let w = wide(&case.parameters);
                let (loss_at_w, g) = case.candle(&w);
                let (e, _) = ascent(&case.tail, &w, &g, &geometry, rho);
                let moved: Vec<f64> = w.iter().zip(&e).map(|(w, e)| w + e).collect();
                let (loss, expected) = case.candle(&moved);
                assert!(loss > loss_at_w, "{}: an ascent climbs", case.name);
                let (_, bounds) = bounds(&case);
                case.assert_model(&bounds, loss, &expected);

                let (found_loss, found) = rank_one(&case, &geometry, rho);
                assert!(bounds.loss.admits(found_loss), "{}: loss {found_loss} for {loss}", case.name);
                let what = format!("{geometry:?} rank-one");
                case.assert_gradient(&what, &found, &expected, &bounds.gradient, bias);

                let moved = stored(&case, &geometry, rho);
                let (found_loss, found) = gradient(&case.tail, &moved, bias, &case.sample);
                assert!(bounds.loss.admits(found_loss), "{}: loss {found_loss} for {loss}", case.name);
                let what = format!("{geometry:?} stored");
                case.assert_gradient(&what, &found, &expected, &bounds.gradient, bias);
            }
        }
    }
}

/// `||e|| = rho` for SAM, `||e / T|| = rho` for ASAM, with e the difference of what `perturb` leaves.
#[test]
fn the_ascent_is_rho_long() {
    for (eta, rho) in GEOMETRIES {
        for bias in BIASES {
            let geometry = Geometry { weights: true, eta, bias };
            for case in cases(|_| true) {
                let moved = stored(&case, &geometry, rho);
                let (mut length, mut slack) = (0.0, 0.0);
                for ((&w, &moved), is_bias) in case.parameters.iter().zip(&moved).zip(kinds(&case.tail)) {
                    let t = normalization(&geometry, f64::from(w), is_bias);
                    let e = f64::from(moved) - f64::from(w);
                    if t == 0.0 {
                        assert_eq!(e, 0.0, "{}: a frozen bias moved", case.name);
                        continue;
                    }
                    length += (e / t).powi(2);
                    // e was rounded when w + e was.
                    slack += (f64::from(f32::EPSILON) / 2.0 * f64::from(moved) / t).powi(2);
                }
                // c, T^2 and the products in e: a dozen roundings; the norm: some for every eight parameters.
                let relative = (12.0 + case.parameters.len() as f64 / 8.0) * f64::from(f32::EPSILON) / 2.0;
                let off = (length.sqrt() - f64::from(rho)).abs();
                let bound = slack.sqrt() + relative * f64::from(rho);
                assert!(
                    off <= bound,
                    "{} {geometry:?}: {} for {rho}, bound {bound:e}",
                    case.name,
                    length.sqrt()
                );
                assert!(bound < 1e-3 * f64::from(rho), "{}: bound {bound:e}", case.name);
            }
        }
    }
}

/// `L(w + e) - L(w) = rho ||T g|| + O(rho^2)`: halving rho quarters what is left over.
#[test]
fn the_rise_is_first_order_in_rho() {
    const RHO: f32 = 0.005;
    // Of w + e to f32, in the loss.
    const ROUNDING: f64 = 2e-7;
    for (eta, scale) in [(None, 1.0), (Some(0.01), 4.0)] {
        let geometry = Geometry { weights: true, eta, bias: BiasTreatment::Unit };
        let mut telling = 0;
        // Far enough from the kinks that a step of RHO crosses none.
        for case in cases(|case| case.at_w().clearance > 0.05) {
            let w = wide(&case.parameters);
            let (loss, g) = case.candle(&w);
            let remainder = |rho: f32| {
                let (_, norm) = ascent(&case.tail, &w, &g, &geometry, rho);
                let moved = stored(&case, &geometry, rho);
                let rise = forward_loss(&case.tail, &wide(&moved), &case.sample) - loss;
                // The rank-one pass sees the same rise, up to f32's rounding of a loss.
                let risen = f64::from(rank_one(&case, &geometry, rho).0) - loss;
                assert!((risen - rise).abs() < 1e-5 * (1.0 + loss), "{}: {risen} {rise}", case.name);
                (rise - f64::from(rho) * norm, f64::from(rho) * norm)
            };
            let (whole, first_order) = remainder(RHO * scale);
            let (half, _) = remainder(RHO * scale / 2.0);
            assert!(whole.abs() < 0.5 * first_order, "{}: {whole} beside {first_order}", case.name);
            let (least, most) = (half.abs() * 3.0 - ROUNDING, half.abs() * 5.0 + ROUNDING);
            assert!((least..most).contains(&whole.abs()), "{}: {whole:e}, then {half:e}", case.name);
            telling += usize::from(whole.abs() > 10.0 * ROUNDING);
        }
        assert!(telling >= 15, "what is left over is mostly rounding: {telling}");
    }
}

/// What a step reports: the mean of L(w) over the minibatch, and that of L(w + e) - L(w) over the samples that were
/// perturbed, each with its group's e.
#[test]
fn the_loss_and_rise_that_a_step_reports_are_candles() {
    let tail = tail(&[9, 4], Activation::None);
    let mut random = Random::new(1);
    let (start, mut samples) = (random.parameters(&tail), random.samples(&tail, 7));
    // Without features and trained biases there is no gradient: alone, this one is not perturbed.
    samples[6].0.fill(0.0);
    let w = wide(&start);
    let at = |w: &[f64], (features, label): &Sample| autodiff::loss_and_gradient(&tail, w, features, *label);
    let bias = BiasTreatment::Frozen;
    for (method, eta) in [(Method::Sam, None), (Method::Asam, Some(Recipe::DEFAULT.eta))] {
        let geometry = Geometry { weights: true, eta, bias };
        for (m, store_perturbation) in [(1, false), (1, true), (2, false), (3, false), (7, false)] {
            let (mut rise, mut perturbed) = (0.0, 0.0);
            for group in samples.chunks(usize::from(m)) {
                let mut g = vec![0.0; w.len()];
                for sample in group {
                    g.iter_mut().zip(at(&w, sample).1).for_each(|(g, one)| *g += one);
                }
                let (e, norm) = ascent(&tail, &w, &g, &geometry, 0.3);
                if norm > 0.0 {
                    let moved: Vec<f64> = w.iter().zip(&e).map(|(w, e)| w + e).collect();
                    rise += group.iter().map(|s| at(&moved, s).0 - at(&w, s).0).sum::<f64>();
                    perturbed += group.len() as f64;
                }
            }
            let loss = samples.iter().map(|s| at(&w, s).0).sum::<f64>() / samples.len() as f64;
            let rise = rise / perturbed;
            let recipe =
                Recipe { rho: 0.3, sharpness_batch: m, store_perturbation, bias, ..reference::plain(method) };
            let outcome = State::new(&start).step(&tail, &recipe, 0.1, &samples).expect("finite");
            // Seven losses of some units, each to some tens of roundings.
            let close = |found: f32, expected: f64| (f64::from(found) - expected).abs() < 1e-5 * (1.0 + loss);
            assert!(close(outcome.loss, loss), "{recipe:?}: loss {} for {loss}", outcome.loss);
            assert!(close(outcome.rise, rise), "{recipe:?}: rise {} for {rise}", outcome.rise);
        }
    }
}
