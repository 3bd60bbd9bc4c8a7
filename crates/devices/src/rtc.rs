//! `google,goldfish-rtc`: wall-clock time in nanoseconds since 1970, and one alarm.
//!
//! Given the board's time with each access; keeps only the distance from there to wall-clock time.

use isa::Width;

use crate::{BoardTime, Refused};

/// The registers, each of 32 bits. What is not here reads 0 and ignores writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// Low half of the time; reading it latches the high half. Writing sets it.
    TimeLow,
    /// High half of the time as latched. Writing sets it.
    TimeHigh,
    /// Low half of the alarm; writing it arms the alarm.
    AlarmLow,
    /// High half of the alarm; to be written before the low half.
    AlarmHigh,
    /// Bit 0: the alarm raises the line.
    IrqEnabled,
    /// Writing anything disarms the alarm.
    ClearAlarm,
    /// Reads 1 while the alarm is armed and has not rung.
    AlarmStatus,
    /// Writing anything lowers the line.
    ClearInterrupt,
}

impl Register {
    /// The register at `offset`.
    pub const fn at(offset: u64) -> Option<Self> {
        match offset {
            0x00 => Some(Self::TimeLow),
            0x04 => Some(Self::TimeHigh),
            0x08 => Some(Self::AlarmLow),
            0x0c => Some(Self::AlarmHigh),
            0x10 => Some(Self::IrqEnabled),
            0x14 => Some(Self::ClearAlarm),
            0x18 => Some(Self::AlarmStatus),
            0x1c => Some(Self::ClearInterrupt),
            _ => None,
        }
    }
}

/// The clock of one virtual machine.
#[derive(Clone, Debug)]
pub struct GoldfishRtc {
    /// Wall-clock time minus the board's time, modulo 2^64, in nanoseconds.
    offset: u64,
    latched_high: u32,
    alarm: u64,
    /// When the armed alarm rings. Fixed when it is armed: setting the time later does not move it, as on QEMU.
    rings_at: Option<BoardTime>,
    rang: bool,
    irq_enabled: bool,
}

impl GoldfishRtc {
    /// A clock that showed `wall_ns`, nanoseconds since 1970, at the board's time 0.
    pub const fn new(wall_ns: u64) -> Self {
        Self { offset: wall_ns, latched_high: 0, alarm: 0, rings_at: None, rang: false, irq_enabled: false }
    }

    /// To power-on state. The time goes on.
    pub fn reset(&mut self) {
        *self = Self::new(self.offset);
    }

    /// Reads a word, or two with a double word, the low one first.
    pub fn read(&mut self, offset: u64, width: Width, now: BoardTime) -> Result<u64, Refused> {
        match width {
            Width::Word => Ok(u64::from(self.read_word(offset, now))),
            Width::Double => {
                let low = self.read_word(offset, now);
                let high = self.read_word(offset.wrapping_add(4), now);
                Ok(u64::from(high) << 32 | u64::from(low))
            }
            Width::Byte | Width::Half => Err(Refused),
        }
    }

    /// Writes a word, or two with a double word, the low one first.
    pub fn write(&mut self, offset: u64, width: Width, value: u64, now: BoardTime) -> Result<(), Refused> {
        match width {
            Width::Word => self.write_word(offset, value as u32, now),
            Width::Double => {
                self.write_word(offset, value as u32, now);
                self.write_word(offset.wrapping_add(4), (value >> 32) as u32, now);
            }
            Width::Byte | Width::Half => return Err(Refused),
        }
        Ok(())
    }

    /// Rings the alarm if it is due.
    pub fn tick(&mut self, now: BoardTime) {
        if self.rings_at.is_some_and(|due| due <= now) {
            self.rings_at = None;
            self.rang = true;
        }
    }

    /// When [`Self::tick`] next has something to do.
    pub const fn next_alarm(&self) -> Option<BoardTime> {
        self.rings_at
    }

