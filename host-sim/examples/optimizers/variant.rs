//! Every optimizer that was looked at, by its paper's formula, over plain vectors: for the screen alone.

use flatmin::BiasTreatment;
use flatmin::tail::{Tail, Target};

/// What a gradient is taken of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ascent {
    /// The weights themselves.
    None,
    /// Foret et al. 2020; `eta` is ASAM's.
    Sam,
    Asam,
    /// SAM where `step % every == 0`, else none.
    Every(u32),
    /// arXiv 2203.02714, algorithm 1.
    Look {
        every: u32,
        alpha: f64,
    },
    /// arXiv 2110.03141: `beta` of the parameters, `gamma` of the samples.
    Esam {
        beta: f64,
        gamma: f64,
    },
    /// arXiv 2403.12350.
    Friendly {
        sigma: f64,
        lambda: f64,
    },
    /// arXiv 2203.08065; rho follows the learning rate if `follow`.
    Gsam {
        alpha: f64,
        follow: bool,
    },
    /// arXiv 2306.04226: biases alone.
    On,
    /// The same, T = |b| + eta.
    #[allow(dead_code)]
    OnAdaptive,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Base {
    Sgd,
    Nesterov,
    /// AdamW, moments in f32.
    Adam,
    /// AdamW, moments in blocks of 8 bits.
    Adam8,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variant {
    pub ascent: Ascent,
    pub base: Base,
    pub m: usize,
    pub rho: f64,
    pub eta: f64,
    pub momentum: f64,
    pub decay: f64,
    pub train_biases: bool,
    /// T = 1 on biases under ASAM.
    pub unit_biases: bool,
}

/// What lasts from step to step.
#[derive(Debug, Default)]
pub struct State {
    step: u32,
    v: Vec<f32>,
    second: Vec<f32>,
    flat: Vec<f32>,
    mean: Vec<f32>,
}

/// A number from 0 to below 1, of the step and the place.
fn uniform(step: u32, place: usize) -> f64 {
    let mut z = (u64::from(step) << 32 | place as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, &a), &b)| *sum += f64::from(a) * f64::from(b));
    }
    sums.iter().sum()
}

fn add(y: &mut [f32], factor: f64, x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor as f32 * x);
}

pub type Sample<'a> = (&'a [f32], usize);

pub struct Net<'t, T> {
    tail: &'t T,
    bias: BiasTreatment,
    is_bias: Vec<bool>,
    workspace: Vec<f32>,
}

impl<'t, T: Tail> Net<'t, T> {
    pub fn new(tail: &'t T, train_biases: bool) -> Self {
        let mut is_bias = Vec::new();
        for segment in tail.segments() {
            is_bias.extend(std::iter::repeat_n(segment.is_bias, segment.length));
        }
        let bias = if train_biases { BiasTreatment::Unit } else { BiasTreatment::Frozen };
        Self { tail, bias, is_bias, workspace: vec![0.0; tail.workspace_floats()] }
    }

    pub fn loss(&mut self, w: &[f32], (features, label): Sample) -> f32 {
        self.workspace[..features.len()].copy_from_slice(features);
        self.tail.loss(w, Target::from(label), &mut self.workspace)
    }

    pub fn answer(&self) -> usize {
        let output = self.tail.output(&self.workspace);
        (0..output.len()).rev().max_by(|&a, &b| output[a].total_cmp(&output[b])).unwrap_or(0)
    }

    /// Mean loss and gradient.
    fn gradient(&mut self, w: &[f32], samples: &[Sample]) -> (f64, Vec<f32>, Vec<f32>) {
        let mut g = vec![0.0; w.len()];
        let mut losses = Vec::new();
        let scale = 1.0 / samples.len() as f32;
        for &sample in samples {
            losses.push(self.loss(w, sample));
            self.tail.backward(w, scale, self.bias, &mut self.workspace, &mut g);
        }
        (losses.iter().map(|&l| f64::from(l)).sum::<f64>() / samples.len() as f64, g, losses)
    }

