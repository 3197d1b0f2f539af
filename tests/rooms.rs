//! No import circle between the rooms of `src`, a room being a file or a folder beside `lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn sources(folder: &Path, each: &mut dyn FnMut(&Path, String)) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.extension() {
            None => sources(&entry, each),
            // Tests look anywhere.
            Some(_) if entry.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests")) => {}
            Some(extension) if extension == "rs" => each(&entry, fs::read_to_string(&entry).unwrap()),
            Some(_) => {}
        }
    }
}

/// Every identifier after `crate::`, or at the top of a list of them.
fn imports(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.push(rest);
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    found.push(list[start..at].trim());
                    start = at + 1;
                }
                _ => {}
            }
            if character == '}' && depth == 0 && start == at + 1 {
                break;
            }
        }
    }
    let name = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    found.iter().map(|rest| &rest[..name(rest)]).collect()
}

/// Rooms that stand in a circle: those that are left when all that import none of the others are taken away, again and
/// again, and then all that none of the others imports.
fn circles(mut imports: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let rooms = imports.len();
        let imported: BTreeSet<String> = imports.values().flatten().cloned().collect();
        imports.retain(|room, others| !others.is_empty() && imported.contains(room));
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        imports.values_mut().for_each(|others| others.retain(|other| left.contains(other)));
        if imports.len() == rooms {
            return imports;
        }
    }
}

#[test]
fn rooms_stand_one_above_the_other() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    // What `lib.rs` exports stands for the room that it comes from.
    let mut rooms = BTreeMap::new();
    for statement in lib.split(';').filter_map(|statement| statement.split("pub use ").nth(1)) {
        let (room, names) = statement.trim_start_matches("crate::").split_once("::").unwrap();
        for name in names.split(|c: char| !c.is_alphanumeric() && c != '_') {
            rooms.insert(name.to_owned(), room.to_owned());
        }
    }
    let mut files = Vec::new();
    sources(&src, &mut |path, text| {
        let first = path.strip_prefix(&src).unwrap().iter().next().unwrap().to_str().unwrap();
        files.push((first.trim_end_matches(".rs").to_owned(), text));
    });
    for (room, _) in &files {
        rooms.insert(room.clone(), room.clone());
    }
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (room, text) in files.iter().filter(|(room, _)| room != "lib") {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let others = graph.entry(room.clone()).or_default();
        for name in imports(&code.join("\n")) {
            let other = rooms.get(name).unwrap_or_else(|| panic!("{room}: crate::{name} is in no room"));
            if other != room {
                others.insert(other.clone());
            }
        }
    }
    assert!(graph["tuner"].contains("pack"), "the imports are not found");
    let circles = circles(graph);
    assert!(circles.is_empty(), "rooms import one another in a circle: {circles:#?}");
}

#[test]
fn a_circle_is_found() {
    let graph = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "")];
    let graph = graph.map(|(a, b)| (a, b.to_owned())).into_iter().fold(
        BTreeMap::<String, BTreeSet<String>>::new(),
        |mut graph, (a, b)| {
            graph.entry(a.to_owned()).or_default().extend((!b.is_empty()).then_some(b));
            graph
        },
    );
    assert!(circles(graph).keys().eq(["b", "c"]));
    assert_eq!(imports("use crate::{a::{b, c}, d};\ncrate::e::f()"), ["a", "d", "e"]);
}
