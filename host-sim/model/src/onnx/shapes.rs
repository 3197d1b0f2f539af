//! Nodes that follow from constants and shapes alone: what exporters leave of the computation of shapes.

use super::constant::{Constant, Numbers};
use super::elementwise::integer_arithmetic;
use super::fold::Folder;
use super::message::data_type;
use super::node::{Attributes, Domain, Node, Refusal};
use super::value::Value;
use std::rc::Rc;

impl Folder<'_> {
    /// The node's result, if it is known; `None` if it is for others to compute.
    pub fn constant(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Option<Value>, Refusal> {
        if node.domain != Domain::Standard {
            return Ok(None);
        }
        let found = match node.operator.as_str() {
            "Constant" => Some(given(node, attributes)?),
            "Shape" => {
                let shape = self.shape_of(node, &self.value(node, 0)?)?;
                let length = shape.len() as i64;
                let place =
                    |p: i64| if p < 0 { p.saturating_add(length) } else { p }.clamp(0, length) as usize;
                let (start, end) =
                    (place(attributes.integer("start", 0)), place(attributes.integer("end", length)));
                let extents = shape.iter().take(end).skip(start).map(|&extent| extent as i64);
                let extents: Vec<i64> = extents.collect();
                Some(Constant::int64s(vec![extents.len()], extents))
            }
            "Gather" => {
                let (Some(list), Some(places)) = (self.known(node, 0), self.known(node, 1)) else {
                    return Ok(None);
                };
                let (Some(values), Some(indices), 1) = (list.integers(), places.integers(), list.shape.len())
                else {
                    return Ok(None);
                };
                let value = |&index: &i64| {
                    let index =
                        if index < 0 { index.saturating_add_unsigned(values.len() as u64) } else { index };
                    usize::try_from(index).ok().and_then(|index| values.get(index).copied())
                };
                match indices.iter().map(value).collect::<Option<Vec<_>>>() {
                    Some(values) => Some(Constant::int64s(places.shape.clone(), values)),
                    None => return node.error(format!("indices {indices:?} of {} values", values.len())),
                }
            }
            "Concat" => {
                let mut values = Vec::new();
                for input in 0..node.inputs.len() {
                    let Some(list) = self.known(node, input) else { return Ok(None) };
                    let (Some(own), 1) = (list.integers(), list.shape.len()) else { return Ok(None) };
                    self.spend(8 * own.len())?;
                    values.extend_from_slice(own);
                }
                Some(Constant::int64s(vec![values.len()], values))
            }
            "Slice" => {
                let Some(list) = self.known(node, 0) else { return Ok(None) };
                let (Some(values), 1) = (list.integers(), list.shape.len()) else { return Ok(None) };
                let one = |input| match self.integers(node, input)?.as_deref() {
                    None | Some([]) => Ok(None),
                    Some(&[value, ..]) => Ok::<_, Refusal>(Some(value)),
                };
                let (Some(start), Some(end)) = (one(1)?, one(2)?) else { return Ok(None) };
                let step = one(4)?.unwrap_or(1);
                let Some((first, count)) = super::movement::range(values.len(), start, end, step) else {
                    return node.error(format!("{start} to {end} by {step} of {} values", values.len()));
                };
                let places = (0..count).map(|i| (first as i64).saturating_add(step.saturating_mul(i as i64)));
                let value =
                    |place: i64| usize::try_from(place).ok().and_then(|place| values.get(place).copied());
                let taken: Vec<i64> = places.filter_map(value).collect();
                Some(Constant::int64s(vec![taken.len()], taken))
            }
            "Cast" => {
                let to = i32::try_from(attributes.integer("to", 0)).unwrap_or(0);
                match self.value(node, 0)? {
                    Value::Constant(constant) => cast(&constant, to),
                    value if to == data_type::FLOAT => return Ok(Some(value)),
                    _ => None,
                }
            }
            operator @ ("Add" | "Sub" | "Mul" | "Div") => {
                let (Some(a), Some(b)) = (self.known(node, 0), self.known(node, 1)) else { return Ok(None) };
                integer_arithmetic(operator, &a, &b)
            }
            _ => None,
        };
        let Some(constant) = found else { return Ok(None) };
        self.spend(8 * constant.shape.iter().product::<usize>())?;
        Ok(Some(Value::Constant(Rc::new(constant))))
    }

    fn known(&self, node: &Node, input: usize) -> Option<Rc<Constant>> {
        match self.values.get(node.input(input)?)? {
            Value::Constant(constant) => Some(constant.clone()),
            _ => None,
        }
    }
}

/// What a Constant node holds.
fn given(node: &Node, attributes: &Attributes<'_>) -> Result<Constant, Refusal> {
    let get = |name| attributes.get(name);
    if let Some(value) = get("value") {
        return match &value.tensor {
            Some(tensor) => Ok(Constant::read(tensor, node.output())?),
            None => node.error("a value without a tensor"),
        };
    }
    if let Some(value) = get("value_int") {
        return Ok(Constant::int64s(Vec::new(), vec![value.integer]));
    }
    if let Some(value) = get("value_ints") {
        return Ok(Constant::int64s(vec![value.integers.len()], value.integers.clone()));
    }
    let floats = |shape, values| Constant { shape, numbers: Numbers::Floats(values) };
    if let Some(value) = get("value_float") {
        return Ok(floats(Vec::new(), vec![value.float]));
    }
    if let Some(value) = get("value_floats") {
        return Ok(floats(vec![value.floats.len()], value.floats.clone()));
    }
    super::node::unsupported("a constant that is no dense tensor of numbers")
}

/// Cast of a constant to a type that is read.
fn cast(constant: &Constant, to: i32) -> Option<Constant> {
    let numbers = match (&constant.numbers, to) {
        (Numbers::Integers(_, values), data_type::INT32 | data_type::INT64) => {
            Numbers::Integers(to, values.clone())
        }
        (Numbers::Integers(_, values), data_type::FLOAT) => {
            Numbers::Floats(values.iter().map(|&value| value as f32).collect())
        }
        (Numbers::Floats(values), data_type::FLOAT) => Numbers::Floats(values.clone()),
        (Numbers::Floats(values), data_type::INT32 | data_type::INT64) => {
            Numbers::Integers(to, values.iter().map(|&value| value as i64).collect())
        }
        _ => return None,
    };
    Some(Constant { shape: constant.shape.clone(), numbers })
}
