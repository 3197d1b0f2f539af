//! A model file: its bytes and the graph in it.

use crate::mapped::with_file;
use crate::packer::{self, Network, PackFile, TailPlan, Trains};
use crate::{onnx, tflite};
use anyhow::{Context, Result, anyhow, bail};
use flatmin::Loss;
use std::path::{Path, PathBuf};

/// A model, named for messages.
#[derive(Debug, Clone)]
pub struct Model {
    /// File name, or what a bundled model is called.
    pub name: String,
    /// The network as the runtime runs it.
    pub network: Network,
    source: Source,
    tflite: bool,
    file_bytes: usize,
    file_crc32: u32,
}

/// Where a model's bytes are.
#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Bundled(&'static [u8]),
    /// Nowhere: the bytes were given for this once.
    Gone,
}

impl Model {
    /// Reads a `.tflite`, or an ONNX file if its name ends in `.onnx`.
    ///
    /// # Errors
    /// The message names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        let onnx = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
        let name = path.display().to_string();
        let parse =
            |bytes: &[u8]| if onnx { Self::parse_onnx(name, bytes) } else { Self::parse(name, bytes) };
        let parsed =
            with_file(path, parse).with_context(|| format!("cannot read the model {}", path.display()))?;
        Ok(Self { source: Source::File(path.to_owned()), ..parsed? })
    }

    /// A bundled model.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn bundled(name: String, bytes: &'static [u8]) -> Result<Self> {
        Ok(Self { source: Source::Bundled(bytes), ..Self::parse(name, bytes)? })
    }

    /// A `.tflite` in memory.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn parse(name: String, bytes: &[u8]) -> Result<Self> {
        let graph = tflite::read(bytes).with_context(|| name.clone())?;
        let network = packer::lower(&graph).with_context(|| name.clone())?;
        Ok(Self {
            name,
            network,
            source: Source::Gone,
            tflite: true,
            file_bytes: bytes.len(),
            file_crc32: flatmin::crc32(bytes),
        })
    }

    /// The borders keep the file's shapes, whatever order the network's tensors lie in.
    fn parse_onnx(name: String, bytes: &[u8]) -> Result<Self> {
        let file = onnx::read(bytes).with_context(|| name.clone())?;
        let mut network = packer::lower(&file.graph).with_context(|| name.clone())?;
        let both = network.inputs.iter_mut().zip(file.inputs);
        for (border, onnx::Border { shape, order }) in
            both.chain(network.outputs.iter_mut().zip(file.outputs))
        {
            (border.shape, border.order) = (shape, order);
        }
        Ok(Self {
            name,
            network,
            source: Source::Gone,
            tflite: false,
            file_bytes: bytes.len(),
            file_crc32: flatmin::crc32(bytes),
        })
    }

    /// A network that comes from no file.
    pub fn of_network(name: String, network: Network) -> Self {
        Self { name, network, source: Source::Gone, tflite: false, file_bytes: 0, file_crc32: 0 }
    }

    /// Whether the file was a `.tflite`.
    pub fn is_tflite(&self) -> bool {
        self.tflite
    }

    /// Calls `function` with the bytes of the `.tflite` that the model came from.
    ///
    /// # Errors
    /// An ONNX file, or one that is no longer there as it was read.
    pub fn with_file<T>(&self, function: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let unchanged = |bytes: &[u8]| {
            if flatmin::crc32(bytes) == self.file_crc32 { Ok(function(bytes)) } else { Err(()) }
        };
        let called = match &self.source {
            Source::File(path) => with_file(path, unchanged)
                .with_context(|| format!("cannot read the model {}", path.display()))?,
            Source::Bundled(bytes) => unchanged(bytes),
            Source::Gone => Err(()),
        };
        called.map_err(|()| anyhow!("{}: the file has changed since it was read", self.name))
    }

    /// Packs it with a tail: the last layers, by their number, or a choice of what of them is trained.
    ///
    /// # Errors
    /// The message names the model.
    pub fn pack(&self, tail: impl Into<TailPlan>) -> Result<PackFile> {
        packer::pack_tail(&self.network, self.file_crc32, &tail.into()).with_context(|| self.name.clone())
    }

    /// The same to be tuned with this loss, whatever the network ends in; `None`: what that says.
    pub fn with_loss(mut self, loss: Option<Loss>) -> Self {
        self.network.loss = loss;
        self
    }

    /// The same with so many spare classes behind those that it knows, for [`flatmin::Tuner::add_class`].
    ///
    /// # Errors
    /// A network that does not end in a dense classifier; the message names the model.
    pub fn with_spare_classes(mut self, spare: usize) -> Result<Self> {
        self.network = self.network.with_spare_classes(spare).with_context(|| self.name.clone())?;
        Ok(self)
    }

    /// How many layers to train: as many as asked for; where nothing was asked, the last two fully connected
    /// layers, or one.
    ///
    /// # Errors
    /// The network ends in fewer trainable layers, or in none; the message says why.
    pub fn tail_layers(&self, asked: Option<usize>) -> Result<usize> {
        let layers = asked.unwrap_or_else(|| self.network.chain_layers().clamp(1, 2));
        packer::check_layers(&self.network, layers).with_context(|| self.name.clone())?;
        Ok(layers)
    }

    /// The tail to train: `asked` layers, as [`Self::tail_layers`] reads it, and what of each is trained.
    ///
    /// # Errors
    /// As [`Self::tail_layers`]; more choices than layers.
    pub fn tail_plan(&self, asked: Option<usize>, trains: &[Trains]) -> Result<TailPlan> {
        let layers = self.tail_layers(asked)?;
        if trains.len() > layers {
            bail!("--train names {} layers, the tail has {layers}", trains.len());
        }
        Ok(TailPlan { layers, trains: trains.to_vec() })
    }

    /// Shape of the first input in the file, batch included.
    pub fn input_shape(&self) -> &[usize] {
        self.network.inputs.first().map_or(&[], |border| &border.shape)
    }

    /// Shape of the first output in the file, batch included.
    pub fn output_shape(&self) -> &[usize] {
        self.network.outputs.first().map_or(&[], |border| &border.shape)
    }

    /// Size of the file in bytes.
    pub fn file_bytes(&self) -> usize {
        self.file_bytes
    }
}
