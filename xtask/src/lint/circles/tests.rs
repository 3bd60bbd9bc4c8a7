//! What is a circle and what is not, on small crates that exist only here.

use super::*;

/// The messages about a crate of these files, the first of them its root.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let read = |path: &Path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, source)| (*source).to_owned())
    };
    in_crate(Path::new(files[0].0), &read).unwrap()
}

/// True when `a.rs`, with these contents, is in a circle with `b.rs`, which uses `a::Cart`.
fn closes_the_circle(a: &str) -> bool {
    let b = "pub struct Wheel;\npub fn turn() {}\npub mod parts { pub enum Part { Rim } }\n\
        macro_rules! roll { () => {} }\nfn load(_: &super::a::Cart) {}\n";
    !circles(&[("src/lib.rs", "#[macro_use] mod b;\nmod a;\n"), ("src/a.rs", a), ("src/b.rs", b)]).is_empty()
}

#[test]
fn two_files_that_use_each_other_are_refused_with_their_names_and_what_they_use() {
    let messages = circles(&[
        ("src/lib.rs", "mod a;\nmod b;\n"),
        ("src/a.rs", "use crate::b::{Wheel, turn};\npub struct Cart(Wheel);\nfn go() { turn() }\n"),
        ("src/b.rs", "pub struct Wheel;\npub fn turn() {}\nfn load(_: &super::a::Cart) {}\n"),
    ]);
    assert_eq!(
        messages,
        ["2 files use each other in a circle: src/a.rs, src/b.rs\n  \
          src/a.rs uses of src/b.rs: Wheel (line 1), turn (line 1)\n  \
          src/b.rs uses of src/a.rs: Cart (line 3)"]
    );
}

#[test]
fn a_circle_of_three_files_is_one_circle_and_who_only_uses_it_is_not_in_it() {
    let messages = circles(&[
        ("src/main.rs", "mod a;\nmod b;\nmod c;\nfn main() { a::f() }\n"),
        ("src/a.rs", "pub fn f() { crate::b::f() }\n"),
        ("src/b.rs", "pub fn f() { crate::c::f() }\n"),
        ("src/c.rs", "pub fn f() { crate::a::f() }\n"),
    ]);
    assert_eq!(messages.len(), 1);
    assert!(messages[0].starts_with("3 files use each other in a circle: src/a.rs, src/b.rs, src/c.rs\n"));
}

#[test]
fn arrows_that_all_lead_one_way_are_no_circle() {
    assert!(!closes_the_circle("pub struct Cart;\n"));
}

#[test]
fn every_way_of_naming_an_item_is_a_use() {
    for code in [
        "use crate::b::Wheel;",
        "use super::b::{self, parts::Part as Piece};\nfn f(_: Piece) {}",
        "use super::b::*;\nfn f() { turn() }",
        "fn f() { crate::b::turn() }",
        "fn f() -> Vec<crate::b::Wheel> { Vec::new() }",
        "fn f() { use crate::b::parts::Part::*; }",
        "use crate::b::parts;\nfn f() { match 0 { parts::Part::Rim => {} } }",
        "impl Cart { const WHEEL: crate::b::Wheel = crate::b::Wheel; }",
        "fn f() { println!(\"{}\", crate::b::turn()) }",
        "fn f() { vec![(0..crate::b::turn())] }",
        "macro_rules! f { () => { $crate::b::turn() } }",
        "fn f() { roll!() }",
        "fn f() { println!(\"{}\", roll!()) }",
        "#[serde(with(crate::b::turn))] struct S;",
        "mod inside { fn f() { super::super::b::turn() } }",
        "pub use crate::b::Wheel;",
        "pub(crate) use crate::b::parts::*;\nfn f(_: Part) {}",
    ] {
        assert!(closes_the_circle(&format!("pub struct Cart;\n{code}\n")), "{code}");
    }
}

#[test]
fn what_only_looks_like_a_use_is_none() {
    for code in [
        "use b::Wheel;",
        "fn f() { ::b::turn() }",
        "fn f(turn: u8) { println!(\"{}\", turn) }",
        "use super::b;",
        "struct S { turn: u8 } fn f(s: S) { println!(\"{} {}\", s.turn, s.b::<u8>()) }",
        "pub(in crate::b) fn f() {}",
        "macro_rules! f { ($b:ident) => { $b::turn() } }",
        "/// See [`crate::b::Wheel`].\nfn f() {}",
        "#[cfg(test)] use crate::b::Wheel;",
        "#[cfg(test)] mod tests { use crate::b::Wheel; }",
        "impl Cart { #[cfg(test)] fn f() { crate::b::turn() } }",
    ] {
        assert!(!closes_the_circle(&format!("pub struct Cart;\n{code}\n")), "{code}");
    }
}

#[test]
fn a_parent_that_only_declares_and_re_exports_is_in_no_circle() {
    for root in ["src/lib.rs", "src/main.rs"] {
        let files = [
            (root, "mod a;\nmod b;\npub use a::Cart;\npub use b::*;\npub(crate) use b::Wheel as Round;\n"),
            ("src/a.rs", "use crate::Round;\npub struct Cart(crate::Wheel, Round);\n"),
            ("src/b/mod.rs", "mod deep;\npub use deep::Wheel;\n"),
            ("src/b/deep.rs", "pub struct Wheel;\n"),
        ];
        assert!(circles(&files).is_empty());
    }
}

