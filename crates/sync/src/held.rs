//! The order of locks, and which ranks a hart holds.

/// What a lock protects. Locks are taken in this order, and two of one rank never at one time: not two boards, either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Rank {
    /// A virtual machine's life: start, stop, reset, pause.
    Life,
    /// A virtual machine's copies of code.
    Code,
    /// A virtual machine's devices.
    Board,
    /// What stands behind a device: a guest's disk, or a switch.
    Backend,
    /// A device of the host's, as its driver sees it.
    HostDevice,
    /// The operator's console.
    Console,
    /// A hart's run queue.
    Queue,
    /// What a vCPU has to be told.
    Link,
    /// The heap.
    Heap,
}

/// A rank that the hart holds until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held {
    #[cfg(all(debug_assertions, not(target_os = "none"), not(loom)))]
    rank: Rank,
}

#[cfg(all(debug_assertions, not(target_os = "none"), not(loom)))]
mod checked {
    use core::cell::Cell;

    use super::{Held, Rank};

    std::thread_local! {
        /// The ranks that the thread, a hart to the test, holds: a bit each.
        static HELD: Cell<u16> = const { Cell::new(0) };
    }

    impl Held {
        /// Notes that the hart is about to take a lock.
        ///
        /// # Panics
        /// Where it holds one of this rank or a higher one.
        #[track_caller]
        #[allow(clippy::panic, reason = "what it finds is a bug of ours, and only tests look")]
        pub(crate) fn take(rank: Rank) -> Self {
            let held = HELD.get();
            if held >> rank as u8 != 0 {
                panic!("invariant lock-order broken: {rank:?} is taken while {held:#b} is held");
            }
            HELD.set(held | 1 << rank as u8);
            Self { rank }
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.set(HELD.get() & !(1 << self.rank as u8));
        }
    }
}

#[cfg(not(all(debug_assertions, not(target_os = "none"), not(loom))))]
impl Held {
    /// Nobody checks.
    #[inline(always)]
    pub(crate) const fn take(_: Rank) -> Self {
        Self {}
    }
}
