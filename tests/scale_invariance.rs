//! ASAM's ascent does not see how a function is spread over scales: not the channels of a layer that the next
//! layer undoes, not the scales of quantized weights. SAM's does. (Kwon et al. 2021, section 3; eta = 0, biases
//! frozen.)

mod reference;

use flatmin::internals::optim::{Geometry, Kind, Segment, sam};
use flatmin::internals::tail::DenseChain;
use flatmin::{BiasTreatment, Method, Recipe, internals::pack::Activation};
use reference::{PATHS, Random, Sample, State, bits, gradient, logits, plain, tail};

const SAM: Geometry = Geometry { weights: true, eta: None, bias: BiasTreatment::Frozen };
const ASAM: Geometry = Geometry { weights: true, eta: Some(0.0), bias: BiasTreatment::Frozen };
const RHO: f32 = 0.5;

/// The same function: every hidden channel times its factor, the next layer's weights for it divided by it.
fn rescale(tail: &DenseChain, parameters: &[f32], factor: impl Fn(usize) -> f32) -> Vec<f32> {
    let layers: Vec<_> = tail.layers().collect();
    let mut scaled = parameters.to_vec();
    let mut rest = scaled.as_mut_slice();
    for (index, layer) in layers.iter().enumerate() {
        let (own, behind) = rest.split_at_mut(layer.parameters());
        let (weights, biases) = own.split_at_mut(layer.weights());
        for (o, (row, bias)) in weights.chunks_mut(layer.inputs).zip(biases).enumerate() {
            let hidden = index + 1 < layers.len();
            let out = if hidden { factor(o + index) } else { 1.0 };
            for (i, w) in row.iter_mut().enumerate() {
                let undone = if index > 0 { factor(i + index - 1) } else { 1.0 };
                *w = *w * out / undone;
            }
            *bias *= out;
        }
        rest = behind;
    }
    scaled
}

/// Logits for every probe at the `w + e` of the samples' common ascent.
fn function_at_ascent(
    tail: &DenseChain,
    parameters: &[f32],
    geometry: &Geometry,
    samples: &[Sample],
    probes: &[Sample],
) -> Vec<f32> {
    let mut w = parameters.to_vec();
    let mut g = vec![0.0; w.len()];
    for sample in samples {
        let (_, one) = gradient(tail, &w, geometry.bias, sample);
        g.iter_mut().zip(one).for_each(|(g, one)| *g += one);
    }
    let norm = sam::ascent_norm_squared(&w, &g, geometry, tail.segments());
    let c = geometry.step_length(RHO, norm).expect("a gradient");
    sam::perturb(&mut w, &mut g, c, geometry, tail.segments());
    probes.iter().flat_map(|(features, _)| logits(tail, &w, features)).collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |m, (a, b)| (a - b).abs().max(m))
}

struct Setting {
    tail: DenseChain,
    parameters: Vec<f32>,
    samples: Vec<Sample>,
    probes: Vec<Sample>,
}

fn settings() -> impl Iterator<Item = Setting> {
    let widths: [&[usize]; 3] = [&[11, 9, 4], &[24, 16, 8, 5], &[7, 6, 6, 6, 3]];
    widths.into_iter().zip(1..).map(|(widths, seed)| {
        let mut random = Random::new(seed);
        let tail = tail(widths, Activation::Relu);
        let parameters = random.parameters(&tail);
        let (samples, probes) = (random.samples(&tail, 4), random.samples(&tail, 16));
        Setting { tail, parameters, samples, probes }
    })
}

/// Powers of two scale f32 without rounding, so that invariance is a matter of every bit.
fn power_of_two(channel: usize) -> f32 {
    [4.0, 0.125, 2.0, 0.5, 16.0][channel % 5]
}

fn any_factor(channel: usize) -> f32 {
    [3.7, 0.11, 1.9, 0.63, 9.3, 0.3, 5.1][channel % 7]
}

#[test]
fn the_function_at_w_plus_e_does_not_depend_on_channel_scales() {
    for Setting { tail, parameters, samples, probes } in settings() {
        let at =
            |parameters: &[f32], geometry| function_at_ascent(&tail, parameters, geometry, &samples, &probes);
        let at_w = |parameters: &[f32]| {
            probes.iter().flat_map(|p| logits(&tail, parameters, &p.0)).collect::<Vec<_>>()
        };
        let size = furthest(&at_w(&parameters), &vec![0.0; probes.len() * tail.classes()]);
        let (sam, asam) = (at(&parameters, &SAM), at(&parameters, &ASAM));
        // An ascent that went nowhere would be invariant, too.
        assert!(furthest(&sam, &at_w(&parameters)) > 0.05 * size);
        assert!(furthest(&asam, &at_w(&parameters)) > 0.05 * size);

        let exact = rescale(&tail, &parameters, power_of_two);
        assert_ne!(bits(&exact), bits(&parameters));
        assert_eq!(bits(&at_w(&exact)), bits(&at_w(&parameters)), "not the same function");
        assert_eq!(bits(&at(&exact, &ASAM)), bits(&asam));
        assert!(furthest(&at(&exact, &SAM), &sam) > 0.05 * size);

        // Some tens of roundings a logit, 6e-8 each, in terms up to a few times the logits.
        let rounded = rescale(&tail, &parameters, any_factor);
        assert!(furthest(&at_w(&rounded), &at_w(&parameters)) < 1e-5 * size, "not the same function");
        let off = furthest(&at(&rounded, &ASAM), &asam);
        assert!(off < 1e-5 * size, "off by {off} of {size}");
        assert!(furthest(&at(&rounded, &SAM), &sam) > 0.05 * size);
    }
}

