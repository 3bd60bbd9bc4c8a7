//! Reads what a benchmark run printed: the guests' results and the hypervisor's counters.

use std::collections::BTreeMap;

/// Instructions in a tick of the guest's clock: `-icount shift=0` makes an instruction a nanosecond, and
/// the clock of QEMU's `virt` runs at 10 MHz.
const INSTRUCTIONS_PER_TICK: f64 = 100.0;

/// What one run printed.
#[derive(Debug, Default, PartialEq)]
pub struct Output {
    /// Instructions per operation, in the order of their lines.
    pub items: Vec<(String, f64)>,
    /// Exits by kind; empty for a native run.
    pub exits: BTreeMap<String, u64>,
}

impl Output {
    /// Reads the lines of interest and skips all others. They may follow other text on their line, as the
    /// console is shared.
    pub fn read(text: &str) -> Output {
        let mut output = Output::default();
        for line in text.lines() {
            if let Some(item) = result(line) {
                output.items.push(item);
            }
            if let Some((_, counters)) = line.split_once("hypocaust: exits ") {
                output.exits.extend(counters.split_whitespace().filter_map(counter));
            }
        }
        output
    }

    /// The figure of an item.
    pub fn item(&self, name: &str) -> Option<f64> {
        self.items.iter().find(|(known, _)| known == name).map(|(_, instructions)| *instructions)
    }
}

/// `bench NAME ITERATIONS TICKS`.
fn result(line: &str) -> Option<(String, f64)> {
    let (_, rest) = line.split_once("bench ")?;
    let mut words = rest.split_whitespace();
    let name = words.next()?;
    let iterations: u64 = words.next()?.parse().ok().filter(|&iterations| iterations > 0)?;
    let ticks: u64 = words.next()?.parse().ok()?;
    Some((name.into(), ticks as f64 * INSTRUCTIONS_PER_TICK / iterations as f64))
}

/// `NAME=COUNT`.
fn counter(word: &str) -> Option<(String, u64)> {
    let (name, count) = word.split_once('=')?;
    Some((name.into(), count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_counters_are_found_among_other_lines() {
        let output = Output::read(
            "[    0.1] Linux version\n\
             bench getppid 20000 85606\n\
             hypocaust: vm 0: hypocaust: exits csr=12 sret=3\n\
             hypocaust: exits mmio=7 nonsense also=this\n\
             workbench is no result\n",
        );
        assert_eq!(output.item("getppid"), Some(428.03));
        assert_eq!(output.items.len(), 1);
        let exits: Vec<_> = output.exits.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(exits, [("csr", 12), ("mmio", 7), ("sret", 3)]);
    }

    #[test]
    fn an_item_without_iterations_is_no_result() {
        assert_eq!(Output::read("bench nothing 0 12\nbench half 3\n"), Output::default());
    }
}
