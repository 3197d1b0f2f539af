//! The model as it lies in flash: a validated, zero-copy view.
//!
//! [`Pack::new`] checks everything once: sizes, checksum, every record, every array's place. After it no
//! accessor can fail, whatever the bytes were. The bytes are specified in [`mod@format`].

pub(crate) mod bytes;
mod code;
mod error;
pub mod format;
mod function;
mod records;
mod share;
mod sizes;
mod tail;
mod trained_layer;
mod validate;

use crate::closed_form::Statistics;
use bytes::{f32_at, size_at, u16_at, u32_at};
pub(crate) use code::{Above, Affines, GraphCode, Kernel, NodeOp, NodePass, RefitOp, See, StreamCode};
pub use code::{Keeps, Operators};
pub use error::PackError;
use format::{header, operator, tensor};
pub use function::Function;
pub use records::{Activation, OperatorRecord, TensorRecord};
pub use share::ChosenInputs;
pub(crate) use share::TrainedRow;
pub use sizes::Sizes;
pub use tail::{Chosen, MAX_CHAIN_LAYERS, MAX_LAYERS, TailNode, TailValue};
pub use trained_layer::TrainedLayer;
pub(crate) use validate::{check, check_nodes, check_spares, check_state, check_statistics};

/// The checksum of packs, tails and messages: CRC-32/ISO-HDLC, the one of zlib and Ethernet.
pub(crate) static CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// CRC-32/ISO-HDLC of `bytes`, as packs and messages carry it.
///
/// ```
/// assert_eq!(flatmin::crc32(b"123456789"), 0xcbf4_3926); // the algorithm's published check value
/// ```
pub fn crc32(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// Rows of a fully connected operator's output.
pub(crate) fn dense_rows(output: &TensorRecord) -> usize {
    output.batch.saturating_mul(output.height).saturating_mul(output.width).max(1)
}

/// A type that puts its contents on a 16-byte boundary, as [`Pack::new`] wants them.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct Aligned<T: ?Sized>(pub T);

/// Embeds a pack in the program, aligned; the counterpart of `include_bytes!`.
/// [The crate's example](crate) includes one.
#[macro_export]
macro_rules! include_pack {
    ($path:expr $(,)?) => {{
        static PACK: &$crate::Aligned<[u8]> = &$crate::Aligned(*include_bytes!($path));
        &PACK.0
    }};
}

/// A validated view of a packed network.
///
/// ```
/// use flatmin::{Pack, PackError};
/// assert_eq!(Pack::new(b"nonsense").err(), Some(PackError::Truncated { needed: 112, found: 8 }));
/// ```
///
/// ```
/// use flatmin::{Loss, Pack, include_pack};
/// static MODEL: &[u8] = include_pack!("../../tests/examples/motion.pack");
/// let pack = Pack::new(MODEL)?;
/// assert_eq!((pack.bytes(), pack.loss()), (MODEL, Loss::CrossEntropy));
/// assert_eq!((pack.input_count(), pack.input().len(), pack.input_at(0).len()), (1, 600, 600));
/// assert_eq!((pack.output_count(), pack.output().len(), pack.output_at(0).len()), (1, 7, 7));
/// assert_eq!(pack.feature().len(), pack.sizes().feature_length); // what is kept of a sample
/// assert_eq!(pack.known_classes() + pack.spare_classes(), 7);
/// assert!(pack.trunk_macs() > 0 && !pack.keeps_state());
/// assert_ne!(pack.crc32(), pack.model_crc32()); // of the pack, and of the model that it was made of
/// # Ok::<(), flatmin::PackError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Pack<'a> {
    bytes: &'a [u8],
    sizes: Sizes,
    operators: &'a Operators,
}

impl<'a> Pack<'a> {
    /// [`Self::new`] with the code of some operators alone: firmware that is built around one pack names
    /// [`Operators::of`] it, and the linker leaves the other kernels out.
    ///
    /// # Errors
    /// [`PackError`]; also where the pack has an operator that `operators` has not.
    // What it has on the stack is not there for as long as the caller lasts.
    #[inline(never)]
    pub fn with_operators(bytes: &'a [u8], operators: &'a Operators) -> Result<Self, PackError> {
        validate::envelope(bytes)?;
        // Bytes past the pack's own end may be another flash user's.
        let own = bytes.get(..size_at(bytes, header::TOTAL_BYTES)).unwrap_or(bytes);
        let pack = Self { bytes: own, sizes: Sizes::read(own), operators };
        validate::network(&pack)?;
        Ok(pack)
    }

    /// Sizes of the network.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The pack's bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The pack's own CRC-32: identifies network and cut.
    pub fn crc32(&self) -> u32 {
        u32_at(self.bytes, header::CRC)
    }

    /// CRC-32 of the file that the pack was made from.
    pub fn model_crc32(&self) -> u32 {
        u32_at(self.bytes, header::MODEL_CRC)
    }

    /// Real value of one quantization step at the cut, as the f32 tail sees it.
    #[doc(hidden)]
    pub fn feature_unit(&self) -> f32 {
        f32_at(self.bytes, header::FEATURE_UNIT)
    }