/// The same through whole steps: what a step reports of the loss at `w + e`, on both paths of m = 1 and for
/// larger m.
#[test]
fn the_rise_that_a_step_reports_does_not_depend_on_channel_scales() {
    for Setting { tail, parameters, samples, .. } in settings() {
        let rise = |method, parameters: &[f32], sharing: (u16, bool)| {
            let recipe = Recipe {
                eta: 0.0,
                rho: RHO,
                bias: BiasTreatment::Frozen,
                sharpness_batch: sharing.0,
                store_perturbation: sharing.1,
                ..plain(method)
            };
            State::new(parameters).step(&tail, &recipe, 0.0, &samples).expect("finite").rise
        };
        let exact = rescale(&tail, &parameters, power_of_two);
        let rounded = rescale(&tail, &parameters, any_factor);
        for sharing in PATHS.map(|(_, stored)| (1, stored)).into_iter().chain([(2, false), (4, false)]) {
            let [sam, asam] = [Method::Sam, Method::Asam].map(|method| rise(method, &parameters, sharing));
            assert!(sam > 0.0 && asam > 0.0);
            assert_eq!(rise(Method::Asam, &exact, sharing).to_bits(), asam.to_bits(), "{sharing:?}");
            // A difference of losses of about 1, each to some tens of roundings.
            let off = (rise(Method::Asam, &rounded, sharing) - asam).abs();
            assert!(off < 1e-5 * (1.0 + asam), "{sharing:?}: off by {off} of {asam}");
            for other in [&exact, &rounded] {
                let off = (rise(Method::Sam, other, sharing) - sam).abs();
                assert!(off > 0.02 * sam, "{sharing:?}: SAM's rise {sam} is off by {off} only");
            }
        }
    }
}

/// With `w = s q` per channel, and `g_q = s g`, e in q is `rho q^2 g_q / ||q g_q||`: s has gone.
#[test]
fn quantization_scales_cancel_in_asam() {
    const ROWS: usize = 12;
    const COLUMNS: usize = 21;
    let mut random = Random::new(9);
    let q: Vec<i8> = (0..ROWS * COLUMNS).map(|_| (random.below(255) as i32 - 127) as i8).collect();
    let g_q: Vec<f32> = random.vector(q.len(), 0.01);
    let scales: Vec<f32> = (0..ROWS).map(|_| 0.02 * 2f32.powf(random.uniform(4.0))).collect();

    // The formula, in f64.
    let qg = |(&q, &g): (&i8, &f32)| f64::from(q) * f64::from(g);
    let norm = q.iter().zip(&g_q).map(|pair| qg(pair).powi(2)).sum::<f64>().sqrt();
    let formula: Vec<f64> =
        q.iter().zip(&g_q).map(|(q, g)| f64::from(RHO) * f64::from(*q) * qg((q, g)) / norm).collect();

    // e in q, from what `perturb` does to the weights that the scales make of q; and w + e's rounding there.
    let perturbation = |geometry: &Geometry, scales: &[f32]| -> Vec<(f64, f64)> {
        let scale = |i: usize| scales[i / COLUMNS];
        let mut w: Vec<f32> = (0..q.len()).map(|i| scale(i) * f32::from(q[i])).collect();
        let mut g: Vec<f32> = (0..q.len()).map(|i| g_q[i] / scale(i)).collect();
        let segments = || std::iter::once(Segment { length: ROWS * COLUMNS, kind: Kind::Weight });
        let norm = sam::ascent_norm_squared(&w, &g, geometry, segments());
        let c = geometry.step_length(RHO, norm).expect("a gradient");
        sam::perturb(&mut w, &mut g, c, geometry, segments());
        let e = |i: usize| (f64::from(w[i]) - f64::from(g[i])) / f64::from(scale(i));
        let unit = |i: usize| f64::from(f32::EPSILON) / 2.0 * f64::from(w[i].abs() / scale(i));
        (0..q.len()).map(|i| (e(i), unit(i))).collect()
    };
    let longest = formula.iter().fold(0.0, |m: f64, e| m.max(e.abs()));
    for factors in [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [0.013, 0.013, 0.013], [0.3, 50.0, 7.0]] {
        let scales: Vec<f32> = scales.iter().enumerate().map(|(row, s)| s * factors[row % 3]).collect();
        for ((e, rounding), expected) in perturbation(&ASAM, &scales).into_iter().zip(&formula) {
            // w + e's rounding, and that of w, g, T^2 and c, each some roundings, on e.
            let bound = rounding + 4e-6 * expected.abs();
            assert!((e - expected).abs() <= bound, "{factors:?}: {e} for {expected} +- {bound}");
        }
        // SAM's e in q is another one with other scales.
        let sam = perturbation(&SAM, &scales);
        let off = sam.iter().zip(&formula).map(|((e, _), f)| (e - f).abs()).fold(0.0, f64::max);
        assert!(off > 0.5 * longest, "{factors:?}: SAM is off by {off} of {longest} only");
    }
}
