//! The documents say what the code does: tables that live in code are compared with their copies, links and file names
//! lead somewhere, and every difference that Linux's log may show is explained.

mod examples;
mod figures;

use devicetree::Extension;
use devicetree::extensions::Policy;
use hypo::attach::Attachments;
use hypo::load;
use hypo::manifest::{Disk, Manifest, Vm};
use hypo::pack::{Packed, Seed};
use hypo_common::status;
use hypo_debian::guests::{Named, Ready};
use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of all rows of tables in a Markdown text, heads included.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let row =
        |line| Some(str::strip_prefix(line, "|")?.strip_suffix('|')?.split('|').map(str::trim).collect());
    text.lines().filter_map(row).filter(|cells: &Vec<&str>| !cells[0].starts_with("---")).collect()
}

/// The part of a Markdown text under the heading `heading`, up to the next heading.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let body = &text[start + heading.len() + 2..];
    body.find("\n## ").map_or(body, |end| &body[..end])
}

/// The Markdown files of the project's root and of `docs`.
fn documents() -> Vec<PathBuf> {
    let folders = [root().to_owned(), root().join("docs"), root().join("docs/adr")];
    let files =
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn the_readme_lists_the_exit_statuses() {
    let text = read("README.md");
    let documented = rows(section(&text, "## Exit status"));
    let table = status::TABLE.map(|(_, code, meaning)| vec![code.to_string(), meaning.to_owned()]);
    assert_eq!(documented[1..], table);
}

#[test]
fn each_fault_in_the_security_document_has_its_tests() {
    let sources = ["crates", "hypo", "xtask"].map(|folder| sources_below(&root().join(folder))).concat();
    let (text, guests) = (read("SECURITY.md"), read("tests/guests.toml"));
    let table = rows(section(&text, "## Faults found and mended"));
    assert!(table.len() > 5);
    for cells in &table[1..] {
        let tests: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "fault {} has no test", cells[0]);
        for test in tests {
            // A function or a small guest; a case is named after a part that its file knows, such as `attacks/` and
            // `disk-resets`.
            let found = match test.split_once('/') {
                None => {
                    sources.contains(&format!("fn {test}(")) || guests.contains(&format!("name = \"{test}\""))
                }
                Some((suite, name)) => {
                    sources.contains(&format!("\"{suite}/")) && sources.contains(&format!("{name}\""))
                }
            };
            assert!(found, "fault {}: there is no test {test}", cells[0]);
        }
    }
}

/// All Rust sources below a folder, one after the other.
fn sources_below(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.extension().and_then(|extension| extension.to_str()) {
        _ if path.is_dir() => sources_below(&path),
        Some("rs") => fs::read_to_string(path).unwrap(),
        _ => String::new(),
    };
    entries.map(text).collect()
}

/// Guests without files stand for those that have names.
fn load(path: &Path) -> Result<Manifest, String> {
    let prepare = |_: Named| Ok(Ready::new("", "k".into()));
    load::load(path, prepare).map_err(|error| error.to_string())
}

/// A folder with a manifest of this text and the files that it names.
fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.toml");
    fs::write(&path, text).unwrap();
    fs::write(folder.path().join("k"), [1; 512]).unwrap();
    (folder, path)
}

const VM: &str = "[[vm]]\nname = 'a'\nkernel = 'k'\n";

#[test]
fn the_documented_manifest_is_one_and_its_keys_are_all() {
    let text = read("docs/manifest.md");
    let example = text.split("```").nth(1).unwrap().strip_prefix("toml\n").unwrap();
    let manifest = load(&written(example).1).unwrap();
    assert_eq!((manifest.vms.len(), manifest.vms[1].load.len(), manifest.vms[0].disks.len()), (2, 1, 1));

    for (heading, start) in [
        ("## `[host]`", "[host]\n"),
        ("## `[[switch]]`", "[[switch]]\nname = 's'\n"),
        ("## `[[vm]]`", VM),
        ("## `[[vm.disk]]`", &format!("{VM}[[vm.disk]]\nfile = 'k'\n")),
        ("## `[[vm.net]]`", &format!("{VM}[[vm.net]]\nhost = 'user'\n")),
        ("## `[[vm.load]]`", &format!("{VM}[[vm.load]]\nfile = 'f'\naddress = 0\n")),
    ] {
        // What is unlike all keys is answered with a list of them.
        let message = load(&written(&format!("{start}zzz = 1\n")).1).unwrap_err();
        let known = message.split("the keys here are").nth(1).unwrap_or_else(|| panic!("{message}"));
        let known: BTreeSet<&str> = known.split('`').skip(1).step_by(2).collect();
        let keys = rows(section(&text, heading));
        let documented: BTreeSet<&str> = keys[1..].iter().map(|cells| cells[0].trim_matches('`')).collect();
        assert_eq!(documented, known, "{heading}");
    }
}

