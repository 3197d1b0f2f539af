//! An `.npy` file: its header, a Python dictionary of three entries, and its elements
//! ([the format](https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), versions 1 to 3).

use super::super::{Problem, error};

/// A NumPy array whose header is known to be sound and its data to be whole.
pub(super) struct Array<'a> {
    /// Kind and bytes of an element, without the byte order: `f4`.
    kind: String,
    big_endian: bool,
    fortran: bool,
    shape: Vec<u64>,
    data: &'a [u8],
}

impl<'a> Array<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Problem> {
        let (header, data) = parts(bytes)?;
        // A plain array has one dictionary and in it one tuple, the shape.
        if header.matches(['{', '(', '[']).count() != 2 {
            return Err(Problem::Dtype { expected: "plain numbers", found: "a compound type".into() });
        }
        let value = |key: &str| value(header, key).ok_or_else(|| not_npy(format!("it has no `{key}`")));
        let shape = shape(value("shape")?)?;
        let fortran = value("fortran_order")?.starts_with("True");
        let element = value("descr")?;
        let quote = element.chars().next().filter(|quote| ['\'', '"'].contains(quote));
        let element = quote.and_then(|quote| element.get(1..)?.split(quote).next());
        let element = element.ok_or_else(|| not_npy("its `descr` is no text"))?;
        let kind = element.trim_start_matches(['<', '>', '|', '=']).to_owned();
        let big_endian = element.starts_with('>');
        let own = Self { kind, big_endian, fortran, shape, data };
        let Some(size) = own.element_bytes() else {
            let expected = match own.kind.as_str() {
                "O" => {
                    "plain numbers or text, not Python's objects: save numbers.astype(np.float32), names.astype(str)"
                }
                _ => "plain numbers",
            };
            return Err(Problem::Dtype { expected, found: error::excerpt(element) });
        };
        let expected = own.elements().saturating_mul(size);
        if expected != data.len() as u64 {
            return Err(Problem::Length { expected, found: data.len() });
        }
        Ok(own)
    }

    pub(super) fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Kind and bytes of an element, without the byte order: `f4`.
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes of an element; a Unicode character has four.
    fn element_bytes(&self) -> Option<u64> {
        let mut letters = self.kind.chars();
        let wide = if letters.next()? == 'U' { 4 } else { 1 };
        letters.as_str().parse::<u64>().ok()?.checked_mul(wide)
    }

    /// All values in C order, of `N` bytes each.
    pub(super) fn values<T: Copy, const N: usize>(&self, of: fn([u8; N]) -> T) -> Vec<T> {
        let element = |bytes: &[u8; N]| {
            let mut bytes = *bytes;
            if self.big_endian {
                bytes.reverse();
            }
            of(bytes)
        };
        let values: Vec<T> = self.data.as_chunks().0.iter().map(element).collect();
        if self.fortran { in_c_order(&values, &self.shape) } else { values }
    }

    fn integers<T: Copy + Into<i128>, const N: usize>(&self, of: fn([u8; N]) -> T) -> Vec<i128> {
        self.values(of).into_iter().map(Into::into).collect()
    }

    /// Whole numbers of this type; `None` where it is another.
    fn whole_of_type(&self) -> Option<Vec<i128>> {
        Some(match self.kind() {
            "b1" => self.values(|[byte]| i128::from(byte != 0)),
            "i1" => self.integers(i8::from_le_bytes),
            "i2" => self.integers(i16::from_le_bytes),
            "i4" => self.integers(i32::from_le_bytes),
            "i8" => self.integers(i64::from_le_bytes),
            "u1" => self.integers(u8::from_le_bytes),
            "u2" => self.integers(u16::from_le_bytes),
            "u4" => self.integers(u32::from_le_bytes),
            "u8" => self.integers(u64::from_le_bytes),
            _ => return None,
        })
    }

    /// Numbers of any type, rounded to float32.
    pub(super) fn numbers(&self, expected: &'static str) -> Result<Vec<f32>, Problem> {
        let refused = || Problem::Dtype { expected, found: self.kind.clone() };
        Ok(match self.kind() {
            "f2" => self.values(half),
            "f4" => self.values(f32::from_le_bytes),
            "f8" => self.values(|bytes| f64::from_le_bytes(bytes) as f32),
            "b1" => return Err(refused()),
            _ => self.whole_of_type().ok_or_else(refused)?.into_iter().map(|value| value as f32).collect(),
        })
    }

    /// Whole numbers of any type; `classes` for the message about another.
    pub(super) fn whole(&self, classes: usize) -> Result<Vec<i128>, Problem> {
        let floats = match self.kind() {
            "f2" => self.values(|bytes| f64::from(half(bytes))),
            "f4" => self.values(|bytes| f64::from(f32::from_le_bytes(bytes))),
            "f8" => self.values(f64::from_le_bytes),
            found => {
                return self.whole_of_type().ok_or_else(|| Problem::Dtype {
                    expected: "whole numbers: save y.astype(np.int64)",
                    found: found.to_owned(),
                });
            }
        };
        let whole = |(sample, value): (usize, f64)| match value.fract() == 0.0 {
            true => Ok(value as i128),
            false => {
                let (at, label) = (format!("sample {sample}"), value.to_string());
                Err(Problem::Label { at, label, classes, hint: "" })
            }
        };
        floats.into_iter().enumerate().map(whole).collect()
    }

    /// Whether the elements are texts.
    pub(super) fn is_text(&self) -> bool {
        self.kind.starts_with(['U', 'S'])
    }

    /// Texts: NumPy pads them with zeros.
    pub(super) fn names(&self) -> Vec<String> {
        let count = usize::try_from(self.elements()).unwrap_or(0).max(1);
        let size = self.data.len() / count;
        let char = |bytes: &[u8; 4]| {
            let code = if self.big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) };
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        let text = |bytes: &[u8]| match self.kind.starts_with('U') {
            true => bytes.as_chunks::<4>().0.iter().map(char).collect(),
            false => String::from_utf8_lossy(bytes).into_owned(),
        };
        let texts = self.data.chunks(size.max(1)).map(|bytes| text(bytes).trim_end_matches('\0').to_owned());
        texts.collect()
    }
}

