//! Single-operator models with LiteRT's outputs, as a board takes them: `host-sim/cli/tests/operators` makes the folder.

use super::lines::Line;
use anyhow::{Context, Result, ensure};
use flatmin_bench::{GRID_ARENA_BYTES, GRID_PACK_BYTES, crc32_after};
use flatmin_model::graph::Element;
use flatmin_model::model::Model;
use flatmin_model::packer::{Activations, Border};
use flatmin_sim::inference::quantized;
use flatmin_sim::samples::{Inputs, Samples};
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// A folder of models, packed, with what LiteRT answers.
#[derive(Debug, Clone)]
pub struct Grid {
    /// The stream that `flatmin_bench::run_grid` reads.
    bytes: Vec<u8>,
    models: Vec<Expected>,
}

/// What a board must print of a model.
#[derive(Debug, Clone)]
struct Expected {
    name: String,
    about: String,
    /// CRC-32 of every output.
    outputs: Vec<String>,
}

/// An entry of `cases.json`.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    about: String,
    inputs: usize,
    outputs: usize,
}

impl Grid {
    /// Reads a folder and packs its models.
    ///
    /// # Errors
    /// The message names the file, or the model that is refused.
    pub fn open(folder: &Path) -> Result<Self> {
        let index = folder.join("cases.json");
        let how = "make it with host-sim/cli/tests/operators/generate.py";
        let text =
            std::fs::read(&index).with_context(|| format!("cannot read {}: {how}", index.display()))?;
        let cases: Vec<Case> =
            serde_json::from_slice(&text).with_context(|| format!("{}: not as expected", index.display()))?;
        let packed =
            cases.par_iter().map(|case| case.pack(&folder.join(&case.name))).collect::<Result<Vec<_>>>()?;
        let mut grid = Self { bytes: u32::try_from(cases.len())?.to_le_bytes().into(), models: Vec::new() };
        for (record, expected) in packed {
            grid.bytes.extend(record);
            grid.models.push(expected);
        }
        Ok(grid)
    }

    /// What the firmware reads.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Compares a board's lines with LiteRT's outputs; the number of models.
    ///
    /// # Errors
    /// Every model that differs or is missing, by name.
    pub(super) fn check(&self, lines: &[Line]) -> Result<usize> {
        let found: HashMap<(usize, usize), &str> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Grid(model, output, crc32) => Some(((*model, *output), crc32.as_str())),
                _ => None,
            })
            .collect();
        let mut wrong = Vec::new();
        for (index, Expected { name, about, outputs }) in self.models.iter().enumerate() {
            for (place, expected) in outputs.iter().enumerate() {
                let found = found.get(&(index, place)).copied().unwrap_or("missing");
                if found != expected {
                    wrong.push(format!(
                        "{name} ({about}): output {place}'s CRC-32 is {found}, LiteRT's {expected}"
                    ));
                }
            }
        }
        let count = self.models.len();
        ensure!(wrong.is_empty(), "{} outputs of {count} models differ:\n{}", wrong.len(), wrong.join("\n"));
        Ok(count)
    }
}

impl Case {
    fn pack(&self, folder: &Path) -> Result<(Vec<u8>, Expected)> {
        let model = Model::open(&folder.join("model.tflite"))?;
        let network = &model.network;
        ensure!(
            (network.inputs.len(), network.outputs.len()) == (self.inputs, self.outputs),
            "{}: cases.json says {} inputs and {} outputs",
            model.name,
            self.inputs,
            self.outputs
        );
        let file = model.pack(0)?;
        let (pack, arena) = (file.bytes(), file.pack().sizes().arena_bytes);
        ensure!(
            pack.len() <= GRID_PACK_BYTES && arena <= GRID_ARENA_BYTES,
            "{}: a pack of {} bytes and an arena of {arena} do not fit into a board's {GRID_PACK_BYTES} and \
             {GRID_ARENA_BYTES}",
            model.name,
            pack.len()
        );
        let read = |kind: &str, place: usize, border: &Border| -> Result<Samples> {
            let path = folder.join(format!("{kind}{place}.npy"));
            Ok(Samples::inputs_from_npy(&path, border.sample_shape())?)
        };
        let mut inputs = Vec::new();
        let mut samples = None;
        for (place, border) in network.inputs.iter().enumerate() {
            let batch = read("input", place, border)?;
            ensure!(*samples.get_or_insert(batch.count) == batch.count, "{}: unequal samples", model.name);
            inputs.push(quantized(&batch.inputs, border, network.tensors[border.tensor].affine)?);
        }
        let samples = samples.context("a model has inputs")?;
        let mut record = Vec::new();
        for number in [pack.len(), samples] {
            record.extend(u32::try_from(number)?.to_le_bytes());
        }
        record.extend(pack);
        for sample in 0..samples {
            for values in &inputs {
                let length = values.len() / samples;
                record.extend(bytemuck::cast_slice::<i8, u8>(&values[sample * length..][..length]));
            }
        }
        let mut outputs = Vec::new();
        for (place, border) in network.outputs.iter().enumerate() {
            let batch = read("output", place, border)?;
            ensure!(batch.count == samples, "{}: unequal samples", model.name);
            let values = as_the_device_has_them(&batch.inputs, border, &network.tensors[border.tensor])
                .with_context(|| format!("{}: output {place}", model.name))?;
            let length = values.len() / samples;
            let crc32 = values.chunks(length.max(1)).fold(0, crc32_after);
            outputs.push(format!("{crc32:08x}"));
        }
        Ok((record, Expected { name: self.name.clone(), about: self.about.clone(), outputs }))
    }
}

