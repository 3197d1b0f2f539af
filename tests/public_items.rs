//! The crate's public face: every item that a firmware's author can name without a private feature (one whose name begins
//! with `_`), in `tests/golden/public-items.txt`. Read from the sources, which works with any toolchain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use syn::punctuated::Punctuated;
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, Meta, Token, Type, UseTree, Visibility};

const GOLDEN: &str = "tests/golden/public-items.txt";

/// A module's path from the crate's root, or an item's.
type Place = Vec<String>;

#[derive(Default)]
struct Module {
    /// Its own items by name; a type and a macro of one name are one.
    items: BTreeMap<String, Item>,
    /// Names that it imports or exports, what they stand for, and whether others see them.
    uses: BTreeMap<String, (Place, bool)>,
    /// Modules all of whose items it exports.
    globs: Vec<Place>,
    impls: Vec<ItemImpl>,
    /// What stands at the beginning of its file.
    documentation: String,
}

#[derive(Default)]
struct Sources(BTreeMap<Place, Module>);

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Whether a `cfg` holds in a build for some processor with all public features and no private one.
fn holds(meta: &Meta) -> bool {
    let parts = |list: &syn::MetaList| -> Vec<bool> {
        let parse = Punctuated::<Meta, Token![,]>::parse_terminated;
        list.parse_args_with(parse).unwrap().iter().map(holds).collect()
    };
    match meta {
        Meta::List(list) if list.path.is_ident("not") => !parts(list)[0],
        Meta::List(list) if list.path.is_ident("any") => parts(list).contains(&true),
        Meta::List(list) if list.path.is_ident("all") => !parts(list).contains(&false),
        Meta::List(list) => panic!("unknown cfg {:?}", list.path.get_ident()),
        Meta::NameValue(pair) if pair.path.is_ident("feature") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(name), .. }) => !name.value().starts_with('_'),
            _ => panic!("a feature's name is no text"),
        },
        Meta::NameValue(_) => false,
        Meta::Path(path) => !["test", "doc", "doctest"].iter().any(|name| path.is_ident(name)),
    }
}

/// Whether an item is there.
fn is_there(attributes: &[Attribute]) -> bool {
    let mut cfgs = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    cfgs.all(|cfg| holds(&cfg.parse_args().unwrap()))
}

/// What a line begins with: callable, but left out of the documentation, are the parts of public types that the rooms and
/// `host-sim` need.
fn hidden(attributes: &[Attribute]) -> &'static str {
    let is_hidden = |attribute: &Attribute| {
        attribute.path().is_ident("doc")
            && attribute.parse_args::<Meta>().is_ok_and(|meta| meta.path().is_ident("hidden"))
    };
    if attributes.iter().any(is_hidden) { "hidden " } else { "" }
}

/// An item's documentation, line by line.
fn documentation(attributes: &[Attribute]) -> String {
    let text = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value() + "\n"),
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Kind, name and visibility of what a list has a line for.
fn described(item: &Item) -> Option<(&'static str, String, bool)> {
    let exported = |item: &syn::ItemMacro| item.attrs.iter().any(|a| a.path().is_ident("macro_export"));
    Some(match item {
        Item::Const(item) => ("const", item.ident.to_string(), is_public(&item.vis)),
        Item::Enum(item) => ("enum", item.ident.to_string(), is_public(&item.vis)),
        Item::Fn(item) => ("fn", item.sig.ident.to_string(), is_public(&item.vis)),
        Item::Macro(item) => ("macro", item.ident.as_ref()?.to_string(), exported(item)),
        Item::Mod(item) => ("mod", item.ident.to_string(), is_public(&item.vis)),
        Item::Static(item) => ("static", item.ident.to_string(), is_public(&item.vis)),
        Item::Struct(item) => ("struct", item.ident.to_string(), is_public(&item.vis)),
        Item::Trait(item) => ("trait", item.ident.to_string(), is_public(&item.vis)),
        Item::Type(item) => ("type", item.ident.to_string(), is_public(&item.vis)),
        _ => return None,
    })
}

impl Sources {
    fn read() -> Self {
        let mut sources = Self::default();
        let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
        let file = syn::parse_file(&fs::read_to_string(&lib).unwrap()).unwrap();
        sources.add(vec![], file.items, documentation(&file.attrs), lib.parent().unwrap());
        sources
    }

