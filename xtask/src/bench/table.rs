//! The benchmark's table: a row for each item, for people (Markdown, aligned) and for programs (JSON).

use super::lines::Output;
use serde::Serialize;
use std::collections::BTreeMap;

/// One suite's rows and counters.
#[derive(Serialize)]
pub struct Table {
    /// The suite's name.
    pub suite: &'static str,
    /// One row for each item.
    pub rows: Vec<Row>,
    /// Exits of the whole guest run, by kind.
    pub exits: BTreeMap<String, u64>,
}

/// One operation, in instructions of the whole machine.
#[derive(Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// On QEMU and its firmware alone.
    pub native: Option<f64>,
    /// Under the hypervisor.
    pub guest: Option<f64>,
    /// Guest by native.
    pub ratio: Option<f64>,
}

impl Table {
    /// Brings the runs of a suite together; items whose name contains `filter`.
    pub fn new(suite: &'static str, native: Option<&Output>, guest: Option<&Output>, filter: &str) -> Table {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in native.iter().chain(&guest).flat_map(|output| &output.items) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let row = |name: &str| {
            let [native, guest] = [native, guest].map(|output| output.and_then(|output| output.item(name)));
            let ratio =
                guest.zip(native.filter(|&native| native > 0.0)).map(|(guest, native)| guest / native);
            Row { name: name.into(), native, guest, ratio }
        };
        let rows = names.into_iter().filter(|name| name.contains(filter)).map(row).collect();
        Table { suite, rows, exits: guest.map(|output| output.exits.clone()).unwrap_or_default() }
    }

    /// The table as aligned Markdown, the counters below it.
    pub fn to_markdown(&self) -> String {
        let mut cells = vec![[self.suite.to_owned(), "native".into(), "guest".into(), "ratio".into()]];
        for row in &self.rows {
            let ratio = row.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            cells.push([row.name.clone(), instructions(row.native), instructions(row.guest), ratio]);
        }
        let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3].map(width);
        let mut text = String::new();
        for (index, [name, numbers @ ..]) in cells.iter().enumerate() {
            text += &format!("| {name:<0$} |", widths[0]);
            for (number, width) in numbers.iter().zip(&widths[1..]) {
                text += &format!(" {number:>width$} |");
            }
            text.push('\n');
            if index == 0 {
                text += &format!("| {} |", "-".repeat(widths[0]));
                for width in &widths[1..] {
                    text += &format!(" {}: |", "-".repeat(width - 1));
                }
                text.push('\n');
            }
        }
        if !self.exits.is_empty() {
            text += &format!("\nExits of the guest run ({}):", self.suite);
            let mut exits: Vec<_> = self.exits.iter().collect();
            exits.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
            for (name, count) in exits {
                text += &format!(" {name} {},", grouped(*count));
            }
            text.pop();
            text.push('\n');
        }
        text
    }
}

/// A figure with one decimal where it is small.
fn instructions(figure: Option<f64>) -> String {
    match figure {
        None => String::new(),
        Some(figure) if figure < 100.0 => format!("{figure:.1}"),
        Some(figure) => grouped(figure.round() as u64),
    }
}

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(native: &str, guest: &str, filter: &str) -> Table {
        Table::new("bare", Some(&Output::read(native)), Some(&Output::read(guest)), filter)
    }

    #[test]
    fn the_table_is_aligned_markdown() {
        let text = table(
            "bench csr-read 1000 10\nbench boot 1 5690721\n",
            "bench csr-read 1000 2500\nbench boot 1 6259793\nhypocaust: exits csr=1000 sret=20\n",
            "",
        )
        .to_markdown();
        assert_eq!(
            text,
            "| bare     |      native |       guest |  ratio |\n\
             | -------- | ----------: | ----------: | -----: |\n\
             | csr-read |         1.0 |         250 | 250.00 |\n\
             | boot     | 569,072,100 | 625,979,300 |   1.10 |\n\
             \n\
             Exits of the guest run (bare): csr 1,000, sret 20\n"
        );
    }

    #[test]
    fn an_item_of_one_run_only_has_no_ratio() {
        let table = table("bench a 1 1\n", "bench b 1 1\n", "");
        let names: Vec<_> = table.rows.iter().map(|row| (row.name.as_str(), row.ratio)).collect();
        assert_eq!(names, [("a", None), ("b", None)]);
    }

    #[test]
    fn the_filter_picks_rows() {
        assert_eq!(table("bench a-x 1 1\nbench b-y 1 1\n", "", "b-").rows.len(), 1);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
