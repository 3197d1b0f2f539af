//! The documents that `--json` prints: objects of one schema, whose version each of them names.

use serde::{Serialize, Serializer};

/// Version of the schema. It is raised whenever a field is renamed, is left out, or gets another type or unit; a further
/// field raises nothing. A CRC-32 is a decimal number.
pub const SCHEMA: u32 = 2;

/// An object with the schema's version in front of its own fields.
#[derive(Debug, Serialize)]
struct Document<T> {
    schema_version: u32,
    #[serde(flatten)]
    content: T,
}

/// A document of several lines.
///
/// # Errors
/// `content` is no object.
pub fn document(content: impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Document { schema_version: SCHEMA, content })
}

/// A document of one line.
///
/// # Errors
/// `content` is no object.
pub fn line(content: impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(&Document { schema_version: SCHEMA, content })
}

/// A part of the RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Part<'a> {
    /// What it is for.
    pub purpose: &'a str,
    /// Its size.
    pub bytes: usize,
}

/// RAM by purpose as objects, in the same order.
pub fn parts<T: AsRef<str>>(by_purpose: &[(T, usize)]) -> Vec<Part<'_>> {
    by_purpose.iter().map(|(purpose, bytes)| Part { purpose: purpose.as_ref(), bytes: *bytes }).collect()
}

/// Serializes RAM by purpose as [`parts`].
///
/// # Errors
/// What the serializer refuses.
pub fn serialize_parts<S: Serializer>(
    by_purpose: &[(String, usize)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    parts(by_purpose).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_its_schema_first_and_is_an_object() {
        let content = serde_json::json!({ "memory": parts(&[("weights", 8), ("arena", 2)]) });
        let text = line(&content).unwrap();
        let memory = r#"[{"bytes":8,"purpose":"weights"},{"bytes":2,"purpose":"arena"}]"#;
        assert_eq!(text, format!(r#"{{"schema_version":{SCHEMA},"memory":{memory}}}"#));
        let lines: serde_json::Value = serde_json::from_str(&document(&content).unwrap()).unwrap();
        assert_eq!(lines, serde_json::from_str::<serde_json::Value>(&text).unwrap());
        assert!(document([1, 2]).is_err(), "a list has no room for a version");
    }

    #[test]
    fn numbers_of_single_precision_stay_short() {
        #[derive(Serialize)]
        struct Strength {
            rho: f32,
        }
        assert!(line(Strength { rho: 0.05 }).unwrap().ends_with(r#""rho":0.05}"#));
    }
}