    /// The factory's statistics of what the last layer reads; `None` where none were packed.
    #[doc(hidden)]
    pub fn statistics(&self) -> Option<Statistics<'a>> {
        let start = size_at(self.bytes, header::STATISTICS);
        let (classes, features) = (self.known_classes(), self.sizes.last_features);
        let bytes = self.bytes.get(start..start.saturating_add(Statistics::bytes(classes, features)))?;
        if start == 0 { None } else { Statistics::new(bytes, classes, features) }
    }

    /// Number of tensor records.
    #[doc(hidden)]
    pub fn tensor_count(&self) -> u16 {
        u16_at(self.bytes, header::TENSOR_COUNT)
    }

    /// Number of operators.
    #[doc(hidden)]
    pub fn operator_count(&self) -> u16 {
        u16_at(self.bytes, header::OPERATOR_COUNT)
    }

    /// Number of operators, after those of [`Self::operator_count`], that give variables their first values.
    pub(crate) fn reset_operators(&self) -> u16 {
        u16_at(self.bytes, header::RESET_OPERATORS)
    }

    /// Whether the network keeps variables from one inference to the next: it then takes a stream, hop by hop.
    pub fn keeps_state(&self) -> bool {
        self.reset_operators() > 0
    }

    /// Number of frozen operators in front of the tail.
    #[doc(hidden)]
    pub fn trunk_operators(&self) -> u16 {
        u16_at(self.bytes, header::TRUNK_OPERATORS)
    }

    /// The kernels that this pack is run with.
    pub(crate) fn operators(&self) -> &'a Operators {
        self.operators
    }

    /// Number of the network's inputs.
    pub fn input_count(&self) -> usize {
        u16_at(self.bytes, header::INPUT_COUNT).into()
    }

    /// Number of the network's outputs.
    pub fn output_count(&self) -> usize {
        u16_at(self.bytes, header::OUTPUT_COUNT).into()
    }

    /// Input `place` of the network; the tensor record of index 65,535, all zeros, if there is none.
    pub fn input_at(&self, place: usize) -> TensorRecord {
        self.tensor(if place < self.input_count() { self.border(place) } else { u16::MAX })
    }

    /// Output `place` of the network, likewise.
    pub fn output_at(&self, place: usize) -> TensorRecord {
        let listed = self.input_count().saturating_add(place);
        self.tensor(if place < self.output_count() { self.border(listed) } else { u16::MAX })
    }

    fn border(&self, place: usize) -> u16 {
        u16_at(self.bytes, size_at(self.bytes, header::BORDERS).saturating_add(place * 2))
    }

    /// The network's first input.
    pub fn input(&self) -> TensorRecord {
        self.tensor(u16_at(self.bytes, header::INPUT_TENSOR))
    }

    /// The tensor at the cut.
    pub fn feature(&self) -> TensorRecord {
        self.tensor(u16_at(self.bytes, header::FEATURE_TENSOR))
    }

    /// The network's first output.
    pub fn output(&self) -> TensorRecord {
        self.tensor(u16_at(self.bytes, header::OUTPUT_TENSOR))
    }

    /// Tensor record `index`; all zeros if there is none.
    #[doc(hidden)]
    pub fn tensor(&self, index: u16) -> TensorRecord {
        TensorRecord::read(self.record(header::TENSORS, tensor::BYTES, index))
    }

    /// Operator record `index`; all zeros, which is no kind, if there is none.
    #[doc(hidden)]
    pub fn operator(&self, index: u16) -> OperatorRecord {
        OperatorRecord::read(self.record(header::OPERATORS, operator::BYTES, index))
    }

    /// Multiply-adds of one run of the trunk.
    pub fn trunk_macs(&self) -> u64 {
        (0..self.trunk_operators()).map(|i| self.operator_macs(&self.operator(i))).sum()
    }

    /// Multiply-adds of one run of an operator; additions alone (pools, means) don't count.
    #[doc(hidden)]
    pub fn operator_macs(&self, op: &OperatorRecord) -> u64 {
        let (input, output) = (self.tensor(op.input), self.tensor(op.output));
        let taps = op.window.filter[0] * op.window.filter[1];
        let each = match op.kind {
            operator::CONV_2D => taps * input.channels,
            operator::GROUPED_CONV_2D => taps * input.channels / op.depth_multiplier.max(1),
            operator::DEPTHWISE_CONV_2D => taps,
            operator::FULLY_CONNECTED => input.len() / dense_rows(&output),
            _ => 0,
        };
        output.len() as u64 * each as u64
    }

    /// An operator's int32 parameters.
    pub(crate) fn parameters(&self, op: &OperatorRecord) -> &'a [i32] {
        self.int32(op.parameters, op.parameter_count)
    }

    /// A lookup's table.
    pub(crate) fn table(&self, op: &OperatorRecord) -> Option<&'a [u8; 256]> {
        self.bytes.get(op.parameters..)?.first_chunk()
    }

    fn record(&self, table: usize, record_bytes: usize, index: u16) -> &'a [u8] {
        let start = size_at(self.bytes, table).saturating_add(usize::from(index) * record_bytes);
        // Validation follows references before it has checked them.
        self.bytes.get(start..start.saturating_add(record_bytes)).unwrap_or(&[])
    }

    /// int8 constants, or nothing if they are not there (which validation excludes).
    pub(crate) fn int8(&self, offset: usize, length: usize) -> &'a [i8] {
        let bytes = self.bytes.get(offset..offset.saturating_add(length));
        bytes.and_then(|b| bytemuck::try_cast_slice(b).ok()).unwrap_or(&[])
    }

    /// int32 constants, likewise.
    pub(crate) fn int32(&self, offset: usize, length: usize) -> &'a [i32] {
        self.words(offset, length)
    }

    /// float32 constants, likewise.
    pub(crate) fn float32(&self, offset: usize, length: usize) -> &'a [f32] {
        self.words(offset, length)
    }

    fn words<T: bytemuck::AnyBitPattern>(&self, offset: usize, length: usize) -> &'a [T] {
        let bytes = self.bytes.get(offset..offset.saturating_add(length.saturating_mul(4)));
        bytes.and_then(|b| bytemuck::try_cast_slice(b).ok()).unwrap_or(&[])
    }
}