    /// Takes in a module whose child modules' files lie in `folder`.
    fn add(&mut self, place: Place, items: Vec<Item>, documentation: String, folder: &Path) {
        let mut module = Module { documentation, ..Module::default() };
        for item in items.into_iter().filter(|item| is_there(attributes(item))) {
            match item {
                Item::Impl(own) => module.impls.push(own),
                Item::Use(own) => module.import(&place, &own.tree, vec![], is_public(&own.vis)),
                Item::Mod(mut own) => {
                    let name = own.ident.to_string();
                    let child: Place = place.iter().cloned().chain([name.clone()]).collect();
                    match own.content.take() {
                        Some((_, items)) => self.add(child, items, String::new(), &folder.join(&name)),
                        None => {
                            let path: PathBuf = [format!("{name}.rs"), format!("{name}/mod.rs")]
                                .iter()
                                .map(|file| folder.join(file))
                                .find(|path| path.exists())
                                .unwrap_or_else(|| panic!("no file of mod {name} in {}", folder.display()));
                            let file = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
                            let said = self::documentation(&file.attrs);
                            self.add(child, file.items, said, &folder.join(&name));
                        }
                    }
                    module.items.insert(name, Item::Mod(own));
                }
                other => {
                    if let Some((_, name, _)) = described(&other) {
                        module.items.insert(name, other);
                    }
                }
            }
        }
        self.0.insert(place, module);
    }

    /// Where an item is defined that a module knows by `name`; `None` if it is another crate's.
    fn find(&self, module: &[String], name: &str) -> Option<Place> {
        let own = self.0.get(module)?;
        if own.items.contains_key(name) {
            return Some(module.iter().cloned().chain([name.to_owned()]).collect());
        }
        let imported = own.uses.get(name).map(|(target, _)| target.clone());
        let target =
            imported.filter(|target| target.len() != module.len() + 1 || !target.starts_with(module));
        match target {
            Some(target) => self.defined(&target),
            None => own.globs.iter().find_map(|glob| self.find(glob, name)),
        }
    }

    /// Where the item of a path is defined.
    fn defined(&self, path: &[String]) -> Option<Place> {
        let (name, module) = path.split_last()?;
        if self.0.contains_key(path) {
            return Some(path.to_vec());
        }
        let module = if self.0.contains_key(module) { module.to_vec() } else { self.defined(module)? };
        self.find(&module, name)
    }

    /// Every public item of a module: the path that reaches it, and where it is defined.
    fn reach(&self, module: &[String], path: &str, reached: &mut BTreeMap<Place, BTreeSet<String>>) {
        let own = &self.0[module];
        let mut names: BTreeMap<String, Place> = BTreeMap::new();
        for (name, item) in &own.items {
            if described(item).is_some_and(|(.., public)| public) {
                names.insert(name.clone(), module.iter().cloned().chain([name.clone()]).collect());
            }
        }
        for (name, (target, public)) in &own.uses {
            if let Some(place) = self.defined(target).filter(|_| *public) {
                names.insert(name.clone(), place);
            }
        }
        for glob in &own.globs {
            self.reach(glob, path, reached);
        }
        for (name, place) in names {
            let path = if path.is_empty() { name } else { format!("{path}::{name}") };
            if self.0.contains_key(&place) {
                self.reach(&place, &path, reached);
            }
            reached.entry(place).or_default().insert(path);
        }
    }

    /// A line for every public item, field, variant, method and constant; a path of several names is listed by each.
    fn lines(&self) -> BTreeSet<String> {
        self.documented().into_keys().collect()
    }

    /// Lines of the list, with the documentation of each.
    fn documented(&self) -> BTreeMap<String, String> {
        let mut reached = BTreeMap::new();
        self.reach(&[], "", &mut reached);
        // Exported macros are the root's, wherever they stand.
        for (place, module) in &self.0 {
            for (name, item) in &module.items {
                if matches!(item, Item::Macro(_)) && described(item).is_some_and(|(.., public)| public) {
                    let place = place.iter().cloned().chain([name.clone()]).collect();
                    reached.insert(place, BTreeSet::from([name.clone()]));
                }
            }
        }
        let mut lines = BTreeMap::new();
        for (place, paths) in &reached {
            let (name, module) = place.split_last().unwrap();
            let item = &self.0[module].items[name];
            let (kind, ..) = described(item).unwrap();
            for path in paths {
                // A module's documentation stands in its file.
                let inner = self.0.get(place).map_or("", |own| own.documentation.as_str());
                let said = documentation(attributes(item)) + inner;
                lines.insert(format!("{}{kind} {path}", hidden(attributes(item))), said);
                members(item, path, &mut lines);
            }
        }
        for (place, module) in &self.0 {
            for own in module.impls.iter().filter(|own| own.trait_.is_none()) {
                let Type::Path(of) = &*own.self_ty else { continue };
                let name = of.path.segments.last().unwrap().ident.to_string();
                let Some(paths) = self.find(place, &name).and_then(|of| reached.get(&of)) else { continue };
                for item in &own.items {
                    let (kind, attributes, visibility, name) = match item {
                        ImplItem::Fn(item) => ("fn", &item.attrs, &item.vis, &item.sig.ident),
                        ImplItem::Const(item) => ("const", &item.attrs, &item.vis, &item.ident),
                        _ => continue,
                    };
                    if is_public(visibility) && is_there(attributes) {
                        let hidden = hidden(attributes);
                        let said = documentation(attributes);
                        let line = |path| (format!("{hidden}{kind} {path}::{name}"), said.clone());
                        lines.extend(paths.iter().map(line));
                    }
                }
            }
        }
        lines
    }
}