    fn moved(&self, variant: &Variant, rho: f64, w: &[f32], g: &[f32], step: u32) -> Option<Vec<f32>> {
        let t = |i: usize| -> f64 {
            let adaptive = f64::from(w[i].abs()) + variant.eta;
            match (variant.ascent, self.is_bias[i]) {
                (Ascent::On | Ascent::OnAdaptive, false) => 0.0,
                (Ascent::OnAdaptive, true) | (Ascent::Asam, false) => adaptive,
                (Ascent::Asam, true) if !variant.unit_biases => adaptive,
                _ => 1.0,
            }
        };
        if matches!(variant.ascent, Ascent::Asam | Ascent::On | Ascent::OnAdaptive | Ascent::Esam { .. }) {
            let norm: f64 = (0..w.len()).map(|i| (t(i) * f64::from(g[i])).powi(2)).sum::<f64>().sqrt();
            if norm < 1e-15 || rho == 0.0 {
                return None;
            }
            let share = |i: usize| match variant.ascent {
                Ascent::Esam { beta, .. } => {
                    if uniform(step, i) < beta {
                        1.0 / beta
                    } else {
                        0.0
                    }
                }
                _ => 1.0,
            };
            return Some(
                (0..w.len())
                    .map(|i| w[i] + (rho / norm * t(i).powi(2) * f64::from(g[i]) * share(i)) as f32)
                    .collect(),
            );
        }
        let norm = dot(g, g).sqrt();
        if norm < 1e-15 || rho == 0.0 {
            return None;
        }
        let c = (rho / norm) as f32;
        Some(w.iter().zip(g).map(|(w, g)| w + c * g).collect())
    }

    /// The gradient that the base optimizer is given.
    fn direction(
        &mut self,
        variant: &Variant,
        state: &mut State,
        w: &[f32],
        batch: &[Sample],
        rate: f64,
    ) -> (f64, Vec<f32>) {
        let (step, count) = (state.step, batch.len() as f64);
        let mut total = 0.0;
        let ascends = match variant.ascent {
            Ascent::None => false,
            Ascent::Every(k) | Ascent::Look { every: k, .. } => step % k == 0,
            _ => true,
        };
        let whole = !ascends || matches!(variant.ascent, Ascent::Look { .. } | Ascent::Friendly { .. });
        let (mut plain, mut d) = (Vec::new(), vec![0.0; w.len()]);
        if whole {
            (total, plain, _) = self.gradient(w, batch);
        }
        if !ascends {
            if let Ascent::Look { alpha, .. } = variant.ascent {
                let norm = dot(&state.flat, &state.flat).sqrt();
                if norm > 1e-15 {
                    let factor = alpha * dot(&plain, &plain).sqrt() / norm;
                    let flat = state.flat.clone();
                    add(&mut plain, factor, &flat);
                }
            }
            return (total, plain);
        }
        total = 0.0;
        let mut rises: Vec<(f32, Sample, usize)> = Vec::new();
        let mut moved_to = Vec::new();
        for (index, group) in batch.chunks(variant.m).enumerate() {
            let share = group.len() as f64 / count;
            let (loss, g, losses) = self.gradient(w, group);
            total += share * loss;
            let mut up = g.clone();
            if let Ascent::Friendly { sigma, .. } = variant.ascent {
                if !state.mean.is_empty() {
                    let mean = state.mean.clone();
                    add(&mut up, -sigma, &mean);
                }
            }
            let rho = match variant.ascent {
                Ascent::Gsam { follow: true, .. } => variant.rho * rate,
                _ => variant.rho,
            };
            let there = self.moved(variant, rho, w, &up, step).unwrap_or_else(|| w.to_vec());
            if let Ascent::Esam { .. } = variant.ascent {
                for (&sample, &loss) in group.iter().zip(&losses) {
                    rises.push((self.loss(&there, sample) - loss, sample, index));
                }
                moved_to.push(there);
                continue;
            }
            let Ascent::Gsam { alpha, .. } = variant.ascent else {
                for &sample in group {
                    self.loss(&there, sample);
                    self.tail.backward(&there, (1.0 / count) as f32, self.bias, &mut self.workspace, &mut d);
                }
                continue;
            };
            let (_, mut there_g, _) = self.gradient(&there, group);
            {
                let norm = dot(&there_g, &there_g);
                if norm > 1e-30 {
                    let along = dot(&g, &there_g) / norm;
                    there_g.iter_mut().zip(&g).for_each(|(p, &g)| {
                        let p64 = f64::from(*p);
                        *p = (p64 - alpha * (f64::from(g) - along * p64)) as f32;
                    });
                }
            }
            add(&mut d, share, &there_g);
        }
        match variant.ascent {
            Ascent::Esam { gamma, .. } => {
                rises.sort_by(|a, b| b.0.total_cmp(&a.0));
                let kept = ((gamma * count).ceil() as usize).clamp(1, rises.len());
                for &(_, sample, index) in &rises[..kept] {
                    let (_, g, _) = self.gradient(&moved_to[index], &[sample]);
                    add(&mut d, 1.0 / kept as f64, &g);
                }
            }
            Ascent::Look { .. } => {
                let along = dot(&d, &plain) / dot(&plain, &plain).max(1e-30);
                state.flat = d.clone();
                add(&mut state.flat, -along, &plain);
            }
            Ascent::Friendly { lambda, .. } => {
                if state.mean.is_empty() {
                    state.mean = plain;
                } else {
                    state
                        .mean
                        .iter_mut()
                        .zip(&plain)
                        .for_each(|(m, &g)| *m = lambda as f32 * *m + (1.0 - lambda) as f32 * g);
                }
            }
            _ => {}
        }
        (total, d)
    }