pub(super) fn not_npy(reason: impl Into<String>) -> Problem {
    Problem::NotNpy { reason: reason.into() }
}

/// The header's text, and what follows it.
fn parts(bytes: &[u8]) -> Result<(&str, &[u8]), Problem> {
    let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else {
        let empty = "the file is empty";
        return Err(not_npy(if bytes.is_empty() { empty } else { "it does not begin with NumPy's mark" }));
    };
    let parts = match rest {
        [1, 0, a, b, rest @ ..] => rest.split_at_checked(u16::from_le_bytes([*a, *b]).into()),
        [2 | 3, 0, a, b, c, d, rest @ ..] => {
            rest.split_at_checked(u32::from_le_bytes([*a, *b, *c, *d]) as usize)
        }
        _ => None,
    };
    let (header, data) = parts.ok_or_else(|| not_npy("its header is truncated or of a later version"))?;
    let header = str::from_utf8(header).ok().filter(|header| header.is_ascii());
    Ok((header.ok_or_else(|| not_npy("its header is not text"))?, data))
}

/// The header from a key's value on.
fn value<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let (_, rest) = quoted.iter().find_map(|quoted| header.split_once(quoted.as_str()))?;
    rest.trim_start().strip_prefix(':').map(str::trim_start)
}

/// Extents of a tuple, whose product without zeros can be written: strides are products of some of them.
fn shape(tuple: &str) -> Result<Vec<u64>, Problem> {
    let shape = tuple.strip_prefix('(').and_then(|shape| shape.split_once(')'));
    let (shape, _) = shape.ok_or_else(|| not_npy("it has no shape"))?;
    let extents = shape.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    let extents: Option<Vec<u64>> = extents.map(|extent| extent.parse().ok()).collect();
    let bounded = |extents: &Vec<u64>| {
        extents.iter().try_fold(1, |elements: u64, extent| elements.checked_mul((*extent).max(1))).is_some()
    };
    extents.filter(bounded).ok_or_else(|| not_npy(format!("its shape is ({})", error::excerpt(shape))))
}

