//! Checks with a verdict: each prints `ok NAME` or `FAILED NAME: got ... want ...`, [`finish`] the sum.

use crate::{finisher, println};
use core::fmt::{Debug, Display};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

static CHECKS: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);

/// Checks a condition: `check!("name", condition)`; that a value is as wanted: `check!("name", got, want)`; or
/// that it is one of several allowed ones: `check!("name", got, in [a, b])`. The name is anything that prints, also
/// `format_args!`. Numbers print in hexadecimal.
#[macro_export]
macro_rules! check {
    ($name:expr, $condition:expr $(,)?) => {
        $crate::check::equal($name, $condition, true)
    };
    ($name:expr, $got:expr, in $allowed:expr $(,)?) => {
        $crate::check::one_of($name, $got, &$allowed)
    };
    ($name:expr, $got:expr, $want:expr $(,)?) => {
        $crate::check::equal($name, $got, $want)
    };
}

/// What `check!` with two values calls.
pub fn equal<G: PartialEq<W> + Debug, W: Debug>(name: impl Display, got: G, want: W) {
    verdict(&name, got == want, &got, &want);
}

/// What `check!` with several allowed values calls.
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

/// Prints `NAME: N checks, M failed` and powers off with the verdict. No check at all is a failure.
pub fn finish(name: &str) -> ! {
    let (checks, failed) = (CHECKS.load(Relaxed), FAILED.load(Relaxed));
    println!("{name}: {checks} checks, {failed} failed");
    if checks > 0 && failed == 0 { finisher::pass() } else { finisher::fail(finisher::CHECKS_FAILED) }
}
