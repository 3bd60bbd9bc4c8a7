//! What harts do at one time to a board's line to one of them, in all interleavings. `cargo xtask test` runs these with `--cfg loom`.

use loom::sync::Arc;
use loom::thread;
use sync::{Lock, Rank};

use super::*;

/// A board whose one line is high while a source is: each hart has a source of its own.
struct Wired {
    sources: Lock<u32>,
    lines: Lines,
    links: [Link; 1],
}

impl Wired {
    fn new(sources: u32) -> Self {
        let wired =
            Self { sources: Lock::new(Rank::Board, sources), lines: Lines::default(), links: [Link::new()] };
        wired.lines.push(u32::from(sources != 0), &wired.links);
        wired
    }

    /// Sets or clears a source, as `Machine::with_board` does it: what follows is pushed before the lock is given back.
    fn set(&self, source: u32, level: bool) {
        let mut sources = self.sources.lock();
        *sources = if level { *sources | source } else { *sources & !source };
        self.lines.push(u32::from(*sources != 0), &self.links);
    }

    /// Takes over what has reached the vCPU whose line was at `seen`, as `vm::notice` does it.
    fn notice(&self, seen: &mut bool) {
        if self.links[0].take_mail() {
            *seen = self.lines.level(0);
        }
    }
}

/// What a vCPU sees that looks while two harts each do something to a board, whose sources are those of `before`, and once more
/// when they are done. Each part is explored in a thread of its own and as the model's.
fn race(before: u32, one: [(u32, bool); 2], other: [(u32, bool); 1]) {
    loom::model(move || {
        let wired = Arc::new(Wired::new(before));
        let mut seen = false;
        wired.notice(&mut seen);
        assert_eq!(seen, before != 0);
        let (first, second) = (Arc::clone(&wired), Arc::clone(&wired));
        let first =
            thread::spawn(move || one.into_iter().for_each(|(source, level)| first.set(source, level)));
        let second =
            thread::spawn(move || other.into_iter().for_each(|(source, level)| second.set(source, level)));
        wired.notice(&mut seen);
        first.join().unwrap();
        second.join().unwrap();
        wired.notice(&mut seen);
        assert_eq!(seen, *wired.sources.lock() != 0, "the vCPU has the line's last level");
    });
}

#[test]
fn a_line_that_two_harts_raise_and_clear_reaches_the_vcpu_as_it_ends() {
    race(0, [(1, true), (1, false)], [(2, true)]);
    race(1, [(2, true), (2, false)], [(1, false)]);
    race(2, [(1, true), (1, false)], [(2, false)]);
}

#[test]
fn a_level_that_is_raised_while_the_vcpu_takes_its_mail_is_not_lost() {
    loom::model(|| {
        let wired = Arc::new(Wired::new(0));
        let device = Arc::clone(&wired);
        let device = thread::spawn(move || device.set(1, true));
        let mut seen = false;
        wired.notice(&mut seen);
        device.join().unwrap();
        wired.notice(&mut seen);
        assert!(seen);
    });
}