/// Lines for an item's public fields or variants, or a trait's methods.
fn members(item: &Item, path: &str, lines: &mut BTreeMap<String, String>) {
    match item {
        Item::Enum(own) => {
            for variant in own.variants.iter().filter(|variant| is_there(&variant.attrs)) {
                let line = format!("{}variant {path}::{}", hidden(&variant.attrs), variant.ident);
                lines.insert(line, documentation(&variant.attrs));
            }
        }
        Item::Struct(own) => {
            let Fields::Named(fields) = &own.fields else { return };
            for field in fields.named.iter().filter(|f| is_public(&f.vis) && is_there(&f.attrs)) {
                let name = field.ident.as_ref().unwrap();
                let line = format!("{}field {path}.{name}", hidden(&field.attrs));
                lines.insert(line, documentation(&field.attrs));
            }
        }
        Item::Trait(own) => {
            for item in &own.items {
                if let syn::TraitItem::Fn(item) = item {
                    lines.insert(format!("fn {path}::{}", item.sig.ident), documentation(&item.attrs));
                }
            }
        }
        _ => {}
    }
}

impl Module {
    fn import(&mut self, own: &[String], tree: &UseTree, mut path: Place, public: bool) {
        match tree {
            UseTree::Path(part) => {
                match part.ident.to_string().as_str() {
                    "crate" => path.clear(),
                    "self" => path = own.to_vec(),
                    "super" if path.is_empty() => path = own[..own.len() - 1].to_vec(),
                    "super" => _ = path.pop(),
                    // A path without one begins with a child's name, or another crate's.
                    name if path.is_empty() => path = own.iter().cloned().chain([name.to_owned()]).collect(),
                    name => path.push(name.to_owned()),
                }
                self.import_below(&part.tree, path, public);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(own, tree, path.clone(), public));
            }
            _ => self.import_below(tree, path, public),
        }
    }

    fn import_below(&mut self, tree: &UseTree, path: Place, public: bool) {
        let with = |name: &syn::Ident| path.iter().cloned().chain([name.to_string()]).collect::<Place>();
        match tree {
            UseTree::Name(name) if name.ident == "self" => {
                self.uses.insert(path.last().unwrap().clone(), (path, public));
            }
            UseTree::Name(name) => _ = self.uses.insert(name.ident.to_string(), (with(&name.ident), public)),
            UseTree::Rename(name) => {
                self.uses.insert(name.rename.to_string(), (with(&name.ident), public));
            }
            UseTree::Glob(_) if public => self.globs.push(path),
            UseTree::Glob(_) => {}
            UseTree::Path(part) => {
                let path = match part.ident.to_string().as_str() {
                    "super" => path[..path.len() - 1].to_vec(),
                    _ => with(&part.ident),
                };
                self.import_below(&part.tree, path, public);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import_below(tree, path.clone(), public));
            }
        }
    }
}

#[test]
fn the_public_face_is_as_agreed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    let lines = Sources::read().lines();
    if std::env::var_os("FLATMIN_ACCEPT").is_some() {
        fs::write(&path, lines.iter().fold(String::new(), |text, line| text + line + "\n")).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let golden: BTreeSet<String> = golden.lines().map(str::to_owned).collect();
    let mut difference = String::new();
    for line in golden.difference(&lines) {
        writeln!(difference, "- {line}").unwrap();
    }
    for line in lines.difference(&golden) {
        writeln!(difference, "+ {line}").unwrap();
    }
    assert!(
        difference.is_empty(),
        "the public items are not those of {GOLDEN}:\n{difference}If that is meant, \
         `FLATMIN_ACCEPT=1 cargo test -p flatmin --test public_items` writes the file anew: commit it.\n"
    );
}

/// Paths that a documentation links to, without `crate::`, and with the type in place of `Self`.
fn links(said: &str, owner: &str) -> Vec<String> {
    let parts = said.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
    let target = |(text, after): (&str, &str)| {
        let named = after.strip_prefix('(').and_then(|rest| rest.split(')').next());
        let path = named.unwrap_or(text).trim_matches('`').trim_end_matches("()");
        path.trim_start_matches("crate::").trim_start_matches("flatmin::").replace("Self", owner)
    };
    parts.map(target).collect()
}

