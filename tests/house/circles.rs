//! No circle of files: a file that imports another, directly or through others, is not imported by
//! it.
//!
//! The graph is read from the `use` lines and paths of the sources. An import counts as one of the
//! file that defines the name, wherever it is re-exported; a list of re-exports (`pub use`) counts
//! as none. A module and its direct children may import each other, as the parts of one type in
//! several files do, if the children alone have no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::Visit;
use syn::{Item, UseTree, Visibility};

/// The path of a module in its crate; empty for the root.
type Module = Vec<String>;

/// The files that a file imports, each with the first path that does it.
type Imports = BTreeMap<Module, BTreeMap<Module, String>>;

#[test]
fn no_file_imports_itself_through_others() {
    let root = crate::root();
    let crates = ["", "client", "codec", "connectors", "engine", "fuzz", "proto", "state"];
    let circles = crates.iter().flat_map(|name| {
        let imports = imports_of(&root.join(name).join("src"));
        circles(&imports)
            .into_iter()
            .map(move |circle| describe(name, &imports, &circle))
            .collect::<Vec<_>>()
    });
    crate::nothing_in("circles of files", circles.collect::<Vec<String>>());
}

/// Asserts that a crate of these files has these circles.
fn check(files: &[(&str, &str)], expected: &[&[&str]]) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    let found: Vec<Vec<String>> = circles(&imports_of(folder.path()))
        .iter()
        .map(|circle| circle.iter().map(|module| module.join("/")).collect())
        .collect();
    let expected: Vec<Vec<String>> = expected
        .iter()
        .map(|circle| circle.iter().map(|name| (*name).to_string()).collect())
        .collect();
    assert_eq!(found, expected, "{files:?}");
}

const LIB: (&str, &str) = ("lib.rs", "mod a; mod b; pub use a::A;");

#[test]
fn a_circle_of_two_files_is_found() {
    check(&[LIB, ("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", "pub struct B;")], &[]);
    check(
        &[
            LIB,
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use crate::a::A; pub struct B;"),
        ],
        &[&["a", "b"]],
    );
    // Through a re-export, a path in an expression, a macro, and an imported module.
    check(
        &[LIB, ("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", "use crate::A; pub struct B;")],
        &[&["a", "b"]],
    );
    check(
        &[
            LIB,
            ("a.rs", "use crate::b::B; pub fn g() {}"),
            ("b.rs", "fn f() { crate::a::g() } pub struct B;"),
        ],
        &[&["a", "b"]],
    );
    check(
        &[
            LIB,
            ("a.rs", "use crate::b::B; pub fn g() {}"),
            ("b.rs", "fn f() { p!(crate::a::g()) } pub struct B;"),
        ],
        &[&["a", "b"]],
    );
    check(
        &[
            LIB,
            ("a.rs", "use crate::b; fn f() { b::g() } pub struct A;"),
            ("b.rs", "use super::a::A; pub fn g() {}"),
        ],
        &[&["a", "b"]],
    );
    // Tests import what they like.
    check(
        &[
            LIB,
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
        ],
        &[],
    );
}

#[test]
fn a_parent_with_its_child_is_no_circle_and_one_through_a_child_is() {
    check(
        &[
            LIB,
            ("a.rs", "mod c; use c::C; pub struct A;"),
            ("a/c.rs", "use super::A; pub struct C;"),
            ("b.rs", ""),
        ],
        &[],
    );
    let family = [
        LIB,
        ("a.rs", "mod c; mod d; use c::C; pub struct A;"),
        ("a/c.rs", "use super::{A, d::D}; pub struct C;"),
        ("b.rs", ""),
    ];
    check(&[&family[..], &[("a/d.rs", "use super::A; pub struct D;")]].concat(), &[]);
    check(
        &[&family[..], &[("a/d.rs", "use super::c::C; pub struct D;")]].concat(),
        &[&["a", "a/c", "a/d"]],
    );
    check(
        &[
            LIB,
            ("a.rs", "mod c; use c::C; pub struct A;"),
            ("a/c.rs", "use crate::b::B; pub struct C;"),
            ("b.rs", "use crate::a::A; pub struct B;"),
        ],
        &[&["a", "a/c", "b"]],
    );
}

