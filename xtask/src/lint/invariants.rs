//! The invariants of ARCHITECTURE.md: each is cited where it is kept and by a test that would see it broken, and nothing else is
//! called one. A citation is the name in emphasis, `*checked-ram*`, in a comment.

use super::sources::{read, source_files};
use crate::project::Project;
use anyhow::{Result, bail};
use regex::Regex;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The document with the table of invariants, and its heading.
const DOCUMENT: &str = "ARCHITECTURE.md";
const HEADING: &str = "\n## Invariants\n";

/// Other documents that name invariants.
const OTHERS: &[&str] = &["SECURITY.md", "docs/adr/*.md"];

/// This file, whose tests have names of their own.
const THIS: &str = "xtask/src/lint/invariants.rs";

/// What a file says, split into what runs and what tests it.
#[derive(Default)]
struct Source<'a> {
    name: String,
    code: &'a str,
    tests: &'a str,
}

/// Fails with a line for each invariant that no code or no test cites, and for each name that is no invariant's.
pub fn check(project: &Project) -> Result<()> {
    let sources = texts(project, &["*.rs", "*.s", "*.toml"])?;
    let sources = sources.iter().filter(|(name, _)| name != THIS);
    let sources: Vec<_> = sources.map(|(name, text)| Source::split(name, text)).collect();
    let others = texts(project, OTHERS)?;
    let others: Vec<_> = others.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let wrong = violations(&read(&project.root().join(DOCUMENT))?, &sources, &others);
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// The files of these names, each with its path.
fn texts(project: &Project, names: &[&str]) -> Result<Vec<(String, String)>> {
    let text = |path: &PathBuf| Ok((path.display().to_string(), read(&project.root().join(path))?));
    source_files(project, names)?.iter().map(text).collect()
}

/// What is wrong with the document's invariants and with what cites them.
fn violations(document: &str, sources: &[Source<'_>], others: &[(&str, &str)]) -> Vec<String> {
    let known = names(document);
    let mut wrong = Vec::new();
    if known.is_empty() {
        wrong.push(format!("{DOCUMENT} has no table of invariants"));
    }
    for name in &known {
        if !sources.iter().any(|source| citations(source.code).contains(name)) {
            wrong.push(format!("{DOCUMENT}: no source cites the invariant {name} (as `*{name}*`)"));
        }
        if !sources.iter().any(|source| citations(source.tests).contains(name)) {
            wrong.push(format!("{DOCUMENT}: no test cites the invariant {name} (as `*{name}*`)"));
        }
    }
    let texts =
        sources.iter().flat_map(|source| [source.code, source.tests].map(|text| (&*source.name, text)));
    for (place, text) in texts.chain(others.iter().copied()) {
        for name in citations(text).difference(&known) {
            wrong.push(format!("{place}: {name} is no invariant of {DOCUMENT}"));
        }
    }
    wrong
}

/// The first cells of the table of invariants.
fn names(document: &str) -> BTreeSet<&str> {
    let Some((_, section)) = document.split_once(HEADING) else { return BTreeSet::new() };
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    // Behind the head and the line below it.
    cells.filter(|cell| *cell != "name" && !cell.starts_with("---")).collect()
}

/// The names in emphasis: words of small letters with hyphens between them.
fn citations(text: &str) -> BTreeSet<&str> {
    let citation = Regex::new(r"\*([a-z][a-z0-9]*(?:-[a-z0-9]+)+)\*").expect("a pattern");
    citation.captures_iter(text).filter_map(|found| found.get(1)).map(|name| name.as_str()).collect()
}

impl<'a> Source<'a> {
    fn split(name: &str, text: &'a str) -> Self {
        let is_test =
            ["fuzz/", "guests/", "tests/", "xtask/src/test/"].iter().any(|top| name.starts_with(top))
                || name.contains("/tests/")
                || ["/tests.rs", "/races.rs"].iter().any(|end| name.ends_with(end));
        let (code, tests) = match text.split_once("\n#[cfg(test)]\nmod tests {") {
            _ if is_test => ("", text),
            Some(parts) => parts,
            None => (text, ""),
        };
        Self { name: name.to_owned(), code, tests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# A\n\n## Invariants\n\n| name | what |\n| --- | --- |\n| one-way | a |\n| no-tea | b |\n\n## B\n| x-y |\n";

    fn found(sources: &[(&str, &str)], others: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = sources.iter().map(|(name, text)| Source::split(name, text)).collect();
        violations(DOCUMENT, &sources, others)
    }

    #[test]
    fn a_name_is_cited_by_a_source_and_by_a_test() {
        let code =
            ("crates/a/src/lib.rs", "// *one-way*: **no-tea**.\n#[cfg(test)]\nmod tests {\n// *no-tea*\n}");
        assert_eq!(found(&[code, ("crates/a/tests/b.rs", "// *one-way*")], &[]), [""; 0]);
        assert_eq!(
            found(&[code], &[]),
            ["ARCHITECTURE.md: no test cites the invariant one-way (as `*one-way*`)"]
        );
        let uncited = found(&[("guests/a.rs", "// *one-way* and *no-tea*")], &[]);
        assert_eq!(uncited.len(), 2, "{uncited:?}");
        assert!(uncited.iter().all(|line| line.contains("no source cites")));
    }

    #[test]
    fn a_word_that_is_not_in_emphasis_cites_nothing() {
        let code = ("crates/a/src/lib.rs", "// one-way, `no-tea`, \"one-way\", a*one-way*b\n");
        let wrong = found(&[code], &[]);
        assert_eq!(wrong.len(), 3, "one-way in emphasis is cited by a source alone: {wrong:?}");
    }

    #[test]
    fn a_name_that_is_not_in_the_table_is_refused() {
        let code = ("crates/a/src/lib.rs", "// *one-way* *no-tea* *no-coffee*");
        let test = ("tests/b.toml", "# *one-way* *no-tea*");
        let wrong = found(&[code, test], &[("SECURITY.md", "*two-way*")]);
        assert_eq!(
            wrong,
            [
                "crates/a/src/lib.rs: no-coffee is no invariant of ARCHITECTURE.md",
                "SECURITY.md: two-way is no invariant of ARCHITECTURE.md"
            ]
        );
    }

    #[test]
    fn a_document_without_the_table_is_refused() {
        assert_eq!(violations("# A\n", &[], &[]), ["ARCHITECTURE.md has no table of invariants"]);
    }
}