/// Outputs of the file's type as the device's bytes; floats are those that one of the 256 bytes stands for.
fn as_the_device_has_them(values: &Inputs, border: &Border, tensor: &Activations) -> Result<Vec<i8>> {
    let values = match (values, border.element) {
        (Inputs::I8(values), Element::I8) => values.clone(),
        (Inputs::U8(values), Element::U8) => {
            let flip = if tensor.unsigned { 0 } else { 0x80 };
            values.iter().map(|v| (v ^ flip).cast_signed()).collect()
        }
        (Inputs::F32(values), Element::F32) => {
            let (scale, zero) = (tensor.affine.scale, tensor.affine.zero_point);
            let real = |q: i8| {
                let step = if tensor.unsigned { i32::from(q.cast_unsigned()) } else { q.into() };
                ((scale * (step - zero) as f32).to_bits(), q)
            };
            let bytes: HashMap<u32, i8> = (i8::MIN..=i8::MAX).map(real).collect();
            let byte =
                |v: &f32| bytes.get(&v.to_bits()).copied().with_context(|| format!("no byte stands for {v}"));
            values.iter().map(byte).collect::<Result<_>>()?
        }
        (_, element) => anyhow::bail!("the file declares {element:?}, the golden output is of another type"),
    };
    Ok(border.to_network(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::lines::{Desktop, parse};
    use flatmin_bench::{GridMemory, run_grid};
    use flatmin_sim::samples::write_npy_i8;

    /// A folder with one model, every input byte, and what LiteRT answered.
    fn folder(change: impl FnOnce(&mut Vec<i8>)) -> tempfile::TempDir {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/golden");
        let folder = tempfile::tempdir().unwrap();
        let case = folder.path().join("ties");
        std::fs::create_dir(&case).unwrap();
        std::fs::copy(golden.join("fully_connected_exact_ties.tflite"), case.join("model.tflite")).unwrap();
        let every: Vec<i8> = (i8::MIN..=i8::MAX).collect();
        write_npy_i8(&case.join("input0.npy"), &every, &[256, 1]).unwrap();
        let bytes = std::fs::read(golden.join("fully_connected_exact_ties.bin")).unwrap();
        let mut outputs: Vec<i8> = bytes.into_iter().map(u8::cast_signed).collect();
        change(&mut outputs);
        write_npy_i8(&case.join("output0.npy"), &outputs, &[256, outputs.len() / 256]).unwrap();
        let index = r#"[{"name": "ties", "about": "exact ties", "inputs": 1, "outputs": 1}]"#;
        std::fs::write(folder.path().join("cases.json"), index).unwrap();
        folder
    }

    fn check_here(grid: &Grid) -> Result<usize> {
        let mut desktop = Desktop::default();
        run_grid(&mut desktop, &mut grid.bytes(), &mut GridMemory::new()).unwrap();
        grid.check(&parse(&desktop.0)?)
    }

    #[test]
    fn outputs_equal_those_of_litert() {
        let folder = folder(|_| ());
        assert_eq!(check_here(&Grid::open(folder.path()).unwrap()).unwrap(), 1);
    }

    #[test]
    fn one_other_byte_is_reported_with_its_model() {
        let folder = folder(|outputs| outputs[77] ^= 1);
        let why = check_here(&Grid::open(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(why.starts_with("1 outputs of 1 models differ:\nties (exact ties): output 0"), "{why}");
    }

    #[test]
    fn a_model_that_the_board_left_out_is_missed() {
        let folder = folder(|_| ());
        let why = Grid::open(folder.path()).unwrap().check(&[Line::End]).unwrap_err().to_string();
        assert!(why.contains("ties (exact ties): output 0's CRC-32 is missing"), "{why}");
    }
}