/// A module of a crate, as far as imports are concerned.
#[derive(Default)]
struct Contents {
    /// The file that it stands in: itself, or its parent for one within braces.
    file: Module,
    defined: BTreeSet<String>,
    /// Imported names, with what they stand for.
    imported: BTreeMap<String, Vec<String>>,
    /// Modules of which everything is imported.
    globs: Vec<Vec<String>>,
    /// Paths that the code uses, those of private imports among them.
    used: BTreeSet<Vec<String>>,
}

type Crate = BTreeMap<Module, Contents>;

fn imports_of(src: &Path) -> Imports {
    let mut modules = Crate::new();
    for (module, path) in files(src) {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        read_items(&mut modules, &module, &module, &parsed.items);
    }
    let mut imports = Imports::new();
    for (module, contents) in &modules {
        let of_file = imports.entry(contents.file.clone()).or_default();
        for path in &contents.used {
            if let Some(from) =
                resolve(&modules, module, path, 0).filter(|from| *from != contents.file)
            {
                of_file.entry(from).or_insert_with(|| path.join("::"));
            }
        }
    }
    imports
}

/// The files of a crate, by the module that each is. `main.rs` is a crate of its own.
fn files(src: &Path) -> Vec<(Module, PathBuf)> {
    let mut files = Vec::new();
    let mut folders = vec![src.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()))
        {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("src/main.rs")
            {
                let relative = path.strip_prefix(src).expect("it is in it").with_extension("");
                let mut module: Module =
                    relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                module.pop_if(|last| *last == "mod" || *last == "lib");
                files.push((module, path));
            }
        }
    }
    files
}

fn read_items(modules: &mut Crate, file: &Module, module: &Module, items: &[Item]) {
    let mut contents = Contents { file: file.clone(), ..Contents::default() };
    for item in items.iter().filter(|item| !is_for_tests(item)) {
        match item {
            Item::Use(import) => {
                let mut paths = Vec::new();
                flatten(&import.tree, &mut Vec::new(), &mut paths);
                for (name, path) in paths {
                    // A list of re-exports is no use of them.
                    if matches!(import.vis, Visibility::Inherited) {
                        contents.used.insert(path.clone());
                    }
                    match name {
                        Some(name) => drop(contents.imported.insert(name, path)),
                        None => contents.globs.push(path),
                    }
                }
            }
            Item::Mod(within) => {
                if let Some((_, items)) = &within.content {
                    let inner = [module.as_slice(), &[within.ident.to_string()]].concat();
                    read_items(modules, file, &inner, items);
                }
            }
            _ => {
                contents.defined.extend(name_of(item));
                Paths(&mut contents.used).visit_item(item);
            }
        }
    }
    modules.insert(module.clone(), contents);
}

fn is_for_tests(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string().contains("test"))
    })
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// The names that a `use` brings, each with its path; no name for all that is in a module.
fn flatten(
    tree: &UseTree,
    before: &mut Vec<String>,
    into: &mut Vec<(Option<String>, Vec<String>)>,
) {
    let with = |last: &syn::Ident, before: &[String]| [before, &[last.to_string()]].concat();
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, into);
            before.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            into.push((before.last().cloned(), before.clone()))
        }
        UseTree::Name(name) => into.push((Some(name.ident.to_string()), with(&name.ident, before))),
        UseTree::Rename(name) if name.ident == "self" => {
            into.push((Some(name.rename.to_string()), before.clone()))
        }
        UseTree::Rename(name) => {
            into.push((Some(name.rename.to_string()), with(&name.ident, before)))
        }
        UseTree::Glob(_) => into.push((None, before.clone())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, into)),
    }
}

