//! Which pixel Resize takes, by the two specifications.

use super::node::{Attributes, Node, Refusal, unsupported};
use std::fmt;

/// Resize's way from a pixel of the output to one of the input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    coordinates: String,
    rounding: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.coordinates, self.rounding)
    }
}

impl Rule {
    /// From the attributes; `old` are the versions before 11.
    pub fn new(node: &Node, attributes: &Attributes<'_>, old: bool) -> Result<Self, Refusal> {
        if old {
            return Ok(Self { coordinates: "asymmetric".into(), rounding: "floor".into() });
        }
        let coordinates = attributes.word("coordinate_transformation_mode", "half_pixel").into_owned();
        let rounding = attributes.word("nearest_mode", "round_prefer_floor").into_owned();
        let known = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"];
        if !known.contains(&coordinates.as_str()) {
            return unsupported(format!("coordinates {:?}", super::printable(&coordinates)));
        }
        if !["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"].contains(&rounding.as_str()) {
            return node.error(format!("nearest_mode {:?}", super::printable(&rounding)));
        }
        Ok(Self { coordinates, rounding })
    }

    /// The input's pixel for each of the output's along one axis (the specification's formulas of Resize).
    pub fn sources(&self, input: usize, output: usize, scale: f64) -> Vec<usize> {
        let source = |x: usize| {
            let x = x as f64;
            let original = match self.coordinates.as_str() {
                "asymmetric" => x / scale,
                "align_corners" if output == 1 => 0.0,
                "align_corners" => x * (input - 1) as f64 / (output - 1) as f64,
                "pytorch_half_pixel" if output == 1 => 0.0,
                _ => (x + 0.5) / scale - 0.5,
            };
            let rounded = match self.rounding.as_str() {
                "round_prefer_floor" => (original - 0.5).ceil(),
                "round_prefer_ceil" => (original + 0.5).floor(),
                "floor" => original.floor(),
                _ => original.ceil(),
            };
            (rounded.max(0.0) as usize).min(input - 1)
        };
        (0..output).map(source).collect()
    }
}

/// The same for TensorFlow Lite's RESIZE_NEAREST_NEIGHBOR (`GetNearestNeighbor` of its reference kernel).
pub(super) fn sources(
    input: usize,
    output: usize,
    align_corners: bool,
    half_pixel_centers: bool,
) -> Vec<usize> {
    let scale = if align_corners && output > 1 {
        (input - 1) as f32 / (output - 1) as f32
    } else {
        input as f32 / output as f32
    };
    let offset = if half_pixel_centers { 0.5 } else { 0.0 };
    let source = |x: usize| {
        let position = (x as f32 + offset) * scale;
        let position = if align_corners { position.round() } else { position.floor() };
        (position as usize).min(input - 1)
    };
    (0..output).map(source).collect()
}