/// The code of a documentation's examples.
fn code(said: &str) -> String {
    said.split("```").skip(1).step_by(2).collect::<Vec<_>>().join("\n")
}

/// Whether code names an item.
fn names(code: &str, item: &str) -> bool {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == item)
}

/// Items, not their fields and variants, that have neither an example nor a link to an item with one. A type and its methods are
/// one page, and whatever an example on it calls has that example; the crate's own example is linked to as `crate`.
fn without_example<'d>(documented: &'d BTreeMap<String, String>, root: &str) -> Vec<&'d str> {
    let items = || {
        let lines = documented.iter().filter_map(|(line, said)| Some((line, line.split_once(' ')?, said)));
        lines.filter(|(_, (kind, _), _)| !["hidden", "field", "variant"].contains(kind))
    };
    let is_type = |path: &str| {
        ["struct", "enum", "trait", "type"]
            .iter()
            .any(|kind| documented.contains_key(&format!("{kind} {path}")))
    };
    let page = |path: &str| match path.rsplit_once("::") {
        Some((owner, _)) if is_type(owner) => owner.to_owned(),
        _ => path.to_owned(),
    };
    let mut pages: BTreeMap<String, String> = BTreeMap::new();
    for (_, (_, path), said) in items() {
        let page = pages.entry(page(path)).or_default();
        *page += &code(said);
        if links(said, path).iter().any(|link| link == "crate") {
            *page += root;
        }
    }
    let is_shown = |path: &str| {
        let (page, name) = (&pages[&page(path)], path.rsplit("::").next().unwrap_or(path));
        // A page's own item is what its example is about.
        !page.is_empty() && (names(page, name) || pages.contains_key(path))
    };
    let shown: BTreeSet<&str> = items().map(|(_, (_, path), _)| path).filter(|path| is_shown(path)).collect();
    // A link may leave out the modules in front.
    let leads = |link: &String| shown.iter().any(|own| own == link || own.ends_with(&format!("::{link}")));
    let lacks = |path: &str, said: &str| !shown.contains(path) && !links(said, &page(path)).iter().any(leads);
    items().filter(|(_, (_, path), said)| lacks(path, said)).map(|(line, ..)| line.as_str()).collect()
}

#[test]
fn every_public_item_has_an_example_or_a_link_to_one() {
    let sources = Sources::read();
    let root = code(&sources.0[&Place::new()].documentation);
    let documented = sources.documented();
    let lacking = without_example(&documented, &root);
    assert!(
        lacking.is_empty(),
        "{} items have neither an example nor a link to one:\n{}",
        lacking.len(),
        lacking.join("\n")
    );
}

#[test]
fn a_link_counts_where_it_leads_to_an_example() {
    let said = [
        ("struct room::Shown", "It is shown.\n```\nShown::new().call();\n```\n"),
        ("fn room::Shown::call", "Nothing."),
        ("fn room::Shown::hide", "Nothing."),
        ("fn room::Shown::other", "As [`Self::call`]."),
        ("struct Linked", "As [`crate::room::Shown`] has it."),
        ("struct Far", "[as there](crate::room::Shown::call)"),
        ("struct Bare", "Nothing."),
        ("fn Bare::call", "As [`Self`], or [`Linked`], which only links."),
        ("struct Root", "Of [the crate's example](crate)."),
        ("fn Root::begin", "Nothing."),
        ("fn Root::end", "Nothing."),
        ("field Shown.x", "Nothing."),
    ];
    let said = said.map(|(line, said)| (line.to_owned(), said.to_owned())).into();
    let lacking = without_example(&said, "Root::begin()");
    assert_eq!(lacking, ["fn Bare::call", "fn Root::end", "fn room::Shown::hide", "struct Bare"]);
}

/// What the walk must find, told by hand: a type that is exported by its room, one of a public room, a method of another
/// file, a field, a variant, and nothing that is private or internal.
#[test]
fn the_walk_finds_what_is_public_alone() {
    let lines = Sources::read().lines();
    for line in [
        "struct Tuner",
        "fn Tuner::accept",
        "field Recipe.rho",
        "variant Method::Asam",
        "struct store::Store",
        "enum wire::Request",
        "macro include_pack",
    ] {
        assert!(lines.contains(line), "{line} is not found");
    }
    for part in ["Replay", "step::", "kernels::", "internals", "cobs"] {
        assert!(!lines.iter().any(|line| line.contains(part)), "{part} is found");
    }
}