/// Collects the paths of an item: those in macros too.
struct Paths<'a>(&'a mut BTreeSet<Vec<String>>);

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // Of `pub(in crate::a)` nothing is imported.
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        let text = call.tokens.to_string();
        let mut path: Vec<String> = Vec::new();
        let mut joined = false;
        for word in text.replace("::", " :: ").split_whitespace() {
            if word == "::" {
                joined = true;
            } else if word.chars().all(|letter| letter.is_alphanumeric() || letter == '_') {
                if !joined {
                    self.0.insert(std::mem::take(&mut path));
                }
                path.push(word.to_string());
                joined = false;
            } else {
                self.0.insert(std::mem::take(&mut path));
                joined = false;
            }
        }
        self.0.insert(path);
    }
}

/// The file that defines what a path leads to, as seen from a module; none if it is of another
/// crate.
fn resolve(modules: &Crate, from: &Module, path: &[String], depth: usize) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    if depth > 16 {
        return None;
    }
    match first.as_str() {
        "crate" => find(modules, &Module::new(), rest, depth),
        "self" => find(modules, from, rest, depth),
        "super" => {
            let mut parent = from.clone();
            let mut rest = path;
            while let Some((first, after)) =
                rest.split_first().filter(|(first, _)| *first == "super")
            {
                let _ = first;
                parent.pop()?;
                rest = after;
            }
            find(modules, &parent, rest, depth)
        }
        _ => {
            let is_here =
                modules.contains_key(&[from.as_slice(), std::slice::from_ref(first)].concat());
            let contents = modules.get(from)?;
            let is_named =
                contents.defined.contains(first) || contents.imported.contains_key(first);
            if is_here || is_named { find(modules, from, path, depth) } else { None }
        }
    }
}

/// The file that defines what a path leads to, in this module.
fn find(modules: &Crate, module: &Module, path: &[String], depth: usize) -> Option<Module> {
    let contents = modules.get(module)?;
    let Some((first, rest)) = path.split_first() else { return Some(contents.file.clone()) };
    if contents.defined.contains(first) {
        return Some(contents.file.clone());
    }
    let child = [module.as_slice(), std::slice::from_ref(first)].concat();
    if modules.contains_key(&child) {
        return find(modules, &child, rest, depth);
    }
    if let Some(imported) = contents.imported.get(first) {
        return resolve(modules, module, &[imported.as_slice(), rest].concat(), depth + 1);
    }
    contents
        .globs
        .iter()
        .find_map(|glob| resolve(modules, module, &[glob.as_slice(), path].concat(), depth + 1))
}

/// The groups of files that import each other, but for those of a module and its direct children.
fn circles(imports: &Imports) -> Vec<Vec<Module>> {
    let reached = |from: &Module| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            for imported in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(imported.clone()) {
                    next.push(imported);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        imports.keys().map(|file| (file, reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, to) in &reached {
        let circle: Vec<Module> = to
            .iter()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(*file)))
            .cloned()
            .collect();
        if circle.len() > 1 && !is_a_family(imports, &circle) {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// Returns whether these files are a module and its direct children, among which there is no circle
/// without it.
fn is_a_family(imports: &Imports, circle: &[Module]) -> bool {
    let parent = circle.iter().min_by_key(|module| module.len()).expect("a circle has files");
    let children: Vec<&Module> = circle.iter().filter(|module| *module != parent).collect();
    let are_its_children =
        children.iter().all(|child| child.len() == parent.len() + 1 && child.starts_with(parent));
    let among_them = |file: &Module| -> BTreeMap<Module, String> {
        imports[file]
            .iter()
            .filter(|(other, _)| children.contains(other))
            .map(|(other, path)| (other.clone(), path.clone()))
            .collect()
    };
    let without_parent: Imports =
        children.iter().map(|child| ((*child).clone(), among_them(child))).collect();
    are_its_children && circles(&without_parent).is_empty()
}

fn describe(name: &str, imports: &Imports, circle: &[Module]) -> String {
    let named =
        |module: &Module| if module.is_empty() { "lib".to_string() } else { module.join("/") };
    let mut text =
        format!("{}/src: {} files", if name.is_empty() { "." } else { name }, circle.len());
    for file in circle {
        for (other, path) in imports[file].iter().filter(|(other, _)| circle.contains(other)) {
            text += &format!("\n    {} imports {} ({path})", named(file), named(other));
        }
    }
    text
}
