//! Bounds that a benchmark run must keep, on every firmware: what would otherwise grow unnoticed. `docs/benchmark.md` states
//! and explains them.

use super::lines::Output;
use Bound::{Instructions, Ratio};

/// What a figure of the guest's run may be at most.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// So many times the native one.
    Ratio(f64),
    /// So many instructions.
    Instructions(f64),
}

/// By item.
const BOUNDS: [(&str, Bound); 32] = [
    ("teaching-syscall", Ratio(8.0)),
    ("teaching-grow", Ratio(14.0)),
    ("teaching-syscall-64M", Ratio(10.5)),
    ("teaching-syscall-256M", Ratio(10.5)),
    ("spin-sstatus", Ratio(6.0)),
    ("spin-tick", Instructions(5_000.0)),
    ("spin-tick-worst", Instructions(200_000.0)),
    ("text-poke", Instructions(2_500.0)),
    ("text-poke-worst", Instructions(50_000.0)),
    ("text-poke-sret", Instructions(6_500.0)),
    ("text-poke-sret-worst", Instructions(120_000.0)),
    ("text-poke-wide", Instructions(2_500.0)),
    ("text-poke-wide-worst", Instructions(60_000.0)),
    ("code-read-much", Instructions(2_000.0)),
    ("code-read-little", Instructions(4_500.0)),
    ("code-read-again", Instructions(2_000.0)),
    ("mmio-read", Instructions(600.0)),
    ("uart-character", Instructions(1_500.0)),
    ("blk-read-4k", Instructions(10_000.0)),
    ("net-frame-1500", Instructions(16_000.0)),
    ("idle-linux-second", Instructions(200_000.0)),
    ("boot-to-init", Ratio(1.27)),
    ("getppid", Ratio(2.6)),
    ("read-1-byte", Ratio(2.0)),
    ("pipe-switch", Ratio(1.55)),
    ("page-fault", Ratio(1.3)),
    ("mmap-touch-munmap", Ratio(1.35)),
    ("signal", Ratio(2.0)),
    ("fork-exit", Ratio(1.35)),
    ("fork-exec", Ratio(1.3)),
    ("timer-tick", Ratio(1.6)),
    ("chase-64MiB", Ratio(1.01)),
];

/// Pages of memory that copies of code take at most.
const COPIES: u64 = 1024;

/// Whether an item has a bound.
pub fn has(item: &str) -> bool {
    BOUNDS.iter().any(|(name, _)| *name == item)
}

/// One line for each bound that the runs of a suite do not keep.
pub fn exceeded(native: Option<&Output>, guest: &Output) -> Vec<String> {
    let items = BOUNDS.into_iter().filter_map(|(name, bound)| {
        let figure = guest.item(name)?;
        let most = match bound {
            Ratio(ratio) => ratio * native?.item(name)?,
            Instructions(most) => most,
        };
        (figure > most).then(|| format!("{name}: {figure:.0} instructions, {most:.0} are allowed"))
    });
    let count = |name: &str| guest.exits.get(name).copied().unwrap_or(0);
    let copies = count("code-copies").saturating_sub(count("code-copies-ended"));
    let copies = (copies > COPIES).then(|| format!("{copies} copies of code, {COPIES} are allowed"));
    items.chain(copies).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(native: &str, guest: &str) -> Vec<String> {
        exceeded(Some(&Output::read(native)), &Output::read(guest))
    }

    #[test]
    fn a_figure_above_its_bound_is_told() {
        let native = "bench teaching-syscall 100 300\n";
        assert_eq!(check(native, "bench teaching-syscall 100 2400\nbench text-poke 100 2500\n"), [""; 0]);
        assert_eq!(
            check(native, "bench teaching-syscall 100 2401\nbench text-poke 100 2501\n"),
            [
                "teaching-syscall: 2401 instructions, 2400 are allowed",
                "text-poke: 2501 instructions, 2500 are allowed"
            ]
        );
    }

    #[test]
    fn copies_are_counted_while_they_last() {
        assert_eq!(check("", "hypocaust: exits code-copies=1030 code-copies-ended=6\n"), [""; 0]);
        assert_eq!(
            check("", "hypocaust: exits code-copies=1030 code-copies-ended=5\n"),
            ["1025 copies of code, 1024 are allowed"]
        );
    }

    #[test]
    fn the_document_states_the_bounds() {
        let text = include_str!("../../../docs/benchmark.md");
        for (name, bound) in BOUNDS {
            let bound = match bound {
                Ratio(ratio) => format!("{ratio} times native"),
                Instructions(most) if most < 1e3 => format!("{most:.0}"),
                Instructions(most) => format!("{},{:03}", most as u64 / 1000, most as u64 % 1000),
            };
            let stated = text.lines().any(|line| {
                let cells: Vec<_> = line.split('|').map(str::trim).collect();
                cells.len() == 5 && cells[1] == name && cells[2] == bound
            });
            assert!(stated, "{name}: {bound}");
        }
    }
}
