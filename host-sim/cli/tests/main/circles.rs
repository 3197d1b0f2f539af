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

/// Names after `path`, such as `crate::`, in code.
fn names_after(path: &str, code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for (at, begin) in code.match_indices(path) {
        let rest = &code[at + begin.len()..];
        match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((list, _)) => names.extend(list.split(',').map(|name| word(name.trim()))),
            None => _ = names.insert(word(rest)),
        }
    }
    names
}

/// Names after `crate::` in code, tests and comments left out.
fn names(text: &str) -> BTreeSet<String> {
    names_after("crate::", &code(text))
}

/// Lines of code before a file's tests, comments left out.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
    let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
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

/// The modules of a room: files and folders beside its root (`mod.rs` or `lib.rs`), which is one of them. What a module
/// takes of the room that no module is called is the root's. `path` leads to the room from within the crate.
fn imports_within(room: &Path, root: &str, path: &str) -> Imports {
    let mut found = Vec::new();
    files(room, &mut found);
    let module = |file: &Path| {
        let first = file.strip_prefix(room).unwrap().iter().next().unwrap().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    };
    let modules: BTreeSet<String> = found.iter().map(|file| module(file)).collect();
    let mut imports = Imports::new();
    for file in &found {
        let (own, code) = (module(file), code(&fs::read_to_string(file).unwrap()));
        let mut names = names_after(path, &code);
        if own == root {
            let declared = modules.iter().filter(|name| code.contains(&format!("mod {name};")));
            names.extend(declared.cloned());
        } else if file.parent() == Some(room) && root == "mod" {
            names.extend(names_after("super::", &code));
        }
        let taken = names.into_iter().filter(|name| !name.is_empty() && *name != own);
        let taken = taken.map(|name| if modules.contains(&name) { name } else { root.to_owned() });
        imports.entry(own.clone()).or_default().extend(taken.filter(|name| *name != own));
    }
    imports
}

#[test]
fn rooms_within_crates_have_no_circle_either() {
    let rooms = [
        ("lab/src/experiments", "mod", "crate::experiments::"),
        ("lab/src/bench", "mod", "crate::bench::"),
        ("link/src/firmware", "mod", "crate::firmware::"),
        ("../boards/bench/src", "lib", "crate::"),
    ];
    for (room, root, path) in rooms {
        let imports = imports_within(&host_sim().join(room), root, path);
        assert!(imports[root].len() > 2, "{room}: the root's modules were not read");
        let left = circle(imports);
        assert!(left.is_empty(), "{room}: modules import one another in a circle: {}", left.join(", "));
    }
}

#[test]
fn a_module_that_takes_an_item_of_its_root_closes_a_circle() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("mod.rs", "mod leaf;\nmod other;\npub struct Item;\n");
    write("leaf.rs", "use super::other::Thing;\n");
    write("other.rs", "// use super::Item;\npub struct Thing;\n");
    assert!(circle(imports_within(folder.path(), "mod", "crate::room::")).is_empty());
    write("other.rs", "use super::Item;\n");
    assert_eq!(circle(imports_within(folder.path(), "mod", "crate::room::")), ["leaf", "mod", "other"]);
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
    for name in ["build", "model", "sim", "link", "cli"] {
        refuse(name, &["flatmin-lab", "flatmin-bench"]);
    }
    refuse("model", &["clap", "plotters", "serialport", "flatmin-sim", "flatmin-link"]);
    refuse("build", &["flatmin-sim", "flatmin-link", "host-sim"]);
    refuse("sim", &["clap", "serialport", "flatmin-link"]);
    refuse("link", &["clap", "plotters"]);
}
