//! What the README and the pages of `host-sim/docs` promise a reader: links that lead somewhere, a first page that is
//! short, and a wire protocol's page with every message at its number.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("host-sim/docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages
}

/// Targets of Markdown links, without those to other hosts and to anchors.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).filter(|target| {
        !target.is_empty() && !target.contains("://") && !target.contains(char::is_whitespace)
    })
}

#[test]
fn every_link_leads_to_a_file() {
    let mut dead = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for target in targets(&text) {
            if !page.parent().unwrap().join(target).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = fs::read_to_string(root().join("host-sim/docs/SUMMARY.md")).unwrap();
    for page in pages().iter().filter(|page| page.parent().unwrap().ends_with("host-sim/docs")) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(
            name == "SUMMARY.md" || summary.contains(&format!("({name})")),
            "{name} is not in SUMMARY.md"
        );
    }
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 150, "README.md has {lines} lines");
}

/// The README's example is compiled and run: it is the crate's own doctest, but for the lines that a page of documentation
/// hides.
#[test]
fn the_readme_shows_the_doctest() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```rust\n").unwrap();
    let shown: Vec<&str> = rest.split_once("\n```").unwrap().0.lines().collect();
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let (_, rest) = lib.split_once("//! ```\n").unwrap();
    let run = rest.lines().take_while(|line| *line != "//! ```");
    let run =
        run.map(|line| line.trim_start_matches("//!")).map(|line| line.strip_prefix(' ').unwrap_or(line));
    let run: Vec<&str> = run.filter(|line| !line.starts_with("# ")).collect();
    assert_eq!(shown, run, "README.md's example is not the first one of src/lib.rs");
}

/// Names of an enum's variants, in order: the lines of its body that begin with a capital, outside of nested braces.
fn variants<'s>(source: &'s str, name: &str) -> Vec<&'s str> {
    let (_, rest) = source.split_once(&format!("pub enum {name}<")).unwrap();
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let own = body.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
    own.filter_map(|line| line.trim().split(|c: char| !c.is_alphanumeric()).next())
        .filter(|word| word.starts_with(char::is_uppercase))
        .collect()
}

#[test]
fn the_wire_page_numbers_every_message() {
    let source = fs::read_to_string(root().join("src/wire/messages.rs")).unwrap();
    let page = fs::read_to_string(root().join("host-sim/docs/wire.md")).unwrap();
    let (_, requests) = page.split_once("## Requests").unwrap();
    let (requests, responses) = requests.split_once("## Responses").unwrap();
    for (name, section) in [("Request", requests), ("Response", responses)] {
        let variants = variants(&source, name);
        assert!(variants.len() >= 20, "{name}: {variants:?}");
        for (number, variant) in variants.iter().enumerate() {
            let row = format!("| {number} | `{variant}` |");
            assert!(section.contains(&row), "host-sim/docs/wire.md lacks the row {row}");
        }
        assert!(
            !section.contains(&format!("| {} | `", variants.len())),
            "{name}: a message too many on the page"
        );
    }
    let version = source_version();
    assert!(page.contains(&format!("This is version {version}.")), "the page is not about version {version}");
}

fn source_version() -> u16 {
    let source = fs::read_to_string(root().join("src/wire/mod.rs")).unwrap();
    let (_, rest) = source.split_once("pub const VERSION: u16 = ").unwrap();
    rest.split(';').next().unwrap().parse().unwrap()
}