/// Values in Fortran's order, the first axis fastest, in C's.
fn in_c_order<T: Copy>(values: &[T], shape: &[u64]) -> Vec<T> {
    let mut stride = 1;
    let strides: Vec<u64> = (shape.iter())
        .map(|extent| {
            let own = stride;
            stride *= extent;
            own
        })
        .collect();
    let mut index = vec![0; shape.len()];
    let mut sorted = Vec::with_capacity(values.len());
    while sorted.len() < values.len() {
        let at: u64 = index.iter().zip(&strides).map(|(index, stride)| index * stride).sum();
        // Every index is below its extent, hence `at` is below the product of all.
        sorted.push(values[at as usize]);
        for (index, &extent) in index.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < extent {
                break;
            }
            *index = 0;
        }
    }
    sorted
}

/// A number in half precision: a sign, 5 bits of exponent with a bias of 15, 10 bits of fraction.
fn half(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let (sign, exponent, fraction) = ((bits & 0x8000) << 16, (bits >> 10) & 0x1F, bits & 0x3FF);
    let magnitude = match exponent {
        // Subnormal numbers are multiples of 2^-24.
        0 => (fraction as f32 * f32::from_bits((127 - 24) << 23)).to_bits(),
        31 => (0xFF << 23) | (fraction << 13),
        _ => ((exponent + 127 - 15) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

/// An array of version 1.0 in C order; `descr` is NumPy's name of the elements' type.
pub(super) fn encode(descr: &str, shape: &[usize], elements: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let extents = if shape.len() == 1 { extents.trim_end() } else { extents.trim_end_matches(", ") };
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents}), }}");
    // Mark, version, length and header are a multiple of 64 bytes, a line feed the last of them.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    bytes.extend(elements);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of every pattern, by the standard's formula in double precision.
    #[test]
    fn half_precision_is_the_standards() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f64::from(bits & 0x3FF) / 1024.0);
            let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
            let found = half(bits.to_le_bytes());
            match exponent {
                31 if fraction > 0.0 => assert!(found.is_nan()),
                31 => assert_eq!(f64::from(found), sign * f64::INFINITY),
                0 => assert_eq!(f64::from(found), sign * fraction * 2f64.powi(-14)),
                _ => assert_eq!(f64::from(found), sign * (1.0 + fraction) * 2f64.powi(exponent - 15)),
            }
            assert_eq!(found.is_sign_negative(), sign < 0.0);
        }
    }

    #[test]
    fn headers_that_numpy_would_not_write() {
        let file = |header: &str, data: &[u8]| {
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.bytes().chain(data.iter().copied()));
            bytes
        };
        // Other quotes, another order, no spaces: a dictionary all the same.
        let odd = file(r#"{"shape":(2,),"descr":"|u1","fortran_order":False}"#, &[7, 9]);
        assert_eq!(Array::open(&odd).unwrap().whole(10).unwrap(), [7, 9]);
        for header in
            ["{'descr': '|u1', 'shape': (2,), }", "{'descr': 3, 'fortran_order': False, 'shape': (2,)}"]
        {
            assert!(matches!(Array::open(&file(header, &[7, 9])), Err(Problem::NotNpy { .. })), "{header}");
        }
    }

    #[test]
    fn written_headers_end_where_numpy_aligns() {
        for shape in [&[][..], &[3], &[2, 3], &[1_000_000_000; 7]] {
            let bytes = encode("<f4", shape, []);
            let (header, data) = parts(&bytes).unwrap();
            assert!(bytes.len().is_multiple_of(64) && header.ends_with('\n') && data.is_empty());
        }
        let (one, two) = (encode("|i1", &[3], []), encode("|i1", &[2, 3], []));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            text(&one[10..]).contains("'shape': (3,), }") && text(&two[10..]).contains("'shape': (2, 3), }")
        );
    }
}
