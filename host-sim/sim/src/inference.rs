//! Plain inference through the crate's own kernels, on batches as files hold them.

use crate::samples::{Inputs, Samples};
use anyhow::{Context, Result, bail};
use flatmin::Affine;
use flatmin_model::graph::Element;
use flatmin_model::model::Model;
use flatmin_model::packer::Border;
use rayon::prelude::*;

/// One output of the network for all samples, in the element type that the model's file declares.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// int8.
    I8(Vec<i8>),
    /// uint8.
    U8(Vec<u8>),
    /// float32, dequantized.
    F32(Vec<f32>),
}

/// What the rows of a batch are to a network that keeps variables; to any other they are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Samples of one hop, or of several: each begins with the variables' first values.
    Samples,
    /// Hops of one stream: the variables are kept from row to row.
    Hops,
}

/// Runs `model` on batches, one for each of its inputs, all of as many samples. The outputs come in the model's
/// order, batch first; of a sample of several hops those of the last.
///
/// # Errors
/// Another number of batches than inputs, batches of different lengths, or an element type that an input does
/// not take.
pub fn run(model: &Model, batches: &[Samples], rows: Rows) -> Result<Vec<Values>> {
    run_watched(model, batches, rows, &|| Ok(()))
}

/// Samples from one call of a watcher to the next.
const WATCHED: usize = 32;

/// As [`run`], with `pause` called again and again, by the caller's thread.
///
/// # Errors
/// As [`run`], and whatever `pause` gives, which ends the run.
pub fn run_watched(
    model: &Model,
    batches: &[Samples],
    rows: Rows,
    pause: &dyn Fn() -> Result<()>,
) -> Result<Vec<Values>> {
    let network = &model.network;
    if batches.len() != network.inputs.len() {
        bail!("{}: takes {} input(s), {} given", model.name, network.inputs.len(), batches.len());
    }
    let count = batches.first().map_or(0, |batch| batch.count);
    if let Some(other) = batches.iter().find(|batch| batch.count != count) {
        bail!(
            "{}: inputs of {count} and of {} samples; as many of each are expected",
            model.name,
            other.count
        );
    }
    let file = model.pack(0)?;
    let pack = file.pack();
    let inputs = batches
        .iter()
        .zip(&network.inputs)
        .enumerate()
        .map(|(place, (batch, border))| {
            let affine = network.tensors[border.tensor].affine;
            quantized(&batch.inputs, border, affine).with_context(|| format!("{}: input {place}", model.name))
        })
        .collect::<Result<Vec<_>>>()?;
    let hop = |arena: &mut Vec<i8>, sample: usize, hop: usize| {
        for (place, values) in inputs.iter().enumerate() {
            let length = pack.input_at(place).len();
            let first = sample * (values.len() / count) + hop * length;
            let loaded = flatmin::inference::load(&pack, place, &values[first..first + length], arena);
            assert!(loaded, "the reader checked the length");
        }
        flatmin::inference::run(&pack, arena);
    };
    let hops = inputs.first().map_or(1, |values| values.len() / count / pack.input().len());
    let answers = |arena: &[i8]| -> Vec<Vec<i8>> {
        let places = 0..pack.output_count();
        places.map(|place| flatmin::inference::output(&pack, place, arena).to_vec()).collect()
    };
    let arena = || vec![0; pack.sizes().arena_bytes];
    let mut outputs: Vec<Vec<Vec<i8>>> = Vec::with_capacity(count);
    let mut stream = arena();
    flatmin::inference::reset(&pack, &mut stream);
    for first in (0..count).step_by(WATCHED) {
        pause()?;
        let part = first..count.min(first + WATCHED);
        if rows == Rows::Hops {
            for sample in part {
                (0..hops).for_each(|own| hop(&mut stream, sample, own));
                outputs.push(answers(&stream));
            }
            continue;
        }
        let one = |arena: &mut Vec<i8>, sample: usize| {
            flatmin::inference::reset(&pack, arena);
            (0..hops).for_each(|own| hop(arena, sample, own));
            answers(arena)
        };
        outputs.par_extend(part.into_par_iter().map_init(arena, one));
    }
    let gathered = network.outputs.iter().enumerate().map(|(place, border)| {
        let all = outputs.iter().flat_map(|sample| sample[place].iter().copied()).collect();
        as_declared(
            all,
            border,
            network.tensors[border.tensor].affine,
            network.tensors[border.tensor].unsigned,
        )
    });
    Ok(gathered.collect())
}

/// Outputs of whole samples, in the runtime's order and quantized by `affine`, as the model's file declares them: uint8 ones of an
/// int8 tensor have their zero point 128 higher.
pub fn as_declared(values: Vec<i8>, border: &Border, affine: Affine, unsigned: bool) -> Values {
    let all = border.to_file::<i8>(values).into_iter();
    let Affine { scale, zero_point } = affine;
    let value = |q: i8| if unsigned { i32::from(q.cast_unsigned()) } else { q.into() };
    match border.element {
        // In the order of the reference kernel: the difference first, exact, then one product.
        Element::F32 => Values::F32(all.map(|q| scale * (value(q) - zero_point) as f32).collect()),
        Element::U8 if unsigned => Values::U8(all.map(i8::cast_unsigned).collect()),
        Element::U8 => Values::U8(all.map(|q| q.cast_unsigned() ^ 0x80).collect()),
        _ => Values::I8(all.collect()),
    }
}

/// The values that an input can tell apart at its ends; `None` where it takes bytes as they are.
pub(crate) fn range(border: &Border, affine: Affine) -> Option<[f32; 2]> {
    let ends = match border.element {
        Element::I8 | Element::F32 => [-128, 127],
        Element::U8 => [0, 255],
        _ => return None,
    };
    // Half a step more rounds to the ends.
    let half = 0.5 * affine.scale;
    let [low, high] = ends.map(|q: i32| affine.scale * (q - affine.zero_point) as f32);
    Some([low - half, high + half])
}

/// Values as the bytes of the runtime's input.
pub fn quantized(inputs: &Inputs, border: &Border, affine: Affine) -> Result<Vec<i8>> {
    let values = match (inputs, border.element) {
        (Inputs::I8(values), Element::I8) => values.clone(),
        (Inputs::U8(values), Element::U8) => values.iter().map(|v| v.cast_signed()).collect(),
        (Inputs::F32(values), Element::I8 | Element::F32) => {
            values.iter().map(|&x| affine.quantize(x)).collect()
        }
        (Inputs::F32(values), Element::U8) => {
            let steps = |x: f32| (x / affine.scale).round() as i32;
            let byte = |x: f32| steps(x).saturating_add(affine.zero_point).clamp(0, 255).to_le_bytes()[0];
            values.iter().map(|&x| byte(x).cast_signed()).collect()
        }
        (Inputs::I8(_), found) => bail!("is {found:?} in the model, int8 was given"),
        (Inputs::U8(_), found) => bail!("is {found:?} in the model, uint8 was given"),
        (_, found) => bail!("is {found:?} in the model, which cannot be an input"),
    };
    Ok(border.to_network(values))
}