    /// One step with `rate` of the learning rate; returns the mean loss before it.
    pub fn step(
        &mut self,
        variant: &Variant,
        state: &mut State,
        w: &mut [f32],
        batch: &[Sample],
        lr: f64,
        rate: f64,
    ) -> f64 {
        let (loss, d) = self.direction(variant, state, w, batch, rate);
        state.v.resize(w.len(), 0.0);
        state.second.resize(w.len(), 0.0);
        let lr = lr * rate;
        state.step += 1;
        let frozen = |i: usize| self.is_bias[i] && self.bias == BiasTreatment::Frozen;
        match variant.base {
            Base::Sgd | Base::Nesterov => {
                for i in (0..w.len()).filter(|&i| !frozen(i)) {
                    let g = f64::from(d[i]) + variant.decay * f64::from(w[i]);
                    let v = variant.momentum * f64::from(state.v[i]) + g;
                    state.v[i] = v as f32;
                    let by = if variant.base == Base::Nesterov { g + variant.momentum * v } else { v };
                    w[i] -= (lr * by) as f32;
                }
            }
            Base::Adam | Base::Adam8 => {
                let (b1, b2) = (variant.momentum, 0.999);
                let (c1, c2) =
                    (1.0 - f64::powi(b1, state.step as i32), 1.0 - f64::powi(b2, state.step as i32));
                for i in (0..w.len()).filter(|&i| !frozen(i)) {
                    let g = f64::from(d[i]);
                    let root = f64::from(state.second[i]);
                    let m = b1 * f64::from(state.v[i]) + (1.0 - b1) * g;
                    let v = b2 * root * root + (1.0 - b2) * g * g;
                    (state.v[i], state.second[i]) = (m as f32, v.sqrt() as f32);
                    let old = f64::from(w[i]) * (1.0 - lr * variant.decay);
                    w[i] = (old - lr * (m / c1) / ((v / c2).sqrt() + 1e-8)) as f32;
                }
                if variant.base == Base::Adam8 {
                    for block in state.v.chunks_mut(64) {
                        let scale = block.iter().fold(0.0f32, |s, m| s.max(m.abs())) / 127.0;
                        block
                            .iter_mut()
                            .filter(|_| scale > 0.0)
                            .for_each(|m| *m = (*m / scale).round() * scale);
                    }
                    for block in state.second.chunks_mut(64) {
                        let scale = block.iter().fold(0.0f32, |s, &r| s.max(r)) / 255.0;
                        block
                            .iter_mut()
                            .filter(|_| scale > 0.0)
                            .for_each(|r| *r = (*r / scale).ceil().min(255.0) * scale);
                    }
                }
            }
        }
        loss
    }
}
