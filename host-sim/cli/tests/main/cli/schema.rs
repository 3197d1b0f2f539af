//! The schema that `flatmin schema` prints holds for what commands print, and says no more than they do.

use super::{Folder, bundled, npy};
use serde_json::Value;
use std::collections::BTreeSet;

/// Panics where a document is not what a definition of the schema says.
pub fn check(definition: &str, document: &Value) {
    let schema: Value = serde_json::from_str(include_str!("../../../src/schema.json")).unwrap();
    let mut checker = Checker { schema: &schema, seen: BTreeSet::new() };
    checker.check(&schema["$defs"][definition], document, definition);
}

/// As much of JSON Schema as this schema uses.
struct Checker<'s> {
    schema: &'s Value,
    /// Properties of definitions that were seen in a document, as `definition pointer`.
    seen: BTreeSet<String>,
}

impl Checker<'_> {
    /// Panics where `value` is not as `rule` says; `at` names the place.
    fn check(&mut self, rule: &Value, value: &Value, at: &str) {
        for key in rule.as_object().unwrap().keys() {
            let known = "$ref type properties required additionalProperties items const enum minimum maximum description anyOf";
            assert!(known.split(' ').any(|own| own == key), "{key} is not checked");
        }
        if let Some(name) = rule["$ref"].as_str() {
            let own = self.schema.pointer(name.trim_start_matches('#')).unwrap();
            return self.check(own, value, &format!("{at} {}", name.rsplit('/').next().unwrap()));
        }
        let is = |name: &str| match name {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "null" => value.is_null(),
            other => panic!("{other} is no type"),
        };
        match &rule["type"] {
            Value::String(name) => assert!(is(name), "{at}: {value} is no {name}"),
            Value::Array(names) => {
                assert!(
                    names.iter().any(|name| is(name.as_str().unwrap())),
                    "{at}: {value} is none of {names:?}"
                );
            }
            _ => {}
        }
        if let Some(constant) = rule.get("const") {
            assert_eq!(constant, value, "{at}");
        }
        if let Some(words) = rule["enum"].as_array() {
            assert!(words.contains(value), "{at}: {value} is none of {words:?}");
        }
        if let Some(number) = value.as_f64() {
            assert!(rule["minimum"].as_f64().is_none_or(|least| number >= least), "{at}: {number}");
            assert!(rule["maximum"].as_f64().is_none_or(|most| number <= most), "{at}: {number}");
        }
        // What may be nothing has no fields then.
        let rule = if value.is_null() { &Value::Null } else { rule };
        for name in rule["required"].as_array().into_iter().flatten() {
            assert!(value.get(name.as_str().unwrap()).is_some(), "{at}: {name} is missing");
        }
        if let Some(properties) = rule["properties"].as_object() {
            for (name, own) in value.as_object().unwrap() {
                match properties.get(name) {
                    Some(inner) => {
                        self.seen.insert(format!("{} {name}", at.rsplit(' ').next().unwrap()));
                        self.check(inner, own, &format!("{at} {name}"));
                    }
                    None => {
                        assert_ne!(rule["additionalProperties"], false, "{at}: {name} is not in the schema")
                    }
                }
            }
        }
        if let Some(rule) = rule.get("items") {
            for own in value.as_array().unwrap() {
                self.check(rule, own, at);
            }
        }
    }
}

#[test]
fn the_schema_holds_for_what_commands_print() {
    let folder = Folder::new();
    let printed = folder.run("schema").success().get_output().stdout.clone();
    let schema: Value = serde_json::from_slice(&printed).unwrap();
    let mut checker = Checker { schema: &schema, seen: BTreeSet::new() };
    folder.write("m.tflite", bundled());
    folder.write("x.npy", npy("|i1", "(1, 100, 6)", &[0; 600]));
    for (definition, command) in [
        ("tune", "tune --wearer 2 --epochs 1 --layers 1 --held-out 0.2 --keep-best --curvature --json"),
        ("tune", "tune --wearer 2 --epochs 1 --auto=1 --layers 1 --json"),
        ("tune", "--epochs 1 --layers 1 --method sgd --label-noise 0 --json"),
        ("plan", "plan --wearer 2 --ram 64K --layers 1 --epochs 1 --trials 1 --json"),
        ("inspect", "inspect m.tflite --json"),
        ("pack", "pack m.tflite -o m.pack --json"),
        ("export", "export --wearer 2 --method closed-form -o t.tflite --delta t.delta --json"),
        ("run", "run m.tflite --input x.npy --output y.npy --json"),
        ("doctor", "doctor --json"),
        ("add_class", "add-class --wearer 2 --leave-out 6 --layers 1 --method sgd --epochs 1 --json"),
        ("motion", "sensors motion --wearer 2 --epochs 1 --layers 1 --json"),
    ] {
        checker.check(&schema["$defs"][definition], &folder.json(command), definition);
    }
    let refused = folder.run("inspect none.tflite --json").code(1).get_output().stderr.clone();
    let refused: Value = serde_json::from_slice(&refused).unwrap();
    checker.check(&schema["$defs"]["error"], &refused, "error");
    // All that documents must have, and most of what they may have, was there.
    for definition in
        "tune method subject plan candidate inspect pack export run doctor add_class both motion replay"
            .split(' ')
    {
        for name in schema["$defs"][definition]["properties"].as_object().unwrap().keys() {
            let rare =
                "warnings front_end ram ram_announced_bytes instructions_trunk instructions_step anomalies";
            let seen = checker.seen.contains(&format!("{definition} {name}"));
            assert!(seen || rare.split(' ').any(|own| own == name), "no {definition} has {name}");
        }
    }
    // Each definition of a document is one of the whole's.
    assert_eq!(schema["anyOf"].as_array().unwrap().len(), 22);
    assert!(
        std::panic::catch_unwind(|| {
            let mut checker = Checker { schema: &schema, seen: BTreeSet::new() };
            checker.check(
                &schema["$defs"]["error"],
                &serde_json::json!({ "schema_version": 2, "error": 5, "causes": [] }),
                "error",
            );
        })
        .is_err(),
        "an error that is a number is none"
    );
}