#[test]
fn a_re_export_leads_to_the_file_that_defines_the_item() {
    let messages = circles(&[
        ("src/lib.rs", "mod a;\nmod b;\npub use a::Cart;\npub use b::deep::Wheel;\n"),
        ("src/a.rs", "pub struct Cart(crate::Wheel);\n"),
        ("src/b.rs", "pub mod deep;\n"),
        ("src/b/deep.rs", "pub struct Wheel;\nfn load(_: crate::Cart) {}\n"),
    ]);
    assert_eq!(messages.len(), 1);
    assert!(messages[0].starts_with("2 files use each other in a circle: src/a.rs, src/b/deep.rs\n"));
}

#[test]
fn a_parent_that_defines_what_its_child_uses_and_uses_the_child_is_in_a_circle() {
    let child = ("src/a.rs", "use super::Load;\npub struct Cart(Load);\n");
    assert!(!circles(&[("src/lib.rs", "mod a;\nstruct Load;\nfn f(_: a::Cart) {}\n"), child]).is_empty());
    assert!(circles(&[("src/lib.rs", "mod a;\nstruct Load;\npub use a::Cart;\n"), child]).is_empty());
    let files = [("src/lib.rs", "mod a;\nmod load;\nuse load::Load;\nfn f(_: a::Cart) {}\n"), child];
    assert!(circles(&[files[0], files[1], ("src/load.rs", "pub struct Load;\n")]).is_empty());
}

#[test]
fn impl_blocks_of_a_type_from_above_are_part_of_it() {
    let root = ("src/lib.rs", "mod a;\npub struct Cart(a::Wheel);\nconst LOAD: u8 = 3;\n");
    let part = "use super::Cart;\npub struct Wheel;\nimpl Cart { fn turn(&self) {} }\n";
    assert!(circles(&[root, ("src/a.rs", part)]).is_empty());
    let more = format!("{part}const DOUBLE: u8 = 2 * super::LOAD;\n");
    assert!(!circles(&[root, ("src/a.rs", &more)]).is_empty());
    let beside = [("src/lib.rs", "mod a;\nmod b;\n"), ("src/a.rs", part)];
    let wrong = circles(&[
        beside[0],
        ("src/a.rs", "pub struct Cart(crate::b::Wheel);\n"),
        ("src/b.rs", &part.replace("super", "super::a")),
    ]);
    assert_eq!(wrong.len(), 1);
}

#[test]
fn what_a_macro_defines_is_its_modules() {
    let a = "pub struct Cart;\nfn f(_: crate::b::Flags, _: crate::b::Unseen) {}\n";
    let b = "bitflags! { pub struct Flags: u8 { const A = 1; } }\nmake!(Unseen);\nfn load(_: super::a::Cart) {}\n";
    let messages = circles(&[("src/lib.rs", "mod a;\nmod b;\n"), ("src/a.rs", a), ("src/b.rs", b)]);
    assert!(
        messages[0].contains("src/a.rs uses of src/b.rs: Flags (line 2), Unseen (line 2)"),
        "{messages:?}"
    );
}

#[test]
fn an_exported_macro_is_where_it_is_written() {
    let files = [
        ("src/lib.rs", "#[macro_use] mod a;\nmod b;\n"),
        ("src/a.rs", "#[macro_export] macro_rules! say { () => { $crate::b::write() } }\n"),
        ("src/b.rs", "pub fn write() {}\nfn f() { crate::say!() }\n"),
    ];
    assert!(circles(&files)[0].contains("src/b.rs uses of src/a.rs: say (line 2)"));
}

#[test]
fn a_file_at_an_unusual_place_is_found_and_a_missing_one_named() {
    let files = [
        ("src/lib.rs", "#[path = \"other/place.rs\"] mod a;\nmod b { pub mod c; }\n"),
        ("src/other/place.rs", "pub struct Cart(crate::b::c::Wheel);\n"),
        ("src/b/c.rs", "pub struct Wheel;\nfn load(_: crate::a::Cart) {}\n"),
    ];
    assert_eq!(circles(&files).len(), 1);
    let error =
        in_crate(Path::new("src/lib.rs"), &|path| path.ends_with("lib.rs").then(|| "mod gone;".into()));
    assert_eq!(error.unwrap_err().to_string(), "cannot read src/gone/mod.rs");
}

#[test]
fn a_function_may_have_the_name_of_a_module() {
    let files = [
        ("src/lib.rs", "mod call;\nmod base;\nfn call() { base::f() }\n"),
        ("src/call.rs", "pub struct Error;\n"),
        ("src/base.rs", "use super::call::Error;\npub fn f() -> Error { super::call::Error }\n"),
    ];
    assert!(circles(&files).is_empty());
    let base = files[2].1.replace("super::call::Error }", "super::call(); Error }");
    assert_eq!(circles(&[files[0], files[1], ("src/base.rs", &base)]).len(), 1);
}

#[test]
fn a_name_that_is_imported_from_itself_ends() {
    let a = "use turn::turn;\npub use self::Cart as Cart;\nuse b::*;\nuse super::a::*;\nfn f() { turn(); gone() }\n";
    assert!(!closes_the_circle(a));
}

#[test]
fn the_exceptions_are_packages_of_ours() {
    let project = Project::load().unwrap();
    assert!(NOT_YET.iter().all(|name| project.has(name)));
}
