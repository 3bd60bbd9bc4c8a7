//! The worked examples in CONTRIBUTING.md.

use super::{read, root, section};
use regex::Regex;

/// The worked examples name files that are there, with what to look for in them, and are short.
#[test]
fn the_worked_examples_are_true_to_the_tree() {
    let text = read("CONTRIBUTING.md");
    let examples: Vec<&str> = section(&text, "## Where to add what").split("\n### ").skip(1).collect();
    assert_eq!(examples.len(), 4);
    let named = Regex::new(r"`([\w-]+(?:/[\w.-]+)+)`(?:\s+\(([^)]*`)\))?").unwrap();
    for example in examples {
        let title = example.lines().next().unwrap();
        let lines = example.trim_end().lines().count() - 2;
        assert!(lines <= 15, "{title}: {lines} lines");
        let mut last = String::new();
        let mut count = 0;
        // `There, too` is the file before.
        for step in example.replace("There, too", "`there/too`").split("\n1. ").skip(1) {
            for found in named.captures_iter(step) {
                let (path, wanted) = (&found[1], found.get(2).map_or("", |wanted| wanted.as_str()));
                let path = if path == "there/too" { last.clone() } else { path.to_owned() };
                assert!(root().join(&path).exists(), "{title}: there is no {path}");
                for word in wanted.split('`').skip(1).step_by(2) {
                    assert!(read(&path).contains(word), "{title}: {path} has no `{word}`");
                    count += 1;
                }
                last = path;
            }
        }
        assert!(count >= 5, "{title}: {count} places to look for");
    }
}
