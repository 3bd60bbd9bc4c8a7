//! What the harts of a virtual machine share: RAM, the board with its devices, and each other.

use alloc::vec::Vec;

use devices::virtio::Slot;
use devices::{Board, BoardEvent, BoardTime, Refused, board};
use isa::Width;
use memory::{GuestPhysAddr, GuestRam};

use rewrite::CodePages;

use crate::complaints::Complaints;
use crate::host::Host;
use crate::link::Link;
use crate::outcome::StopReason;

/// The shared part of a virtual machine.
#[derive(Debug)]
pub struct Machine {
    /// Its RAM.
    pub ram: GuestRam,
    /// The pages whose kernel code is rewritten.
    pub code: CodePages,
    /// Its devices.
    pub board: Board,
    /// One letter box a hart.
    pub links: Vec<Link>,
    /// How often it made the firmware print.
    pub complaints: Complaints,
    clock: Clock,
    /// Kept, for the conversion to ticks is a division.
    deadline: u64,
    /// Virtio slots that want to be served, a bit each.
    notified: u32,
    /// Which virtio console gets what is typed; `None` is the serial port. The one that the guest has written to last.
    typed_to: Option<usize>,
}

/// What a virtio console has left after its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsoleTurn {
    /// Nothing that could be done now.
    Done,
    /// More than a turn may move.
    More,
    /// More than the operator's console has room for.
    Full,
}

/// What became of a write to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It is done.
    Done,
    /// It did not happen, for the operator's console is full or a device has requests in flight: to be tried again.
    Later,
    /// It ends the virtual machine.
    Ends(StopReason),
}

/// Turns ticks of the timebase into nanoseconds and back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    frequency: u64,
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

impl Machine {
    /// A machine of `harts` harts.
    pub fn new(ram: GuestRam, mut code: CodePages, board: Board, harts: usize, clock: Clock) -> Self {
        code.set_vcpus(harts);
        let links = (0..harts).map(|_| Link::new()).collect();
        let complaints = Complaints::new(clock.frequency);
        Self { ram, code, board, links, complaints, clock, deadline: u64::MAX, notified: 0, typed_to: None }
    }

    /// Power-on state, but for the vCPUs. No request of a virtio device may be in flight (`Board::in_flight`): a device
    /// of the host would write to what is another kernel's memory then.
    pub fn reset(&mut self) {
        self.code.reset(&self.ram);
        self.ram.forget();
        self.board.reset();
        self.links.iter_mut().for_each(|link| *link = Link::new());
        self.deadline = u64::MAX;
        self.notified = 0;
        self.typed_to = None;
    }

    /// Reads a device register.
    ///
    /// # Errors
    /// Where no device answers.
    #[inline(always)]
    pub fn read_device(
        &mut self,
        address: GuestPhysAddr,
        width: Width,
        host: &mut impl Host,
    ) -> Result<u64, Refused> {
        let value = self.board.read(address, width, self.clock.board_time(host.now()))?;
        self.update_deadline();
        if board::is_uart_data(address) {
            // A byte taken out makes room for the next one typed, which raises no interrupt on the host any more.
            self.feed_console(host);
        }
        Ok(value)
    }

    /// Writes a device register and passes on what the console device has to say.
    ///
    /// # Errors
    /// Where no device answers.
    #[inline(always)]
    pub fn write_device(
        &mut self,
        address: GuestPhysAddr,
        width: Width,
        value: u64,
        host: &mut impl Host,
    ) -> Result<Written, Refused> {
        let now = self.clock.board_time(host.now());
        let mut event = self.board.write(address, width, value, now)?;
        if event == Some(BoardEvent::ConsoleFull) && self.drain_console(host) {
            event = self.board.write(address, width, value, now)?;
        }
        self.update_deadline();
        if board::is_uart(address) {
            self.drain_console(host);
            if !board::is_uart_data(address) {
                // The FIFOs may have been turned on or emptied.
                self.feed_console(host);
            }
        }
        Ok(match event {
            None => Written::Done,
            Some(BoardEvent::Notified(slot)) => {
                self.notify(slot);
                Written::Done
            }
            Some(BoardEvent::ConsoleFull | BoardEvent::Draining(_)) => Written::Later,
            Some(BoardEvent::PowerOff) => Written::Ends(StopReason::PowerOff),
            Some(BoardEvent::Fail(code)) => Written::Ends(StopReason::Failed(code)),
            Some(BoardEvent::Reset) => Written::Ends(StopReason::Reset),
        })
    }

