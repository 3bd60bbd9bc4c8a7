//! Compares what was printed natively and as a guest, line by line. A table of TOML names the lines that may differ, and
//! why; `docs/differences.md` has each of them, which a test of `hypo` looks after.

use crate::project::Project;
use anyhow::{Context, Result};
use regex::Regex;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    difference: Vec<Entry>,
}

/// Lines that may differ.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// What such a line contains.
    line: String,
    /// The firmware on which it may differ, if it is not all of them.
    firmware: Option<String>,
    /// Why it may differ.
    #[expect(dead_code, reason = "for the reader of the table")]
    why: String,
}

/// The lines that may differ on one firmware.
pub struct Differences(Vec<Regex>);

/// What a comparison finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Lines on one side that no row of the table names, with `-` natively and `+` as a guest.
    pub unnamed: Vec<String>,
    /// Rows of the table that name no line on one side only.
    pub idle: Vec<String>,
}

impl Differences {
    /// The table in `tests/`.
    ///
    /// # Errors
    /// Where it cannot be read, or is none.
    pub fn load(project: &Project, file: &str, firmware: &str) -> Result<Self> {
        let path = project.root().join("tests").join(file);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let table: Table = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        let here = |entry: &&Entry| entry.firmware.as_ref().is_none_or(|only| only == firmware);
        let rows = table.difference.iter().filter(here).map(|entry| Regex::new(&entry.line));
        Ok(Self(rows.collect::<Result<_, _>>().with_context(|| format!("in {}", path.display()))?))
    }

    /// Compares lines, in whatever order they come.
    pub fn compare<'a>(
        &self,
        native: impl Iterator<Item = &'a str>,
        guest: impl Iterator<Item = &'a str>,
    ) -> Comparison {
        let mut lines: BTreeMap<&str, i32> = BTreeMap::new();
        native.for_each(|line| *lines.entry(line).or_default() -= 1);
        guest.for_each(|line| *lines.entry(line).or_default() += 1);
        lines.retain(|_, weight| *weight != 0);
        let is_named = |line: &str| self.0.iter().any(|row| row.is_match(line));
        let unnamed = lines.iter().filter(|(line, _)| !is_named(line));
        let idle = self.0.iter().filter(|row| !lines.keys().any(|line| row.is_match(line)));
        Comparison {
            unnamed: unnamed
                .map(|(line, weight)| format!("{} {line}", if *weight < 0 { '-' } else { '+' }))
                .collect(),
            idle: idle.map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(native: &str, guest: &str, rows: &[&str]) -> Comparison {
        let rows = rows.iter().map(|row| Regex::new(row).unwrap()).collect();
        Differences(rows).compare(native.lines(), guest.lines())
    }

    #[test]
    fn order_and_named_lines_do_not_count() {
        assert_eq!(compare("a\nb 1\nc", "c\nb 2\na", &["^b "]), Comparison::default());
    }

    #[test]
    fn a_line_on_one_side_and_a_row_for_nothing_are_found() {
        let found = compare("a\nb 1\nc", "b 2\nc\nc", &["^c", "^d"]);
        assert_eq!(found.unnamed, ["- a", "- b 1", "+ b 2"]);
        assert_eq!(found.idle, ["^d"]);
    }
}
