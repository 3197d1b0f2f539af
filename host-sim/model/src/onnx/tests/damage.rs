//! Whatever the bytes, there is a graph whose indices and sizes hold, or an error.

use super::build::Model;
use super::*;
use crate::graph::Tensor;
use message::Attribute;
use prost::Message;

/// PCG's multiplier; the high half alone is used.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// The models of the golden files, from the smallest to the largest.
fn files() -> Vec<Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/tests/onnx/golden");
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let models = paths.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    let mut files: Vec<_> = models.map(|path| std::fs::read(path).unwrap()).collect();
    files.sort();
    files.sort_by_key(Vec::len);
    assert!(files.len() > 70);
    files
}

/// What a reader promises.
fn check(network: &Network) {
    let graph = &network.graph;
    let count = graph.tensors.len();
    let bytes = |tensor: &Tensor| {
        let size = match tensor.element {
            Element::I8 | Element::U8 => 1,
            _ => 4,
        };
        size * tensor.shape.iter().product::<usize>()
    };
    for tensor in &graph.tensors {
        assert!(tensor.data.as_ref().is_none_or(|data| data.len() == bytes(tensor)), "{tensor:?}");
        assert!(tensor.shape.iter().product::<usize>() <= 1 << 31);
        if let Some(q) = &tensor.quantization {
            assert_eq!(q.scales.len(), q.zero_points.len());
            assert!(q.scales.len() == 1 || q.scales.len() == tensor.shape[q.axis], "{tensor:?}");
            assert!(q.scales.iter().all(|s| s.is_finite() && *s > 0.0), "{tensor:?}");
        }
    }
    for operator in &graph.operators {
        assert!(operator.inputs.iter().flatten().chain(&operator.outputs).all(|&tensor| tensor < count));
        let shape = |tensor: Option<&usize>| tensor.map(|&tensor| graph.tensors[tensor].shape.as_slice());
        let (from, to) = (shape(operator.inputs.iter().flatten().next()), shape(operator.outputs.first()));
        match (&operator.kind, from, to) {
            (Kind::Unsupported(_), ..) => {}
            (Kind::Reshape, Some(from), Some(to)) => {
                assert_eq!(from.iter().product::<usize>(), to.iter().product::<usize>());
            }
            (Kind::Transpose { permutation }, Some(from), Some(to)) => {
                assert_eq!(permuted(from, permutation), to)
            }
            (Kind::Conv2d(..), Some(from), Some(to)) => {
                let filter = shape(operator.inputs[1].as_ref()).unwrap();
                assert_eq!((from.len(), to.len(), filter[0]), (4, 4, to[3]));
                assert_eq!(from[3] % filter[3], 0);
            }
            (_, from, to) => assert!(from.is_some() && to.is_some(), "{operator:?}"),
        }
    }
    for (&tensor, border) in graph.inputs.iter().zip(&network.inputs) {
        assert_eq!(permuted(&border.shape, &border.order), graph.tensors[tensor].shape);
    }
    for (&tensor, border) in graph.outputs.iter().zip(&network.outputs) {
        assert_eq!(permuted(&border.shape, &border.order), graph.tensors[tensor].shape);
    }
}

#[test]
fn every_prefix_is_an_error_or_a_graph() {
    for bytes in files().iter().take(40) {
        check(&read(bytes).unwrap());
        for length in 0..bytes.len() {
            if let Ok(network) = read(&bytes[..length]) {
                check(&network);
            }
        }
    }
}

#[test]
fn damaged_bytes() {
    let mut random = Random(42);
    let (mut graphs, mut rounds) = (0, 0);
    for bytes in files() {
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(6) {
                let at = random.below(damaged.len());
                damaged[at] = match random.below(3) {
                    0 => random.below(256) as u8,
                    _ => damaged[at] ^ 1 << random.below(8),
                };
            }
            rounds += 1;
            if let Ok(network) = read(&damaged) {
                check(&network);
                graphs += 1;
            }
        }
    }
    // If none or all came through, the damage was not worth the name.
    assert!((rounds / 100..rounds).contains(&graphs), "{graphs} of {rounds}");
}