    /// The interrupt line, as of the last access or tick.
    pub const fn irq_level(&self) -> bool {
        self.rang && self.irq_enabled
    }

    fn wall(&self, now: BoardTime) -> u64 {
        self.offset.wrapping_add(now.0)
    }

    /// Makes the wall clock show `wall` at `now`.
    fn set_wall(&mut self, wall: u64, now: BoardTime) {
        self.offset = wall.wrapping_sub(now.0);
    }

    fn read_word(&mut self, offset: u64, now: BoardTime) -> u32 {
        self.tick(now);
        match Register::at(offset) {
            Some(Register::TimeLow) => {
                let wall = self.wall(now);
                self.latched_high = (wall >> 32) as u32;
                wall as u32
            }
            Some(Register::TimeHigh) => self.latched_high,
            Some(Register::AlarmLow) => self.alarm as u32,
            Some(Register::AlarmHigh) => (self.alarm >> 32) as u32,
            Some(Register::IrqEnabled) => u32::from(self.irq_enabled),
            Some(Register::AlarmStatus) => u32::from(self.rings_at.is_some()),
            Some(Register::ClearAlarm | Register::ClearInterrupt) | None => 0,
        }
    }

    fn write_word(&mut self, offset: u64, value: u32, now: BoardTime) {
        self.tick(now);
        match Register::at(offset) {
            Some(Register::TimeLow) => self.set_wall(with_low(self.wall(now), value), now),
            Some(Register::TimeHigh) => self.set_wall(with_high(self.wall(now), value), now),
            Some(Register::AlarmLow) => {
                self.alarm = with_low(self.alarm, value);
                self.rings_at = Some(now.after(self.alarm.saturating_sub(self.wall(now))));
                self.tick(now);
            }
            Some(Register::AlarmHigh) => self.alarm = with_high(self.alarm, value),
            Some(Register::IrqEnabled) => self.irq_enabled = value & 1 != 0,
            Some(Register::ClearAlarm) => self.rings_at = None,
            Some(Register::ClearInterrupt) => self.rang = false,
            Some(Register::AlarmStatus) | None => {}
        }
    }
}

const fn with_low(whole: u64, low: u32) -> u64 {
    whole & !0xffff_ffff | low as u64
}