#[test]
fn the_manifests_defaults_are_the_documented_ones() {
    let text = read("docs/manifest.md");
    let defaults = |heading: &str| -> String {
        let literal = |cells: &Vec<&str>| {
            let value = cells[2].strip_prefix('`')?.split('`').next()?;
            Some(format!("{} = {value}\n", cells[0].trim_matches('`')))
        };
        rows(section(&text, heading))[1..].iter().filter_map(literal).collect()
    };
    let (vm, disk) = (defaults("## `[[vm]]`"), defaults("## `[[vm.disk]]`"));
    assert!(vm.lines().count() >= 10 && disk.lines().count() == 2, "{vm}{disk}");
    let said = load(&written(&format!("{VM}{vm}")).1).unwrap();
    assert_eq!(said.vms[0].kernel.file_name(), Some("k".as_ref()));
    let mut bare = Vm::new("a", said.vms[0].kernel.clone());
    assert_eq!(said.vms[0], bare);
    let (folder, path) = written(&format!("{VM}[[vm.disk]]\nfile = 'k'\n{disk}"));
    bare.kernel = folder.path().join("k");
    bare.disks = vec![Disk::file(folder.path().join("k"))];
    assert_eq!(load(&path).unwrap().vms[0], bare);
    // The hypervisor's own are what a bundle without them says.
    let host = defaults("## `[host]`");
    let bundle_of = |text: String| {
        let (_folder, path) = written(&text);
        Packed::new(&load(&path).unwrap(), Seed::FIXED).unwrap().manifest.host
    };
    let (with, without) = (bundle_of(format!("[host]\n{host}{VM}")), bundle_of(VM.to_owned()));
    assert_eq!(
        (with.log_level, with.check_every, with.drop_caches_every, with.show),
        (without.log_level, without.check_every, without.drop_caches_every, without.show)
    );
    assert_eq!((without.window, host.lines().count()), (None, 5));
}

#[test]
fn the_manifests_limits_are_the_documented_ones() {
    let text = read("docs/manifest.md");
    let range = Regex::new(r"^(\d+) to (\d+)$").unwrap();
    let mut count = 0;
    for (heading, start) in [("## `[host]`", ""), ("## `[[vm]]`", VM)] {
        for cells in &rows(section(&text, heading))[1..] {
            let Some(limits) = range.captures(cells[1]) else { continue };
            let [low, high] = limits.extract::<2>().1.map(|limit| limit.parse::<i64>().unwrap());
            for (value, possible) in [(low - 1, false), (low, true), (high, true), (high + 1, false)] {
                let key = cells[0].trim_matches('`');
                let table = if start.is_empty() { "[host]\n" } else { start };
                let end = if start.is_empty() { VM } else { "" };
                let (_folder, path) = written(&format!("{table}{key} = {value}\n{end}"));
                let packed = load(&path).map(|manifest| Packed::new(&manifest, Seed::FIXED));
                let packed = packed.is_ok_and(|packed| packed.is_ok());
                assert_eq!(packed, possible, "{key} = {value}");
                count += 1;
            }
        }
    }
    assert_eq!(count, 4 * 4, "log-level, vcpus, weight, cap");
}

#[test]
fn the_examples_are_manifests() {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let manifest = load(&path).unwrap_or_else(|message| panic!("{message}"));
            Attachments::of(&manifest).unwrap();
            names.insert(path.file_name().unwrap().to_string_lossy().into_owned());
            let command = format!("cargo hypo run examples/{}", path.file_name().unwrap().display());
            assert!(fs::read_to_string(&path).unwrap().contains(&command), "{command}");
        }
    }
    assert!(["disks.toml", "lab.toml", "two.toml"].iter().all(|name| names.contains(*name)), "{names:?}");
}

#[test]
fn each_extension_that_is_not_the_hosts_choice_is_explained() {
    let text = read("docs/differences.md");
    let table = rows(section(&text, "## The hart"));
    let explained = |cell: &str, reason: &str| {
        let named = |cells: &&Vec<&str>| cells[0].split(", ").any(|name| name == cell);
        table.iter().find(named).is_some_and(|cells| cells.last() == Some(&reason))
    };
    let mut count = 0;
    for extension in Extension::all() {
        if let Policy::Always(reason) | Policy::Hidden(reason) = extension.policy() {
            assert!(explained(extension.name(), reason), "{}: {reason}", extension.name());
            count += 1;
        }
    }
    let lists = table.iter().skip_while(|cells| cells[0] != "hidden").filter(|cells| cells.len() == 2);
    let names: usize =
        lists.filter(|cells| cells[1] != "why").map(|cells| cells[0].split(", ").count()).sum();
    assert_eq!(names, count, "nothing else is listed");
}

