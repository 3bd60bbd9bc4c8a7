//! Ticks of the timebase against the devices' nanoseconds.

use devices::BoardTime;
use proptest::prelude::*;
use vmm::machine::Clock;

/// A century of nanoseconds.
const CENTURY: u64 = 100 * 365 * 86_400 * 1_000_000_000;

proptest! {
    #[test]
    fn a_deadline_in_ticks_is_the_first_tick_that_is_not_too_early(
        frequency in prop_oneof![Just(10_000_000), 1..=4_000_000_000_u64],
        due in 0..CENTURY,
    ) {
        let clock = Clock::new(frequency);
        let ticks = clock.ticks(BoardTime(due));
        prop_assert!(clock.board_time(ticks) >= BoardTime(due));
        prop_assert!(ticks == 0 || clock.board_time(ticks - 1) < BoardTime(due));
    }
}

#[test]
fn the_end_of_time_is_never_reached_and_a_frequency_of_zero_does_no_harm() {
    assert_eq!(Clock::new(4_000_000_000).ticks(BoardTime(u64::MAX)), u64::MAX);
    assert_eq!(Clock::new(0).ticks(BoardTime(2_000_000_000)), 2);
    assert_eq!(Clock::new(0).board_time(2), BoardTime(2_000_000_000));
}
