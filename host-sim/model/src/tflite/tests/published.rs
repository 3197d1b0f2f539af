//! Bundled models, and published ones against what TensorFlow Lite's own interpreter says of them.
//! The latter are not part of the repository: without the folder the tests say so and pass.

use std::path::{Path, PathBuf};

use super::super::read;
use super::damage;
use crate::graph::{Activation, Element, Graph, Kind, Padding, Window};

struct Case {
    path: &'static str,
    tensors: usize,
    /// CRC-32 of all constants, and of all scales, in the order of the tensors.
    constants: u32,
    scales: u32,
    operators: &'static str,
    input: (&'static [usize], f32, i64),
    output: (&'static [usize], f32, i64),
}

#[rustfmt::skip]
const CASES: [Case; 8] = [
    Case {
        path: "microflow/sine.tflite",
        tensors: 10, constants: 0xea5f_c81c, scales: 0x973a_a7b6,
        operators: "FC FC FC",
        input: (&[1, 1], 0.024573976, -128),
        output: (&[1, 1], 0.008269669, 7),
    },
    Case {
        path: "tflm/hello_world_int8.tflite",
        tensors: 10, constants: 0xc4ac_43bd, scales: 0x585d_b245,
        operators: "FC FC FC",
        input: (&[1, 1], 0.024480116, -128),
        output: (&[1, 1], 0.008290957, 5),
    },
    Case {
        path: "tflm/micro_speech_quantized.tflite",
        tensors: 10, constants: 0xf23c_9b03, scales: 0xd660_f492,
        operators: "RESHAPE DEPTHWISE FC SOFTMAX",
        input: (&[1, 1960], 0.101715684, -128),
        output: (&[1, 4], 0.00390625, -128),
    },
    Case {
        path: "mlperf-tiny/anomaly_detection/ad01_int8.tflite",
        tensors: 31, constants: 0x23b2_448e, scales: 0x3194_dbbc,
        operators: "FC FC FC FC FC FC FC FC FC FC",
        input: (&[1, 640], 0.39101523, 89),
        output: (&[1, 640], 0.36449847, 96),
    },
    Case {
        path: "mlperf-tiny/image_classification/pretrainedResnet_quant.tflite",
        tensors: 38, constants: 0x9099_34eb, scales: 0xa886_be64,
        operators: "CONV CONV CONV ADD CONV CONV CONV ADD CONV CONV CONV ADD AVERAGE RESHAPE FC SOFTMAX",
        input: (&[1, 32, 32, 3], 1.0, -128),
        output: (&[1, 10], 0.00390625, -128),
    },
    Case {
        path: "mlperf-tiny/keyword_spotting/kws_ref_model.tflite",
        tensors: 35, constants: 0x2b9c_ec77, scales: 0xcaf0_e4be,
        operators: "CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV AVERAGE RESHAPE FC SOFTMAX",
        input: (&[1, 49, 10, 1], 0.5847029, 83),
        output: (&[1, 12], 0.00390625, -128),
    },
    Case {
        path: "mlperf-tiny/streaming_wakeword/str_ww_ref_model.tflite",
        tensors: 31, constants: 0x4001_bb60, scales: 0x0da3_c274,
        operators: "DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV RESHAPE FC SOFTMAX",
        input: (&[1, 30, 1, 40], 0.0037010426, -128),
        output: (&[1, 3], 0.00390625, -128),
    },
    Case {
        path: "mlperf-tiny/visual_wake_words/vww_96_int8.tflite",
        tensors: 89, constants: 0x1a5f_ed69, scales: 0xc769_75ae,
        operators: "CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV \
            DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV DEPTHWISE CONV \
            AVERAGE RESHAPE FC SOFTMAX",
        input: (&[1, 96, 96, 3], 0.003921569, -128),
        output: (&[1, 2], 0.00390625, -128),
    },
];

#[test]
fn agree_with_the_interpreter() {
    let Some(models) = models() else { return };
    for case in CASES {
        let graph = read(&std::fs::read(models.join(case.path)).unwrap()).unwrap();
        assert_eq!(graph.tensors.len(), case.tensors, "{}", case.path);
        let operators: Vec<_> = graph.operators.iter().map(|o| short(&o.name)).collect();
        assert_eq!(operators.join(" "), case.operators, "{}", case.path);
        let constants = graph.tensors.iter().filter_map(|t| t.data.as_ref()).flatten();
        assert_eq!(crc32(constants.copied()), case.constants, "{}", case.path);
        let scales = graph.tensors.iter().filter_map(|t| t.quantization.as_ref());
        let scales = scales.flat_map(|q| &q.scales).flat_map(|s| s.to_le_bytes());
        assert_eq!(crc32(scales), case.scales, "{}", case.path);
        for (indices, expected) in [(&graph.inputs, case.input), (&graph.outputs, case.output)] {
            let tensor = &graph.tensors[indices[0]];
            let quantization = tensor.quantization.as_ref().unwrap();
            let found = (&tensor.shape[..], quantization.scales[0], quantization.zero_points[0]);
            assert_eq!(found, expected, "{}", case.path);
            assert_eq!((indices.len(), tensor.element), (1, Element::I8), "{}", case.path);
        }
    }
}

#[test]
fn options_of_the_keyword_network() {
    let Some(models) = models() else { return };
    let graph = open(&models, "mlperf-tiny/keyword_spotting/kws_ref_model.tflite");
    let window = |padding, stride| Window { padding, stride, dilation: [1, 1] };
    let first = &graph.operators[0];
    assert_eq!(first.kind, Kind::Conv2d(window(Padding::Same, [2, 2]), Activation::Relu));
    assert_eq!(first.inputs, [Some(0), Some(17), Some(3)]);
    assert_eq!(graph.tensors[17].shape, [64, 10, 4, 1]);
    assert_eq!(graph.tensors[17].quantization.as_ref().unwrap().scales.len(), 64);
    let depthwise = Kind::DepthwiseConv2d(window(Padding::Same, [1, 1]), Activation::Relu, 1);
    assert_eq!(graph.operators[1].kind, depthwise);
    let filter = graph.operators[1].inputs[1].unwrap();
    assert_eq!(graph.tensors[filter].quantization.as_ref().unwrap().axis, 3);
    let pool = window(Padding::Valid, [25, 5]);
    assert_eq!(graph.operators[9].kind, Kind::AveragePool2d(pool, Activation::None, [25, 5]));
    assert_eq!(graph.operators[12].kind, Kind::Softmax(1.0));

    let graph = open(&models, "tflm/micro_speech_quantized.tflite");
    let depthwise = Kind::DepthwiseConv2d(window(Padding::Same, [2, 2]), Activation::Relu, 8);
    assert_eq!(graph.operators[1].kind, depthwise);
}

/// The repository's own models are always there.
#[test]
fn bundled_models() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut models: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "tflite")).collect();
    models.sort();
    assert!(!models.is_empty());
    for path in &models {
        let graph = read(&std::fs::read(path).unwrap()).unwrap();
        let unsupported = graph.operators.iter().any(|o| matches!(o.kind, Kind::Unsupported(_)));
        assert!(!unsupported, "{}", path.display());
        assert_eq!(graph.tensors[graph.inputs[0]].element, Element::I8);
    }
    damage(&std::fs::read(&models[0]).unwrap(), 20_000);
}

#[test]
fn damaged_ones_never_panic() {
    let Some(models) = models() else { return };
    for path in ["microflow/sine.tflite", "tflm/micro_speech_quantized.tflite"] {
        let bytes = std::fs::read(models.join(path)).unwrap();
        damage(&bytes, 20_000);
        for length in 0..bytes.len() {
            // Any graph but the whole one must not come from a part of the file.
            if let Ok(graph) = read(&bytes[..length]) {
                assert_eq!(Ok(graph), read(&bytes));
            }
        }
    }
}

fn open(models: &Path, path: &str) -> Graph {
    read(&std::fs::read(models.join(path)).unwrap()).unwrap()
}

fn models() -> Option<PathBuf> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !models.is_dir() {
        eprintln!("SKIPPED: no published models in {}", models.display());
        return None;
    }
    Some(models)
}

fn short(name: &str) -> &str {
    match name {
        "FULLY_CONNECTED" => "FC",
        other => other.split('_').next().unwrap_or(other),
    }
}

fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}
