//! A manifest's text: where in it a key stands, and what the user is told of a mistake. Knows no key's meaning.

use hypo_common::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How alike two words are, from 0 to 1, when one is taken for a slip of the other.
const ALIKE: f64 = 0.8;

/// The text of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    /// The text of the file at `path`.
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The folder that paths in it are relative to.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The error with the place of a key in front: `key` is as in `vm.1.disk.0.file`. Where there is no such key, the
    /// table that it would be in is the place.
    pub fn at(&self, key: &str, error: Error) -> Error {
        self.within(self.span(key), error)
    }

    /// What the user is told when TOML or serde find a mistake.
    pub fn mistake(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or(0..0);
        self.within(span, in_users_words(error.message()))
    }

    fn span(&self, key: &str) -> Range<usize> {
        let Ok(root) = DeTable::parse(&self.text) else { return 0..0 };
        let mut span = 0..0;
        let mut table: Option<&DeTable<'_>> = Some(root.get_ref());
        let mut list: Option<&[Spanned<DeValue<'_>>]> = None;
        for step in key.split('.') {
            let value = match (table, list, step.parse::<usize>()) {
                (_, Some(items), Ok(index)) => items.get(index),
                (Some(table), ..) => table.get(step),
                _ => None,
            };
            let Some(value) = value else { break };
            table = value.get_ref().as_table();
            list = match value.get_ref() {
                DeValue::Array(items) => Some(&**items),
                _ => None,
            };
            // A list of tables stands in many places; only its items have one.
            if list.is_none() {
                span = value.span();
            }
        }
        span
    }

    fn within(&self, span: Range<usize>, error: Error) -> Error {
        let start = self.text.floor_char_boundary(span.start);
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let start_of_line = before.rfind('\n').map_or(0, |at| at + 1);
        let column = self.text.get(start_of_line..start).unwrap_or_default().chars().count() + 1;
        let quoted = self.text.lines().nth(line - 1).unwrap_or_default();
        let error = error.within(format_args!("{}: line {line}, column {column}", self.path.display()));
        if quoted.trim().is_empty() {
            return error;
        }
        let marked = self.text.get(start..span.end.max(start)).unwrap_or_default().lines().next();
        let marks = "^".repeat(marked.unwrap_or_default().chars().count().max(1));
        // Tabs stay, so that the marks stand below what they mark.
        let gap: String =
            quoted.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        error.quote(format_args!("    {quoted}\n    {gap}{marks}"))
    }
}

/// Serde's message in words that say what to write instead.
fn in_users_words(message: &str) -> Error {
    let message = message.trim_end();
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    if let Some(key) = between(what, "unknown field `", "`") {
        return Error::new(format_args!("there is no key `{key}` here")).remedy(match nearest(key, &known) {
            Some(near) => format!("write `{near}`"),
            None => format!("the keys here are {}", quoted(&known)),
        });
    }
    if let Some(value) = between(what, "unknown variant `", "`") {
        return Error::new(format_args!("`{value}` is not possible here")).remedy(
            match nearest(value, &known) {
                Some(near) => format!("write \"{near}\""),
                None => format!("write one of {}", quoted(&known)),
            },
        );
    }
    if let Some(key) = between(what, "missing field `", "`") {
        return Error::new(format_args!("the key `{key}` is missing"))
            .remedy(format_args!("add `{key} = ...`; docs/manifest.md has every key"));
    }
    let wanted = match expected.trim_end_matches('.') {
        "" => return with_any_remedy(message),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "a boolean" => "true or false",
        "a string" | "path string" => "text in quotes",
        "a sequence" => "a list in brackets",
        wanted => wanted,
    };
    match what.strip_prefix("invalid type: ").or_else(|| what.strip_prefix("invalid value: ")) {
        Some(found) => {
            Error::new(format_args!("{found} is not possible here")).remedy(format_args!("write {wanted}"))
        }
        None => with_any_remedy(message),
    }
}

/// An error from a sentence that may say what to do.
fn with_any_remedy(message: &str) -> Error {
    if message.contains("; ") {
        Error::sentence(message)
    } else {
        Error::new(message).remedy("correct the line; docs/manifest.md has an example and every key")
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.split(after).next()
}

/// The one of `words` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase().replace('_', "-");
    words
        .iter()
        .map(|known| (strsim::jaro_winkler(&word, known), *known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// The words in backticks, with commas between.
pub fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, key: &str) -> String {
        Text::new(Path::new("m.toml"), text.to_owned()).at(key, Error::new("wrong")).to_string()
    }

    const TEXT: &str = "\
[host]
log-level = 2

[[vm]]
name = \"ä\"
[[vm.disk]]
\tfile = \"x\"

[[vm]]
disk = [{ file = \"y\" }]
";

    #[test]
    fn a_key_is_found_in_tables_and_lists() {
        for (key, place) in [
            ("host.log-level", "line 2, column 13"),
            ("vm.0.name", "line 5, column 8"),
            ("vm.0.disk.0.file", "line 7, column 9"),
            ("vm.1.disk.0.file", "line 10, column 18"),
            // What is not there is where it would be.
            ("vm.0.memory", "line 4, column 1"),
            ("vm.0.disk.0.readonly", "line 6, column 1"),
            ("vm.1.memory", "line 9, column 1"),
            ("vm.0.disk.7.file", "line 4, column 1"),
            ("switch.0.name", "line 1, column 1"),
        ] {
            let message = message(TEXT, key);
            assert!(message.starts_with(&format!("m.toml: {place}: wrong\n")), "{key}: {message}");
        }
    }

    #[test]
    fn the_line_is_shown_with_the_place_marked() {
        assert_eq!(
            message(TEXT, "vm.0.name"),
            "m.toml: line 5, column 8: wrong\n    name = \"ä\"\n           ^^^"
        );
        assert_eq!(
            message(TEXT, "vm.0.disk.0.file"),
            "m.toml: line 7, column 9: wrong\n    \tfile = \"x\"\n    \t       ^^^"
        );
    }

    #[test]
    fn a_text_that_is_no_toml_has_a_place_all_the_same() {
        assert!(message("[[vm", "vm.0").starts_with("m.toml: line 1, column 1: wrong"));
        assert_eq!(message("", "vm.0"), "m.toml: line 1, column 1: wrong");
    }

    #[test]
    fn slips_are_told_from_other_words() {
        let keys = ["kernel", "memory", "on-reset", "weight"];
        assert_eq!(nearest("kernal", &keys), Some("kernel"));
        assert_eq!(nearest("Memory", &keys), Some("memory"));
        assert_eq!(nearest("on_reset", &keys), Some("on-reset"));
        assert_eq!(nearest("colour", &keys), None);
    }

    #[test]
    fn messages_say_what_to_write() {
        for (message, expected) in [
            (
                "unknown field `kernal`, expected one of `name`, `kernel`",
                "there is no key `kernal` here\n  remedy: write `kernel`",
            ),
            (
                "unknown field `colour`, expected `name` or `kernel`",
                "there is no key `colour` here\n  remedy: the keys here are `name`, `kernel`",
            ),
            (
                "unknown variant `exti`, expected one of `restart`, `stop`, `exit`",
                "`exti` is not possible here\n  remedy: write \"exit\"",
            ),
            (
                "invalid value: integer `-1`, expected u32",
                "integer `-1` is not possible here\n  remedy: write a whole number, 0 or more",
            ),
            ("`12Q` is not a size; write 512M", "`12Q` is not a size\n  remedy: write 512M"),
        ] {
            assert_eq!(in_users_words(message).to_string(), expected);
        }
    }
}
