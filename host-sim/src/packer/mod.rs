//! From a [`Graph`] to the device's format: checks what the runtime can do, cuts off the tail, plans the
//! activation arena and writes the bytes that [`flatmin::pack::format`] specifies.

mod lower;
mod plan;
mod write;

use crate::graph::Graph;
pub use lower::{Network, lower};
use thiserror::Error;

/// Why a network cannot be packed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PackerError {
    /// Operators that the runtime does not know, all of them.
    #[error("{} unsupported operator(s):{}", .0.len(), list(.0))]
    Unsupported(Vec<(usize, String)>),
    /// An operator that the runtime knows, in a form that it does not.
    #[error("operator {index} ({name}): {what}")]
    Operator {
        /// Its place in the file.
        index: usize,
        /// Its name in the schema.
        name: String,
        /// What was expected and what was found.
        what: String,
    },
    /// An activation that is not int8, or not quantized.
    #[error("tensor {index} `{name}`: {what}")]
    Tensor {
        /// Its index in the file.
        index: usize,
        /// Its name in the file.
        name: String,
        /// What was expected and what was found.
        what: String,
    },
    /// Several inputs or outputs.
    #[error("the network has {inputs} input(s) and {outputs} output(s), one of each is supported")]
    Borders {
        /// Inputs found.
        inputs: usize,
        /// Outputs found.
        outputs: usize,
    },
    /// More layers asked for than the network ends in.
    #[error("cannot train the last {asked} layer(s): the network ends in {found} fully connected layer(s)")]
    Layers {
        /// Layers asked for.
        asked: usize,
        /// Trainable layers that the network ends in.
        found: usize,
    },
    /// Nothing to train behind an activation: the loss differentiates bare logits.
    #[error(
        "cannot train the last layer, operator {index} (FULLY_CONNECTED): it has a fused activation, and the loss \
         wants bare logits; export the network without it"
    )]
    LastActivation {
        /// The layer's place in the file.
        index: usize,
    },
    /// The written pack did not pass the runtime's own validation.
    #[error("the runtime refuses this network: {0}")]
    Refused(#[from] flatmin::PackError),
}

fn list(operators: &[(usize, String)]) -> String {
    operators.iter().map(|(index, name)| format!("\n  operator {index}: {name}")).collect()
}

/// A pack in memory, on the boundary that the runtime wants.
#[derive(Debug, Clone)]
pub struct PackFile {
    /// Words of 16 bytes: the alignment that [`flatmin::Pack::new`] checks.
    words: Vec<u128>,
    length: usize,
}

impl PackFile {
    fn new(bytes: &[u8]) -> Self {
        let words = bytes
            .chunks(16)
            .map(|chunk| {
                let mut word = [0; 16];
                word[..chunk.len()].copy_from_slice(chunk);
                u128::from_ne_bytes(word)
            })
            .collect();
        Self { words, length: bytes.len() }
    }

    /// The bytes, as they go to a file or to flash.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }

    /// The runtime's view.
    pub fn pack(&self) -> flatmin::Pack<'_> {
        flatmin::Pack::new(self.bytes()).expect("validated when it was made")
    }
}

/// Whether the network ends in `layers` layers that the runtime can train.
///
/// # Errors
/// [`PackerError::LastActivation`] or [`PackerError::Layers`].
pub fn check_layers(network: &Network, layers: usize) -> Result<(), PackerError> {
    let found = network.trainable_layers();
    match network.last_activation() {
        _ if layers <= found => Ok(()),
        Some(index) => Err(PackerError::LastActivation { index }),
        None => Err(PackerError::Layers { asked: layers, found }),
    }
}

/// Packs `graph` with its last `layers` fully connected layers as the tail; `model` is the file it came from,
/// whose checksum the pack carries.
///
/// # Errors
/// See [`PackerError`].
pub fn pack(graph: &Graph, model: &[u8], layers: usize) -> Result<PackFile, PackerError> {
    let network = lower(graph)?;
    check_layers(&network, layers)?;
    let file = PackFile::new(&write::write(&network, flatmin::crc32(model), layers));
    flatmin::Pack::new(file.bytes())?;
    Ok(file)
}
