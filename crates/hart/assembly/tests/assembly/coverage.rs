//! What of the assembly was executed, and which way its branches went.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::image::Image;

/// How often each instruction was executed, and each branch went on or away: by parcels.
#[derive(Clone, Debug)]
pub struct Counts {
    executed: Vec<u64>,
    branched: Vec<[u64; 2]>,
}

/// What no site leads to: a plan takes the old value into x0 for none, and to set the bits of x0 is a read.
const NEVER: [&str; 2] = ["fast_off_read_0", "fast_restore_0"];

impl Counts {
    /// Nothing.
    pub fn new(image: &Image) -> Self {
        Self { executed: vec![0; image.parcels()], branched: vec![[0; 2]; image.parcels()] }
    }

    #[inline]
    pub fn executed(&mut self, index: usize) {
        self.executed[index] += 1;
    }

    #[inline]
    pub fn branched(&mut self, index: usize, is_taken: bool) {
        self.branched[index][usize::from(is_taken)] += 1;
    }

    /// Adds what another hart has done.
    pub fn add(&mut self, other: &Self) {
        self.executed.iter_mut().zip(&other.executed).for_each(|(own, other)| *own += other);
        for (own, other) in self.branched.iter_mut().zip(&other.branched) {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        }
    }

    /// A line for each instruction of the fast path that was never executed, each branch that went one way alone, and each
    /// that was executed and should not have been.
    pub fn missing(&self, image: &Image) -> Vec<String> {
        let mut missing = Vec::new();
        for (index, instruction) in image.instructions() {
            let (name, offset) = image.name(index);
            let place = format!("{name}+{offset:#x}");
            match (self.executed[index], is_never(image, index)) {
                (0, true) => {}
                (_, true) => missing.push(format!("{place} is reached, and is said not to be")),
                (0, false) => missing.push(format!("{place} is never reached")),
                _ if instruction.is_branch() => {
                    let [on, away] = self.branched[index];
                    if on == 0 || away == 0 {
                        missing.push(format!("{place} branches {away} times and goes on {on} times"));
                    }
                }
                _ => {}
            }
        }
        missing
    }

    /// How many of the fast path's instructions and ways of its branches were reached, of how many that can be.
    pub fn sums(&self, image: &Image) -> [(usize, usize); 2] {
        let mut sums = [(0, 0); 2];
        let can_be = image.instructions().filter(|(index, _)| !is_never(image, *index));
        for (index, instruction) in can_be {
            let mut note = |nth: usize, count: u64| {
                sums[nth].0 += usize::from(count != 0);
                sums[nth].1 += 1;
            };
            note(0, self.executed[index]);
            if instruction.is_branch() {
                self.branched[index].iter().for_each(|count| note(1, *count));
            }
        }
        sums
    }

    /// How often each of the assembly's names was come to, and each branch went away or on.
    pub fn table(&self, image: &Image) -> String {
        let mut names = BTreeMap::new();
        let mut out = String::new();
        for (index, instruction) in image.instructions() {
            let (name, offset) = image.name(index);
            let (entered, branches) = names.entry(first_of(name)).or_insert((0, Vec::new()));
            if offset == 0 {
                *entered += self.executed[index];
            }
            if instruction.is_branch() {
                branches.push((format!("{name}+{offset:#x}"), self.branched[index]));
            }
        }
        let _ = writeln!(out, "{:<28} {:>12}", "handler", "entered");
        names.iter().for_each(|(name, (entered, _))| {
            let _ = writeln!(out, "{name:<28} {entered:>12}");
        });
        let _ = writeln!(out, "{:<28} {:>12} {:>12}", "branch", "taken", "not taken");
        for (place, [on, away]) in names.values().flat_map(|(_, branches)| branches) {
            let _ = writeln!(out, "{place:<28} {away:>12} {on:>12}");
        }
        out
    }
}

/// The name without its register's number.
fn first_of(name: &str) -> &str {
    let without = name.trim_end_matches(|c: char| c.is_ascii_digit());
    without.strip_suffix('_').unwrap_or(name)
}

fn is_never(image: &Image, index: usize) -> bool {
    let (name, _) = image.name(index);
    NEVER.contains(&name)
}
