//! One node: its names and attributes, and messages about it.

use super::message::{self, Attribute};
use super::{ReadError, decode, printable};
use prost::Message;
use std::collections::BTreeMap;

/// Attributes a node may have; no operator of the specification has half as many.
const ATTRIBUTES: usize = 64;

/// A node of the graph.
#[derive(Debug)]
pub(super) struct Node {
    /// Position among the nodes that are folded.
    pub index: usize,
    /// Position in the file.
    in_file: usize,
    pub operator: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    name: String,
    pub domain: Domain,
    raw_attributes: Vec<bytes::Bytes>,
}

/// Whose operator a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Domain {
    /// The standard's own operator set.
    Standard,
    /// ONNX Runtime's.
    Runtime,
    Other,
}

/// Why a node did not become operators of the graph.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Well-formed, but more than the graph can say.
    Unsupported(String),
    /// It depends on what was refused before.
    Unknown,
    /// The file contradicts itself.
    Error(ReadError),
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        Self::Error(error)
    }
}

/// A refusal of something well-formed.
pub(super) fn unsupported<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Unsupported(reason.into()))
}

impl Node {
    /// Checks what every node has.
    pub fn new(index: usize, node: message::Node) -> Result<Self, ReadError> {
        let message::Node { inputs, outputs, name, operator, attributes, domain } = node;
        let domain = match domain.as_str() {
            "" | "ai.onnx" => Domain::Standard,
            "com.microsoft" => Domain::Runtime,
            _ => Domain::Other,
        };
        let raw_attributes = attributes;
        let node = Self { index, in_file: index, operator, inputs, outputs, name, domain, raw_attributes };
        if node.operator.is_empty() {
            return Err(node.problem("has no operator"));
        }
        if node.outputs.iter().all(String::is_empty) {
            return Err(node.problem("has no output"));
        }
        if node.raw_attributes.len() > ATTRIBUTES {
            return Err(node.problem(format!("{} attributes", node.raw_attributes.len())));
        }
        Ok(node)
    }

    /// A node of the standard's that stands for a part of this one; with attributes of its own.
    pub fn part(
        &self,
        operator: &str,
        inputs: Vec<String>,
        output: String,
        attributes: Vec<Attribute>,
    ) -> Self {
        let own = attributes.into_iter().map(|attribute| attribute.encode_to_vec().into());
        Self {
            index: self.index,
            in_file: self.in_file,
            operator: operator.into(),
            inputs,
            outputs: vec![output],
            name: self.name.clone(),
            domain: Domain::Standard,
            raw_attributes: own.collect(),
        }
    }

    /// The node that does this one's work on real numbers.
    pub fn real(&self, operator: &str, inputs: Vec<String>, output: String) -> Self {
        Self {
            raw_attributes: self.raw_attributes.clone(),
            ..self.part(operator, inputs, output, Vec::new())
        }
    }

    /// Operator, and name if it has one.
    pub fn title(&self) -> String {
        match self.name.as_str() {
            "" => printable(&self.operator),
            name => format!("{} `{}`", printable(&self.operator), printable(name)),
        }
    }

    /// An error about this node.
    pub fn problem(&self, problem: impl Into<String>) -> ReadError {
        ReadError::Node { index: self.in_file, operator: self.title(), problem: problem.into() }
    }

    /// The same as a refusal.
    pub fn error<T>(&self, problem: impl Into<String>) -> Result<T, Refusal> {
        Err(self.problem(problem).into())
    }

    /// Name of an input, `None` if it is omitted.
    pub fn input(&self, input: usize) -> Option<&str> {
        self.inputs.get(input).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Name of the first output.
    pub fn output(&self) -> &str {
        self.outputs.first().map_or("", String::as_str)
    }

    /// The attributes by name.
    pub fn attributes(&self) -> Result<Attributes<'_>, ReadError> {
        let mut attributes = BTreeMap::new();
        for raw in &self.raw_attributes {
            let attribute: Attribute = decode(raw.clone(), "attribute")?;
            attributes.insert(attribute.name.clone(), attribute);
        }
        Ok(Attributes { node: self, attributes })
    }
}

/// The attributes of a node.
pub(super) struct Attributes<'a> {
    node: &'a Node,
    attributes: BTreeMap<String, Attribute>,
}

impl Attributes<'_> {
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name)
    }

    pub fn integer(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |a| a.integer)
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.get(name).map_or(default, |a| a.float)
    }

    pub fn integers(&self, name: &str) -> Option<&[i64]> {
        self.get(name).map(|a| a.integers.as_slice())
    }

    /// A word, `default` if there is none.
    pub fn word<'a>(&'a self, name: &str, default: &'a str) -> std::borrow::Cow<'a, str> {
        self.get(name).map_or(default.into(), |a| String::from_utf8_lossy(&a.string))
    }

    /// `count` numbers from 0 or 1 to 65,535, the same default for all.
    pub fn extents(
        &self,
        name: &str,
        count: usize,
        default: usize,
        least: i64,
    ) -> Result<Vec<usize>, ReadError> {
        let Some(found) = self.integers(name) else { return Ok(vec![default; count]) };
        if found.len() != count {
            return Err(self
                .node
                .problem(format!("{name} has {} numbers, {count} are expected", found.len())));
        }
        let extent = |&value: &i64| match usize::try_from(value) {
            Ok(extent) if (least..=65_535).contains(&value) => Ok(extent),
            _ => Err(self.node.problem(format!("{name} has {value}, {least} to 65535 is expected"))),
        };
        found.iter().map(extent).collect()
    }
}
