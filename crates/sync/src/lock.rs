//! A lock with a rank.

use core::fmt;
use core::ops::{Deref, DerefMut};

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
use spin::mutex::{TicketMutex as Mutex, TicketMutexGuard as MutexGuard};

use crate::held::{Held, Rank};

/// Lets one hart at a time have a `T`.
pub struct Lock<T> {
    rank: Rank,
    value: Mutex<T>,
}

/// A `T` that nobody else has until this is dropped.
pub struct Guard<'a, T> {
    value: MutexGuard<'a, T>,
    // Behind the value: given back when that is.
    _held: Held,
}

impl<T> Lock<T> {
    /// A lock of this rank that nobody holds.
    pub fn new(rank: Rank, value: T) -> Self {
        Self { rank, value: Mutex::new(value) }
    }

    /// Waits until nobody has the value, and takes it.
    #[inline(always)]
    #[track_caller]
    pub fn lock(&self) -> Guard<'_, T> {
        let _held = Held::take(self.rank);
        #[cfg(not(loom))]
        let value = self.value.lock();
        #[cfg(loom)]
        let value = self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Guard { value, _held }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("rank", &self.rank).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::string::String;
    use std::{format, thread};

    use super::*;

    /// All ranks, in the order of the design.
    const RANKS: [Rank; 9] = [
        Rank::Life,
        Rank::Code,
        Rank::Board,
        Rank::Backend,
        Rank::HostDevice,
        Rank::Console,
        Rank::Queue,
        Rank::Link,
        Rank::Heap,
    ];

    /// What the check says of taking a lock of rank `second` while one of rank `first` is held.
    fn taking(first: Rank, second: Rank) -> Result<(), String> {
        let (first, second) = (Lock::new(first, ()), Lock::new(second, ()));
        let _first = first.lock();
        catch_unwind(AssertUnwindSafe(|| drop(second.lock())))
            .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    }

    // *lock-order*
    #[test]
    fn locks_are_taken_in_the_order_of_their_ranks_and_each_once() {
        for (place, first) in RANKS.into_iter().enumerate() {
            for (other, second) in RANKS.into_iter().enumerate() {
                let result = taking(first, second);
                assert_eq!(result.is_ok(), place < other, "{first:?}, then {second:?}");
                let is_named = |message: String| message.contains("lock-order");
                assert!(result.err().is_none_or(is_named), "{first:?}, then {second:?}");
            }
        }
    }

    #[test]
    fn a_lock_that_is_given_back_may_be_taken_again_whatever_is_given_back_first() {
        let (code, board) = (Lock::new(Rank::Code, 1), Lock::new(Rank::Board, 2));
        for _ in 0..3 {
            let (first, second) = (code.lock(), board.lock());
            drop(first);
            assert!(catch_unwind(AssertUnwindSafe(|| drop(code.lock()))).is_err(), "the board is still held");
            drop(second);
        }
        assert_eq!(taking(Rank::Code, Rank::Console), Ok(()));
    }

    #[test]
    fn the_same_lock_taken_twice_is_found_instead_of_waited_for() {
        let lock = Lock::new(Rank::Board, ());
        let _held = lock.lock();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(lock.lock()))).is_err());
    }

    #[test]
    fn what_one_hart_holds_is_not_held_by_another() {
        let lock = Lock::new(Rank::Link, 0);
        let _held = lock.lock();
        thread::scope(|scope| {
            let other = Lock::new(Rank::Life, ());
            scope.spawn(move || drop(other.lock())).join().unwrap();
        });
    }

    #[test]
    fn harts_that_count_under_a_lock_lose_nothing() {
        let lock = Lock::new(Rank::Board, 0_u64);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..200).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(*lock.lock(), 400);
        assert!(format!("{lock:?}").contains("Board"));
    }
}