    /// Which virtio slots want to be served, bit `n` for slot `n`. What is not served then is to be notified again.
    #[inline]
    pub fn take_notified(&mut self) -> u32 {
        core::mem::take(&mut self.notified)
    }

    /// Whether some virtio slot wants to be served.
    #[inline]
    pub fn is_notified(&self) -> bool {
        self.notified != 0
    }

    /// Lets a virtio slot be served once more: it has more to do than one turn may take.
    pub fn notify(&mut self, slot: usize) {
        self.notified |= 1u32.checked_shl(slot as u32).unwrap_or(0);
    }

    /// Lets the caller do something with the virtio device in `slot` and the memory that it works on; its interrupt line
    /// is up to date afterwards. `None` where there is no such slot.
    pub fn serve<T>(&mut self, slot: usize, act: impl FnOnce(&mut Slot, &GuestRam) -> T) -> Option<T> {
        let Self { board, ram, .. } = self;
        board.serve(slot, |device| act(device, ram))
    }

    /// Moves what the serial port has sent to the operator's console; says whether all of it went.
    pub fn drain_console(&mut self, host: &mut impl Host) -> bool {
        loop {
            let pending = self.board.uart_transmit_pending();
            if pending.is_empty() {
                return true;
            }
            let taken = host.console_write(pending);
            if taken == 0 {
                return false;
            }
            let all = taken == pending.len();
            self.board.uart_transmitted(taken);
            self.typed_to = None;
            if all {
                return true;
            }
        }
    }

    /// Moves what the virtio console in `slot` has to the operator's console, for a turn, and to it what was typed, if the
    /// guest has written to it last. `None` where there is no console.
    pub fn serve_console(&mut self, slot: usize, host: &mut impl Host) -> Option<ConsoleTurn> {
        let Self { board, ram, typed_to, .. } = self;
        let turn = board.serve(slot, |device| {
            let Slot::Console(console) = device else { return None };
            let mut full = false;
            console.output(ram, |bytes| {
                let taken = host.console_write(bytes);
                full = taken < bytes.len();
                *typed_to = Some(slot);
                taken
            });
            while *typed_to == Some(slot) && console.has_room(ram) {
                let Some(byte) = host.console_read() else { break };
                console.input(ram, &[byte]);
            }
            Some(match (full, console.has_output(ram)) {
                (true, _) => ConsoleTurn::Full,
                (false, true) => ConsoleTurn::More,
                (false, false) => ConsoleTurn::Done,
            })
        });
        turn.flatten()
    }

    /// The slots of virtio consoles.
    pub fn consoles(&self) -> impl Iterator<Item = usize> + use<> {
        let is_console = |slot: &usize| matches!(self.board.slots().get(*slot), Some(Slot::Console(_)));
        let slots = (0..self.board.slots().len().min(u32::BITS as usize)).filter(is_console);
        // A bit each: who iterates may change the machine.
        let found = slots.fold(0_u32, |found, slot| found | 1 << slot);
        (0..u32::BITS as usize).filter(move |slot| found >> slot & 1 != 0)
    }

    /// Moves what the operator typed to the serial port, as far as it has room.
    pub fn feed_console(&mut self, host: &mut impl Host) {
        if self.typed_to.is_some() {
            return;
        }
        while self.board.uart_receive_room() > 0 {
            let Some(byte) = host.console_read() else { return };
            let now = self.clock.board_time(host.now());
            // There is room: it was asked for.
            let _ = self.board.uart_receive(byte, now);
            self.update_deadline();
        }
    }

    /// Writes to the operator's console behind what the serial port has sent; says how many bytes went.
    pub fn console_write(&mut self, bytes: &[u8], host: &mut impl Host) -> usize {
        self.typed_to = None;
        if self.drain_console(host) { host.console_write(bytes) } else { 0 }
    }

    /// A byte that the serial port has received, taken out of it.
    pub fn console_read(&mut self, host: &mut impl Host) -> Option<u8> {
        self.feed_console(host);
        self.board.uart_take_for_firmware(self.clock.board_time(host.now()))
    }

    /// Lets devices notice the time.
    pub fn tick(&mut self, now: u64) {
        self.board.tick(self.clock.board_time(now));
        self.update_deadline();
    }

    /// How long so many ticks are, in nanoseconds.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        self.clock.board_time(ticks).0
    }

    /// When devices want to be told the time again, in ticks; `u64::MAX` is never.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    fn update_deadline(&mut self) {
        self.deadline = self.board.next_deadline().map_or(u64::MAX, |time| self.clock.ticks(time));
    }
}
