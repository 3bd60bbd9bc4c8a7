//! The timebase of the host in the time that boards have.

use devices::BoardTime;

/// Turns ticks of the timebase into nanoseconds and back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub(super) frequency: u64,
    /// Nanoseconds of a tick where they are a whole number, as on most machines: wide divisions are slow. Else 0.
    tick: u64,
}

const NANOSECONDS: u64 = 1_000_000_000;

impl Clock {
    /// A clock of `frequency` ticks a second; 0 counts as 1.
    pub const fn new(frequency: u64) -> Self {
        let frequency = if frequency == 0 { 1 } else { frequency };
        let whole = NANOSECONDS.is_multiple_of(frequency);
        Self { frequency, tick: if whole { NANOSECONDS / frequency } else { 0 } }
    }

    /// The board's time at `ticks`.
    #[inline]
    pub const fn board_time(self, ticks: u64) -> BoardTime {
        if self.tick != 0 {
            return BoardTime(ticks.wrapping_mul(self.tick));
        }
        let nanoseconds = ticks as u128 * NANOSECONDS as u128 / self.frequency as u128;
        BoardTime(nanoseconds as u64)
    }

    /// The first tick that is not before `time`; the end of time where there is none.
    pub const fn ticks(self, time: BoardTime) -> u64 {
        if self.tick != 0 {
            return time.0.div_ceil(self.tick);
        }
        let ticks = (time.0 as u128 * self.frequency as u128).div_ceil(NANOSECONDS as u128);
        if ticks > u64::MAX as u128 { u64::MAX } else { ticks as u64 }
    }
}
