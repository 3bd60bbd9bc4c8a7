//! Checks with a verdict: each prints `ok NAME` or `FAILED NAME: got ... want ...`, [`finish`] the sum.

use crate::{finisher, println};
use core::fmt::{Debug, Display};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

static CHECKS: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);

/// Checks a condition: `check!("name", condition)`; or that a value is as wanted:
/// `check!("name", got, want)`. The name is anything that prints, also `format_args!`. Numbers print in hexadecimal.
#[macro_export]
macro_rules! check {
    ($name:expr, $condition:expr $(,)?) => {
        $crate::check::equal($name, $condition, true)
    };
    ($name:expr, $got:expr, $want:expr $(,)?) => {
        $crate::check::equal($name, $got, $want)
    };
}

/// Checks that a value is one of several allowed ones: `check_any!("name", got, [a, b])`.
#[macro_export]
macro_rules! check_any {
    ($name:expr, $got:expr, $allowed:expr $(,)?) => {
        $crate::check::one_of($name, $got, &$allowed)
    };
}

/// What `check!` calls.
pub fn equal<G: PartialEq<W> + Debug, W: Debug>(name: impl Display, got: G, want: W) {
    verdict(&name, got == want, &got, &want);
}

/// What `check_any!` calls.
pub fn one_of<T: PartialEq + Debug>(name: impl Display, got: T, allowed: &[T]) {
    verdict(&name, allowed.contains(&got), &got, &allowed);
}

fn verdict(name: &dyn Display, holds: bool, got: &dyn Debug, want: &dyn Debug) {
    CHECKS.fetch_add(1, Relaxed);
    if holds {
        println!("ok {name}");
    } else {
        FAILED.fetch_add(1, Relaxed);
        println!("FAILED {name}: got {got:x?} want {want:x?}");
    }
}

/// Prints `NAME: N checks, M failed` and says whether all held. No check at all is a failure.
pub fn summary(name: &str) -> bool {
    let (checks, failed) = (CHECKS.load(Relaxed), FAILED.load(Relaxed));
    println!("{name}: {checks} checks, {failed} failed");
    checks > 0 && failed == 0
}

/// Prints the [`summary`] and powers off with the verdict.
pub fn finish(name: &str) -> ! {
    if summary(name) { finisher::pass() } else { finisher::fail(finisher::CHECKS_FAILED) }
}
