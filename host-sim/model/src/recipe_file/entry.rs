//! Values as the file writes them: choices are words, and what is out of range is refused with the range.

use super::NamedMethod;
use crate::packer::{Repeated, Trains};
use crate::training::Start;
use flatmin::{BiasTreatment, Loss, Method, Optimizer, Policy, RhoUnit, Schedule};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

/// A value of the file.
pub(super) trait Entry: Sized {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    fn read<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Writes a value that is there.
pub(super) fn serialize<T: Entry, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.write(serializer),
        None => serializer.serialize_none(),
    }
}

/// Reads a value that is there.
pub(super) fn deserialize<'d, T: Entry, D: Deserializer<'d>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::read(deserializer).map(Some)
}

/// A choice among words.
trait Choice: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl Choice for NamedMethod {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("sgd", Self::Steps(Method::Sgd)),
        ("sam", Self::Steps(Method::Sam)),
        ("asam", Self::Steps(Method::Asam)),
        ("sam-on", Self::Steps(Method::SamOn)),
        ("closed-form", Self::ClosedForm),
    ];
}

impl Choice for Optimizer {
    const WORDS: &'static [(&'static str, Self)] = &[("sgd", Self::Sgd), ("adam", Self::Adam)];
}

impl Choice for RhoUnit {
    const WORDS: &'static [(&'static str, Self)] = &[("nats", Self::Nats), ("weights", Self::Weights)];
}

impl Choice for Schedule {
    const WORDS: &'static [(&'static str, Self)] = &[("constant", Self::Constant), ("cosine", Self::Cosine)];
}

impl Choice for BiasTreatment {
    const WORDS: &'static [(&'static str, Self)] =
        &[("unit", Self::Unit), ("elementwise", Self::Elementwise), ("frozen", Self::Frozen)];
}

impl Choice for Policy {
    const WORDS: &'static [(&'static str, Self)] = &[("oldest", Self::Oldest), ("balanced", Self::Balanced)];
}

impl Choice for Start {
    const WORDS: &'static [(&'static str, Self)] =
        &[("factory", Self::Factory), ("closed-form", Self::ClosedForm)];
}

impl Choice for Loss {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("cross-entropy", Self::CrossEntropy),
        ("bce", Self::BinaryCrossEntropy),
        ("mse", Self::SquaredError),
    ];
}

/// Reads a word.
struct Words<T>(PhantomData<T>);

impl<T: Choice> Visitor<'_> for Words<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let words: Vec<String> = T::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        write!(f, "one of {}", words.join(", "))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let known = T::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, own)| *own).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

impl<T: Choice> Entry for T {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match T::WORDS.iter().find(|(_, own)| own == self) {
            Some((word, _)) => serializer.serialize_str(word),
            None => Err(serde::ser::Error::custom("a choice that files have no word for")),
        }
    }

    fn read<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Words(PhantomData))
    }
}

/// Reads a whole number from the first to the last.
struct Whole<T>(u64, u64, PhantomData<T>);

impl<'d, T: TryFrom<u64>> Visitor<'d> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.0, self.1)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        let own = u64::try_from(value).ok().filter(|own| (self.0..=self.1).contains(own));
        own.and_then(|own| T::try_from(own).ok())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
        }
    }

    /// What a JSON reader that keeps numbers as they are written gives for a fraction.
    fn visit_map<M: MapAccess<'d>>(self, _: M) -> Result<T, M::Error> {
        Err(de::Error::invalid_type(de::Unexpected::Other("a fraction or a table"), &self))
    }
}

/// A whole number from the first to the last of its type that the file can hold.
macro_rules! whole {
    ($($type:ty, $first:literal, $last:expr;)*) => {$(
        impl Entry for $type {
            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.serialize(serializer)
            }

            fn read<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Whole($first, $last, PhantomData))
            }
        }
    )*};
}

whole! {
    u16, 1, 65_535;
    u64, 0, i64::MAX as u64;
    usize, 1, 1 << 40;
}

/// Reads a number, asked for as one: a JSON reader may keep numbers as they are written, and then gives others a map. Its range is the recipe's own to check.
struct Number;

impl Visitor<'_> for Number {
    type Value = f32;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<f32, E> {
        Ok(value as f32)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<f32, E> {
        Ok(value as f32)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<f32, E> {
        Ok(value as f32)
    }
}

impl Entry for f32 {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(Number)
    }
}

impl Entry for bool {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

impl Entry for PathBuf {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

impl Entry for Vec<Trains> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(ToString::to_string))
    }

    fn read<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let parts: Result<Vec<Repeated>, _> = (words.iter())
            .map(|word| word.parse().map_err(|why| de::Error::custom(format!("{word}: {why}"))))
            .collect();
        Ok(Repeated::all(&parts?))
    }
}