/// Whole messages with wrong contents: other operators, names, numbers and shapes.
#[test]
fn damaged_meaning() {
    let files = files();
    let mut random = Random(7);
    let mut operators: Vec<String> = Vec::new();
    for bytes in &files {
        operators.extend(Model::parts(bytes).nodes.into_iter().map(|node| node.operator));
    }
    operators.extend(
        ["Gather", "Shape", "Cast", "Constant", "Upsample", "HardSigmoid", "Identity"].map(String::from),
    );
    operators.sort();
    operators.dedup();
    let (mut graphs, mut rounds) = (0, 0);
    for bytes in &files {
        for _ in 0..300 {
            let mut model = Model::parts(bytes);
            for _ in 0..=random.below(4) {
                change(&mut model, &operators, &mut random);
            }
            rounds += 1;
            if let Ok(network) = read(&model.bytes()) {
                check(&network);
                graphs += 1;
            }
        }
    }
    assert!((rounds / 100..rounds).contains(&graphs), "{graphs} of {rounds}");
}

fn extreme(random: &mut Random) -> i64 {
    const EXTREMES: [i64; 14] =
        [0, 1, -1, 2, 3, 4, 5, 7, -2, 65_535, 65_536, i32::MAX as i64, i64::MAX, i64::MIN];
    EXTREMES[random.below(EXTREMES.len())]
}

fn change(model: &mut Model, operators: &[String], random: &mut Random) {
    let mut names: Vec<String> = model.nodes.iter().flat_map(|node| node.outputs.clone()).collect();
    names.extend(model.initializers.iter().map(|tensor| tensor.name.clone()));
    names.push(String::new());
    let name = names[random.below(names.len())].clone();
    let place = random.below(model.nodes.len());
    let node = &mut model.nodes[place];
    match random.below(9) {
        0 => node.operator = operators[random.below(operators.len())].clone(),
        1 if !node.inputs.is_empty() => {
            let input = random.below(node.inputs.len());
            node.inputs[input] = name;
        }
        2 => node.inputs.push(name),
        3 => {
            node.inputs.pop();
        }
        4 if !node.attributes.is_empty() => {
            let at = random.below(node.attributes.len());
            let mut attribute = Attribute::decode(node.attributes[at].clone()).unwrap();
            attribute.integer = extreme(random);
            attribute.float = [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-30][random.below(5)];
            if !attribute.integers.is_empty() {
                let at = random.below(attribute.integers.len());
                attribute.integers[at] = extreme(random);
            }
            node.attributes[at] = attribute.encode_to_vec().into();
        }
        5 => {
            let names = [
                "axis",
                "axes",
                "pads",
                "strides",
                "perm",
                "split",
                "keepdims",
                "ceil_mode",
                "auto_pad",
                "to",
            ];
            let integers: Vec<i64> = (0..random.below(5)).map(|_| extreme(random)).collect();
            attribute(node, names[random.below(names.len())], &integers);
        }
        6 if !model.initializers.is_empty() => {
            // The shape with the extents that it has, in another order or one.
            let at = random.below(model.initializers.len());
            let shape = &mut model.initializers[at].shape;
            match random.below(3) {
                0 => shape.reverse(),
                1 => shape.insert(0, 1),
                _ => *shape = vec![shape.iter().product()],
            }
        }
        7 if !model.initializers.is_empty() => {
            let at = random.below(model.initializers.len());
            let tensor = &mut model.initializers[at];
            let raw =
                tensor.raw.as_ref().map(|raw| raw.iter().map(|b| b ^ random.below(256) as u8).collect());
            tensor.raw = raw;
        }
        _ => {
            if let Some(shape) =
                model.inputs.first_mut().and_then(|input| input.value_type.as_mut()?.tensor.as_mut())
            {
                let extents = shape.shape.as_mut().map_or(&mut [][..], |shape| &mut shape.extents);
                let at = random.below(extents.len().max(1));
                if let Some(extent) = extents.get_mut(at) {
                    extent.value = Some(extreme(random));
                }
            }
        }
    }
}