#[test]
fn the_sbi_extensions_are_those_of_the_dispatcher() {
    let text = read("docs/differences.md");
    let table = rows(section(&text, "## Firmware"));
    let source = read("crates/vmm/src/sbi/mod.rs");
    let line = Regex::new(r"(?m)^ +(0x[0-9a-f]+) => (\w+?)(?:::|_)(\w+),$").unwrap();
    let mut found = 0;
    for capture in line.captures_iter(&source) {
        let [id, module, function] = capture.extract::<3>().1;
        let (cell, name) = if module == "legacy" { ("0x00 to 0x08", function) } else { (id, module) };
        let row = table.iter().find(|cells| cells[0] == cell).unwrap_or_else(|| panic!("no row for {id}"));
        assert!(row[1].contains(name), "{id}: {name}");
        found += 1;
    }
    let legacy = table.iter().find(|cells| cells[0] == "0x00 to 0x08").unwrap()[1].matches(", ").count() + 1;
    let others = table.iter().filter(|cells| cells.len() == 2 && cells[0].starts_with("0x")).count() - 1;
    assert_eq!(found, legacy + others, "nothing else is listed");
}

#[test]
fn each_difference_that_a_table_of_the_tests_names_is_explained() {
    let text = read("docs/differences.md");
    for (heading, file) in [("## Linux's log", "tests/kernel-log.toml"), ("## The sweep", "tests/sweep.toml")]
    {
        let table = rows(section(&text, heading));
        assert!(table.len() > 1 && table.iter().all(|cells| cells.len() == 3), "{heading}");
        let quoted: Vec<&str> = table[1..]
            .iter()
            .flat_map(|cells| &cells[..2])
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        let differences: toml::Table = read(file).parse().unwrap();
        for entry in differences["difference"].as_array().unwrap() {
            // Each alternative by itself.
            for pattern in alternatives(entry["line"].as_str().unwrap()) {
                let regex = Regex::new(pattern).unwrap();
                assert!(quoted.iter().any(|line| regex.is_match(line)), "`{pattern}` is not explained");
            }
        }
    }
}

/// The alternatives of a pattern, where none is inside parentheses.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, character) in pattern.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth == 0 => {
                parts.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[start..]);
    parts
}

#[test]
fn the_window_is_laid_out_as_documented() {
    let (document, source) = (read("docs/memory-map.md"), read("crates/hart/src/space.rs"));
    let table: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("//! |")).collect();
    assert!(table.len() > 3);
    for row in table {
        assert!(document.contains(&format!("|{row}")), "|{row}");
    }
}

#[test]
fn the_architecture_has_each_crate() {
    let text = read("ARCHITECTURE.md");
    let table = rows(section(&text, "## The crates"));
    let documented: BTreeSet<String> =
        table[1..].iter().map(|cells| cells[0].trim_matches('`').to_owned()).collect();
    let folders = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut there: BTreeSet<String> = folders.map(|name| format!("crates/{}", name.display())).collect();
    there.insert("hypocaust".to_owned());
    assert_eq!(documented, there);
}

#[test]
fn the_architecture_names_the_scanners_invariants() {
    let (document, source) = (read("ARCHITECTURE.md"), read("crates/mmu/src/check.rs"));
    let name = Regex::new(r"(?m)^//! - \*\*([a-z-]+)\*\*").unwrap();
    let names: Vec<_> = name.captures_iter(&source).map(|capture| capture.extract::<1>().1[0]).collect();
    assert!(names.len() > 4);
    for name in names {
        assert!(document.contains(&format!("| {name} |")), "{name}");
    }
}

#[test]
fn each_exit_counter_is_explained() {
    let (document, source) = (read("docs/debugging.md"), read("crates/trace/src/counters.rs"));
    let name = Regex::new(r#"(?m)^    [A-Z]\w+ = "([a-z-]+)","#).unwrap();
    let names: BTreeSet<_> = name.captures_iter(&source).map(|capture| capture.extract::<1>().1[0]).collect();
    let table = rows(section(&document, "## What the hypervisor says by itself"));
    let explained = table.iter().skip_while(|cells| cells[0] != "counter").skip(1);
    let explained: BTreeSet<_> =
        explained.flat_map(|cells| cells[0].split(", ")).map(|cell| cell.trim_matches('`')).collect();
    assert!(names.len() > 10);
    assert_eq!(explained, names);
}

#[test]
fn links_and_file_names_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)#:]+)\)").unwrap();
    let file =
        Regex::new(r"`((?:crates|hypo|hypocaust|xtask|tests|guests|fuzz|docs|examples)/[\w/.-]+)`").unwrap();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        let near = link.captures_iter(&text).map(|capture| folder.join(capture.extract::<1>().1[0]));
        let from_root = file.captures_iter(&text).map(|capture| root().join(capture.extract::<1>().1[0]));
        for path in near.chain(from_root) {
            assert!(path.exists(), "{}: {}", document.display(), path.display());
        }
    }
}
