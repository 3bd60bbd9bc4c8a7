//! docs/monitor.md says what there is.

use monitor::COMMANDS;
use std::path::Path;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/monitor.md");
    std::fs::read_to_string(path).unwrap()
}

/// The rows of the table with this heading, without their bars.
fn rows(heading: &str) -> Vec<String> {
    let document = document();
    let (_, table) = document.split_once(heading).expect("the heading is there");
    // The rest of the heading's line, and the rule below it.
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches(['|', ' ']).to_owned()).collect()
}

#[test]
fn the_document_has_every_command_in_its_order() {
    let commands: Vec<_> =
        COMMANDS.iter().map(|entry| format!("`{}` | {}", entry.usage(), entry.help)).collect();
    assert_eq!(rows("| command | what it does |"), commands);
}
