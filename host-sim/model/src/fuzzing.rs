//! What must hold for any bytes: the bodies of the fuzz targets in `host-sim/fuzz`, and of the test that replays
//! what they found.

use crate::graph::Graph;
use crate::packer::{self, PackFile};
use crate::{onnx, tflite};
use flatmin::Pack;
use flatmin::internals::pack::format::{INPUTS_VERSION, VERSION, header};

/// Networks above this are not run: time, not memory safety.
const LARGEST_MACS: u64 = 2_000_000;
/// Arenas above this are not allocated.
const LARGEST_ARENA: usize = 1 << 20;

/// Bytes as a `.tflite`: a model or an error; a model packs or is refused; a pack runs.
pub fn tflite(bytes: &[u8]) {
    if let Ok(graph) = tflite::read(bytes) {
        graph_of(&graph, bytes);
    }
}

/// The same for an ONNX file.
pub fn onnx(bytes: &[u8]) {
    if let Ok(network) = onnx::read(bytes) {
        graph_of(&network.graph, bytes);
    }
}

fn graph_of(graph: &Graph, bytes: &[u8]) {
    let Ok(network) = packer::lower(graph) else { return };
    for layers in 0..=network.trainable_layers() {
        if let Ok(file) = packer::pack(&network, flatmin::crc32(bytes), layers) {
            run(&file.pack());
        }
    }
}

/// Bytes as a pack, its magic, version, size and checksum made right: refused, or runs.
pub fn pack(bytes: &[u8]) {
    let _ = Pack::new(bytes);
    let mut bytes = bytes.to_vec();
    if bytes.len() < header::BYTES {
        return;
    }
    bytes[..8].copy_from_slice(&flatmin::internals::pack::format::MAGIC);
    if !(VERSION..=INPUTS_VERSION).contains(&u16::from(bytes[header::VERSION])) {
        bytes[header::VERSION] = VERSION.to_le_bytes()[0];
    }
    bytes[header::VERSION + 1] = 0;
    let Ok(total) = u32::try_from(bytes.len()) else { return };
    bytes[header::TOTAL_BYTES..][..4].copy_from_slice(&total.to_le_bytes());
    let crc = flatmin::crc32(&bytes[header::CHECKED_FROM..]);
    bytes[header::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
    let file = PackFile::new(&bytes);
    if let Ok(pack) = Pack::new(file.bytes()) {
        run(&pack);
    }
}

/// Runs two hops through a validated pack, twice: the answers are of the network's length, and the same again.
fn run(pack: &Pack) {
    let sizes = pack.sizes();
    let all = (0..pack.operator_count()).map(|index| pack.operator_macs(&pack.operator(index)));
    let macs = all.fold(0, u64::saturating_add);
    let moved = (0..pack.operator_count()).map(|index| pack.tensor(pack.operator(index).output).len() as u64);
    let work = moved.fold(macs, u64::saturating_add);
    if work > LARGEST_MACS || sizes.arena_bytes > LARGEST_ARENA {
        return;
    }
    let infer = || {
        let mut arena = vec![0; sizes.arena_bytes];
        flatmin::inference::reset(pack, &mut arena);
        for hop in 1..3 {
            for place in 0..pack.input_count() {
                let input = vec![hop; pack.input_at(place).len()];
                assert!(flatmin::inference::load(pack, place, &input, &mut arena));
            }
            flatmin::inference::run(pack, &mut arena);
        }
        let outputs = 0..pack.output_count();
        outputs.map(|place| flatmin::inference::output(pack, place, &arena).to_vec()).collect::<Vec<_>>()
    };
    let first = infer();
    assert!(first.iter().enumerate().all(|(place, y)| y.len() == pack.output_at(place).len()));
    assert_eq!(first, infer());
}
