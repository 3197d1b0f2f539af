//! Crates and their modules import one another in one direction, and no part of the product imports the laboratory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A crate's modules with those that each imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn host_sim() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every `.rs` file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names after `crate::` in code, tests and comments left out.
fn names(text: &str) -> BTreeSet<String> {
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
    let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for (at, begin) in code.match_indices("crate::") {
        let rest = &code[at + begin.len()..];
        match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((list, _)) => names.extend(list.split(',').map(|name| word(name.trim()))),
            None => _ = names.insert(word(rest)),
        }
    }
    names
}

/// The modules of a crate, tests left out.
fn imports(source: &Path) -> Imports {
    let mut found = Vec::new();
    files(source, &mut found);
    let mut imports = Imports::new();
    for path in found {
        let inside = path.strip_prefix(source).unwrap();
        if inside.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests")) {
            continue;
        }
        let module = inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        imports.entry(module).or_default().extend(names(&fs::read_to_string(&path).unwrap()));
    }
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    for (module, own) in &mut imports {
        own.retain(|name| modules.contains(name) && name != module);
    }
    imports
}

/// Modules that remain when those which import no remaining one are taken away again and again: a circle, and what leads
/// to it.
fn circle(mut imports: Imports) -> Vec<String> {
    loop {
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        imports.retain(|_, own| own.iter().any(|name| left.contains(name)));
        if imports.len() == left.len() {
            return left.into_iter().collect();
        }
    }
}

#[test]
fn a_circle_is_seen() {
    let imports = |list: &[(&str, &[&str])]| -> Imports {
        list.iter().map(|(own, to)| ((*own).into(), to.iter().map(|name| (*name).into()).collect())).collect()
    };
    assert!(circle(imports(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])).is_empty());
    assert_eq!(circle(imports(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &[])])), ["a", "b", "c"]);
    let code = "use crate::one;\n// use crate::two;\nuse crate::{three, four::Five};\n#[cfg(test)]\nmod tests { use crate::six; }";
    assert_eq!(names(code).into_iter().collect::<Vec<_>>(), ["four", "one", "three"]);
}

#[test]
fn no_crate_has_a_circle_of_modules() {
    for name in ["model", "sim", "link", "cli", "lab"] {
        let imports = imports(&host_sim().join(name).join("src"));
        assert!(imports.values().any(|own| !own.is_empty()) || name == "lab", "{name}: no import was read");
        let left = circle(imports);
        assert!(left.is_empty(), "{name}: modules import one another in a circle: {}", left.join(", "));
    }
}

#[test]
fn the_product_does_not_depend_on_the_laboratory_nor_reading_on_terminals() {
    let refuse = |name: &str, others: &[&str]| {
        let manifest = fs::read_to_string(host_sim().join(name).join("Cargo.toml")).unwrap();
        for other in others {
            let depends = manifest.lines().any(|line| line.split([' ', '.']).next() == Some(*other));
            assert!(!depends, "{name} depends on {other}");
        }
    };
    for name in ["model", "sim", "link", "cli"] {
        refuse(name, &["flatmin-lab", "flatmin-bench"]);
    }
    refuse("model", &["clap", "plotters", "serialport", "flatmin-sim", "flatmin-link"]);
    refuse("sim", &["clap", "serialport", "flatmin-link"]);
    refuse("link", &["clap", "plotters"]);
}