const fn with_high(whole: u64, high: u32) -> u64 {
    whole & 0xffff_ffff | (high as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: u64 = 0x18ea_5969_f0f3_12c0;

    fn read(rtc: &mut GoldfishRtc, offset: u64, now: u64) -> u64 {
        rtc.read(offset, Width::Word, BoardTime(now)).unwrap()
    }

    fn write(rtc: &mut GoldfishRtc, offset: u64, value: u64, now: u64) {
        rtc.write(offset, Width::Word, value, BoardTime(now)).unwrap();
    }

    /// Arms the alarm at wall-clock time `at` as drivers do: high half, low half, enable.
    fn arm(rtc: &mut GoldfishRtc, at: u64, now: u64) {
        write(rtc, 0x0c, at >> 32, now);
        write(rtc, 0x08, at, now);
        write(rtc, 0x10, 1, now);
    }

    #[test]
    fn reading_the_low_half_latches_the_high_half() {
        let mut rtc = GoldfishRtc::new(0xffff_ffff);
        assert_eq!(read(&mut rtc, 0x00, 0), 0xffff_ffff);
        assert_eq!(read(&mut rtc, 0x04, 1), 0);
        assert_eq!(read(&mut rtc, 0x00, 1), 0);
        assert_eq!(read(&mut rtc, 0x04, 1), 1);
    }

    #[test]
    fn a_double_word_reads_the_whole_time() {
        let mut rtc = GoldfishRtc::new(WALL);
        assert_eq!(rtc.read(0, Width::Double, BoardTime(1000)), Ok(WALL + 1000));
    }

    #[test]
    fn bytes_and_half_words_are_refused() {
        let mut rtc = GoldfishRtc::new(WALL);
        for width in [Width::Byte, Width::Half] {
            assert_eq!(rtc.read(0, width, BoardTime(0)), Err(Refused));
            assert_eq!(rtc.write(0, width, 0, BoardTime(0)), Err(Refused));
        }
    }

    #[test]
    fn writing_the_time_sets_it_and_it_runs_on() {
        let mut rtc = GoldfishRtc::new(WALL);
        write(&mut rtc, 0x04, 2, 50);
        write(&mut rtc, 0x00, 7, 50);
        assert_eq!(rtc.read(0, Width::Double, BoardTime(60)), Ok((2 << 32) + 17));
    }

    #[test]
    fn the_alarm_rings_when_due_and_not_before() {
        let mut rtc = GoldfishRtc::new(WALL);
        arm(&mut rtc, WALL + 500, 100);
        assert_eq!(rtc.next_alarm(), Some(BoardTime(500)));
        rtc.tick(BoardTime(499));
        assert!(!rtc.irq_level());
        assert_eq!(read(&mut rtc, 0x18, 499), 1);
        rtc.tick(BoardTime(500));
        assert!(rtc.irq_level());
        assert_eq!(read(&mut rtc, 0x18, 500), 0);
        assert_eq!(rtc.next_alarm(), None);
    }

    #[test]
    fn an_alarm_in_the_past_rings_at_once() {
        let mut rtc = GoldfishRtc::new(WALL);
        arm(&mut rtc, 5, 100);
        assert!(rtc.irq_level());
    }

    #[test]
    fn the_alarm_reads_back() {
        let mut rtc = GoldfishRtc::new(WALL);
        arm(&mut rtc, WALL + 500, 0);
        assert_eq!((read(&mut rtc, 0x0c, 0) << 32) | read(&mut rtc, 0x08, 0), WALL + 500);
        assert_eq!(read(&mut rtc, 0x10, 0), 1);
    }

    #[test]
    fn a_cleared_alarm_does_not_ring() {
        let mut rtc = GoldfishRtc::new(WALL);
        arm(&mut rtc, WALL + 500, 0);
        write(&mut rtc, 0x14, 1, 10);
        rtc.tick(BoardTime(1000));
        assert!(!rtc.irq_level());
    }

    #[test]
    fn clearing_the_interrupt_lowers_the_line() {
        let mut rtc = GoldfishRtc::new(WALL);
        arm(&mut rtc, 0, 0);
        write(&mut rtc, 0x1c, 1, 0);
        assert!(!rtc.irq_level());
    }

    #[test]
    fn a_disabled_interrupt_waits_until_it_is_enabled() {
        let mut rtc = GoldfishRtc::new(WALL);
        arm(&mut rtc, 0, 0);
        write(&mut rtc, 0x10, 0, 0);
        assert!(!rtc.irq_level());
        write(&mut rtc, 0x10, 0xffff_fffe, 0);
        assert!(!rtc.irq_level());
        write(&mut rtc, 0x10, 1, 0);
        assert!(rtc.irq_level());
    }

    #[test]
    fn setting_the_time_does_not_move_an_armed_alarm() {
        let mut rtc = GoldfishRtc::new(0);
        arm(&mut rtc, 500, 0);
        write(&mut rtc, 0x00, 10_000, 0);
        assert_eq!(rtc.next_alarm(), Some(BoardTime(500)));
    }

    #[test]
    fn reset_keeps_the_time_and_forgets_the_alarm() {
        let mut rtc = GoldfishRtc::new(WALL);
        arm(&mut rtc, 0, 0);
        rtc.reset();
        assert!(!rtc.irq_level());
        assert_eq!(rtc.read(0, Width::Double, BoardTime(1)), Ok(WALL + 1));
        assert_eq!(read(&mut rtc, 0x08, 1), 0);
    }
}
