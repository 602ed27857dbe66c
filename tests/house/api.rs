//! The public items of all crates stand in `docs/public-api.txt`, so that a change of them shows in
//! a review. `TIDEMILL_TEST_UPDATE=1` writes the list anew.
//!
//! An item counts if it is declared `pub` and not `#[doc(hidden)]`, also where its module is
//! private: what is re-exported, `src/lib.rs` decides. Methods, fields and variants are listed with
//! their type.

use super::{is_production, read, root, sources};
use std::collections::BTreeSet;
use std::fs;
use syn::{Attribute, Fields, ImplItem, Item, TraitItem, Visibility};

const LIST: &str = "docs/public-api.txt";

#[test]
fn the_public_items_are_those_that_are_listed() {
    let mut items = BTreeSet::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| is_of_a_crate(path)) {
        let parsed = syn::parse_file(&text).unwrap_or_else(|why| panic!("{path}: {why}"));
        let of = path.split("src/").next().unwrap_or_default().trim_end_matches('/');
        add(&parsed.items, if of.is_empty() { "tidemill" } else { of }, &mut items);
    }
    assert!(items.len() > 500, "only {} items were found", items.len());
    let list: String = items.iter().map(|item| format!("{item}\n")).collect();
    if std::env::var_os("TIDEMILL_TEST_UPDATE").is_some() {
        fs::write(root().join(LIST), &list).expect("the list can be written");
    }
    let listed = read(&root().join(LIST));
    let listed: BTreeSet<&str> = listed.lines().collect();
    let now: BTreeSet<&str> = list.lines().collect();
    let new: Vec<_> = now.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&now).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "public items that are new: {new:#?}\ngone: {gone:#?}\nIf that is meant, run \
         TIDEMILL_TEST_UPDATE=1 cargo test --release --workspace --test house, and commit {LIST}"
    );
}

#[test]
fn items_that_are_public() {
    let text = "pub struct A { pub a: u8, b: u8 } impl A { pub fn f(&self) {} fn g() {} } \
        pub(crate) struct B; pub enum E { V } pub trait T { fn t(); } #[doc(hidden)] pub fn h() \
        {} pub mod m { pub const C: u8 = 1; }";
    let mut items = BTreeSet::new();
    add(&syn::parse_file(text).expect("Rust").items, "c", &mut items);
    let expected = [
        "const C",
        "enum E",
        "enum E::V",
        "field A::a",
        "fn A::f",
        "fn T::t",
        "struct A",
        "trait T",
    ];
    assert_eq!(items, expected.iter().map(|item| format!("c: {item}")).collect());
}

fn is_of_a_crate(path: &str) -> bool {
    let folder = path.split("src/").next().unwrap_or_default();
    let crates = ["", "client/", "codec/", "connectors/", "engine/", "proto/", "server/", "state/"];
    is_production(path) && path.contains("src/") && crates.contains(&folder)
}

fn is_public(visibility: &Visibility, attributes: &[Attribute]) -> bool {
    let is_hidden = |attribute: &Attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("doc") && list.tokens.to_string() == "hidden",
        _ => false,
    };
    matches!(visibility, Visibility::Public(_)) && !attributes.iter().any(is_hidden)
}

fn add(of: &[Item], krate: &str, items: &mut BTreeSet<String>) {
    let mut found = Vec::new();
    let mut note = |kind: &str, name: &str| found.push(format!("{krate}: {kind} {name}"));
    for item in of {
        match item {
            Item::Struct(it) if is_public(&it.vis, &it.attrs) => {
                note("struct", &it.ident.to_string());
                if let Fields::Named(fields) = &it.fields {
                    for field in
                        fields.named.iter().filter(|field| is_public(&field.vis, &field.attrs))
                    {
                        note(
                            "field",
                            &format!(
                                "{}::{}",
                                it.ident,
                                field.ident.as_ref().expect("it is named")
                            ),
                        );
                    }
                }
            }
            Item::Enum(it) if is_public(&it.vis, &it.attrs) => {
                note("enum", &it.ident.to_string());
                it.variants
                    .iter()
                    .for_each(|variant| note("enum", &format!("{}::{}", it.ident, variant.ident)));
            }
            Item::Trait(it) if is_public(&it.vis, &it.attrs) => {
                note("trait", &it.ident.to_string());
                for item in &it.items {
                    if let TraitItem::Fn(function) = item {
                        note("fn", &format!("{}::{}", it.ident, function.sig.ident));
                    }
                }
            }
            Item::Fn(it) if is_public(&it.vis, &it.attrs) => note("fn", &it.sig.ident.to_string()),
            Item::Const(it) if is_public(&it.vis, &it.attrs) => {
                note("const", &it.ident.to_string())
            }
            Item::Type(it) if is_public(&it.vis, &it.attrs) => note("type", &it.ident.to_string()),
            Item::Impl(it) if it.trait_.is_none() => {
                let syn::Type::Path(of) = &*it.self_ty else { continue };
                let name = of.path.segments.last().expect("a path has a segment").ident.to_string();
                for item in &it.items {
                    match item {
                        ImplItem::Fn(function) if is_public(&function.vis, &function.attrs) => {
                            note("fn", &format!("{name}::{}", function.sig.ident));
                        }
                        ImplItem::Const(constant) if is_public(&constant.vis, &constant.attrs) => {
                            note("const", &format!("{name}::{}", constant.ident));
                        }
                        _ => {}
                    }
                }
            }
            Item::Mod(it) if is_public(&it.vis, &it.attrs) => {
                if let Some((_, inner)) = &it.content {
                    add(inner, krate, items);
                }
            }
            _ => {}
        }
    }
    items.extend(found);
}
