//! What harts share state with: locks that are taken in one order, and atomics.
//!
//! A lock is fair: who waits for it gets it in turn. Nobody is interrupted or descheduled while holding one, so a wait is as long
//! as what the holders before do. Where a test explores all interleavings (`--cfg loom`), locks and atomics are `loom`'s.
//!
//! *lock-order*: a hart takes a lock only while all that it holds have a lower [`Rank`]. So no two harts wait for each other, and
//! none for itself. Builds with debug assertions on the developer's machine, such as `cargo test`, check that at each lock; the
//! image, which has no thread-local state, does not, and pays nothing for it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(all(debug_assertions, not(target_os = "none"), not(loom)))]
extern crate std;

pub mod atomic;
mod held;
mod lock;

pub use held::Rank;
pub use lock::{Guard, Lock};
