//! What the desktop computes, which a board must reproduce.

use super::lines::{Desktop, Line, parse};
use anyhow::Result;
use flatmin_model::model::Model;
use flatmin_model::packer::PackFile;

/// One kernel or operator as it ran on the desktop: what a board must reproduce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) shape: String,
    pub(super) macs: u64,
    pub(super) crc32: String,
}

/// What the desktop computes for the four shapes.
pub(super) fn kernel_references() -> Result<Vec<Reference>> {
    let mut desktop = Desktop::default();
    flatmin_bench::run_kernels(&mut desktop, &mut vec![0; 1 << 16])?;
    let measured = parse(&desktop.0)?.into_iter().filter_map(|line| match line {
        Line::Measured(_, _, crc32) => Some(crc32),
        _ => None,
    });
    let reference = |(kernel, crc32): (&flatmin_bench::Kernel, String)| Reference {
        name: kernel.name.to_owned(),
        shape: kernel.shape.to_owned(),
        macs: kernel.macs(),
        crc32,
    };
    Ok(flatmin_bench::KERNELS.iter().zip(measured).map(reference).collect())
}

/// What the desktop computes for every operator of `model`.
pub(super) fn operator_references(model: &Model, file: &PackFile) -> Result<Vec<Reference>> {
    let pack = file.pack();
    let mut desktop = Desktop::default();
    flatmin_bench::run_model(&mut desktop, &pack, &mut vec![0; pack.sizes().arena_bytes])?;
    let mut references = Vec::new();
    for line in parse(&desktop.0)? {
        let Line::Measured(index, _, crc32) = line else { continue };
        let index: u16 = index.parse()?;
        let op = pack.operator(index);
        let extent = |tensor: u16| {
            let t = pack.tensor(tensor);
            format!("{}x{}x{}", t.height, t.width, t.channels)
        };
        let step = model.network.steps.get(usize::from(index));
        references.push(Reference {
            name: format!("{index} {}", step.map_or("?", |s| s.name.as_str())),
            shape: format!("{} -> {}", extent(op.input), extent(op.output)),
            macs: pack.operator_macs(&op),
            crc32,
        });
    }
    Ok(references)
}

/// What the desktop computes for the generated cases.
pub(super) fn case_references() -> Vec<String> {
    (0..flatmin_bench::CASES).map(|index| format!("{:08x}", flatmin_bench::run_case(index))).collect()
}

/// What the desktop computes for the front end: name and CRC-32 of each part.
pub(super) fn front_end_references() -> Result<Vec<(String, String)>> {
    let mut desktop = Desktop::default();
    flatmin_bench::run_front_end(&mut desktop)?;
    let parts = parse(&desktop.0)?.into_iter().filter_map(|line| match line {
        Line::FrontEnd(part, _, crc32) => Some((part, crc32)),
        _ => None,
    });
    Ok(parts.collect())
}
