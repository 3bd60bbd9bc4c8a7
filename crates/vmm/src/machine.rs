//! What the harts of a virtual machine share: RAM, the board with its devices, and each other. Each part may be used by several
//! harts at one time: it is made of atomics, or has a lock (`board`, `code`).

mod board;
mod clock;

use alloc::boxed::Box;

use devices::virtio::Slot;
use devices::{Board, BoardEvent, Refused, SlotId, SlotSet};
use isa::Width;
use memory::{GuestPhysAddr, GuestRam};

use rewrite::CodePages;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sync::{Guard, Lock, Rank};

use crate::complaints::Complaints;
use crate::host::Host;
use crate::lines::Lines;
use crate::link::Link;
use crate::outcome::StopReason;
pub use board::{ConsoleTurn, Wired};
pub use clock::Clock;

/// The shared part of a virtual machine.
#[derive(Debug)]
pub struct Machine {
    /// Its RAM.
    pub ram: GuestRam,
    /// The pages whose kernel code is rewritten.
    pub code: Lock<CodePages>,
    /// Its devices: see `Machine::with_board`.
    wired: Lock<Wired>,
    /// One letter box a hart.
    pub links: Box<[Link]>,
    /// How often it made the firmware print.
    pub complaints: Complaints,
    clock: Clock,
    /// The board's interrupt lines, pushed when its lock is given back.
    lines: Lines,
    /// When the board wants to be told the time again, in ticks: set when its lock is given back.
    deadline: AtomicU64,
    /// Which virtio slots have a console, and which a source of random numbers: known without the board's lock.
    consoles: SlotSet,
    entropies: SlotSet,
    /// Virtio slots that want to be served, a bit each.
    notified: AtomicU32,
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

impl Machine {
    /// A machine of `harts` harts.
    pub fn new(ram: GuestRam, mut code: CodePages, board: Board, harts: usize, clock: Clock) -> Self {
        code.set_vcpus(harts);
        let slots = |is_meant: fn(&Slot) -> bool| {
            SlotId::all().filter(|slot| board.slot(*slot).is_some_and(is_meant)).collect()
        };
        Self {
            consoles: slots(|slot| matches!(slot, Slot::Console(_))),
            entropies: slots(|slot| matches!(slot, Slot::Entropy(_))),
            ram,
            code: Lock::new(Rank::Code, code),
            wired: Lock::new(Rank::Board, Wired::new(board)),
            links: (0..harts).map(|_| Link::new()).collect(),
            complaints: Complaints::new(clock.frequency),
            clock,
            lines: Lines::default(),
            deadline: AtomicU64::new(u64::MAX),
            notified: AtomicU32::new(0),
        }
    }

    /// Power-on state, but for the vCPUs. No request of a virtio device may be in flight (`Board::in_flight`): a device
    /// of the host would write to what is another kernel's memory then. No vCPU may run.
    pub fn reset(&self) {
        self.code.lock().reset(&self.ram);
        self.ram.forget();
        self.with_board(Wired::power_up);
        self.links.iter().for_each(Link::reset);
        self.notified.store(0, Ordering::Relaxed);
    }

    /// Waits until no other hart has the board, and lets the caller do something with it. What the others see without the lock,
    /// the interrupt lines and the deadline, is up to date afterwards.
    #[track_caller]
    pub fn with_board<T>(&self, act: impl FnOnce(&mut Wired) -> T) -> T {
        let mut wired = self.wired.lock();
        let result = act(&mut wired);
        self.give_back(wired);
        result
    }

    /// Pushes the lines and the deadline before the lock goes, as `with_board` does at the end. An access to a device does without the closure, which would not be inlined.
    #[inline(always)]
    fn give_back(&self, mut wired: Guard<'_, Wired>) {
        self.lines.push(wired.external_interrupts(), &self.links);
        if wired.next_deadline() != wired.due {
            self.change_deadline(&mut wired);
        }
    }

    #[inline(never)]
    fn change_deadline(&self, wired: &mut Wired) {
        wired.due = wired.next_deadline();
        let deadline = wired.due.map_or(u64::MAX, |time| self.clock.ticks(time));
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// Whether a hart's external interrupt line is high, as the board has pushed it.
    pub(crate) fn external_interrupt(&self, hart: usize) -> bool {
        self.lines.level(hart)
    }

    /// Reads a device register.
    ///
    /// # Errors
    /// Where no device answers.
    #[inline(always)]
    pub fn read_device(
        &self,
        address: GuestPhysAddr,
        width: Width,
        host: &mut impl Host,
    ) -> Result<u64, Refused> {
        let now = self.clock.board_time(host.now());
        let mut board = self.wired.lock();
        let loaded = board.read(address, width, now);
        if devices::board::is_uart_data(address) && loaded.is_ok() {
            // A byte taken out makes room for the next one typed, which raises no interrupt on the host any more.
            board.feed_console(self.clock, host);
        }
        // Most loads move nothing. One that was refused may have come after something that was due.
        if loaded.is_err() || loaded.is_ok_and(|loaded| loaded.moves) {
            self.give_back(board);
        }
        loaded.map(|loaded| loaded.value)
    }

    /// Writes a device register and passes on what the console device has to say.
    ///
    /// # Errors
    /// Where no device answers.
    #[inline(always)]
    pub fn write_device(
        &self,
        address: GuestPhysAddr,
        width: Width,
        value: u64,
        host: &mut impl Host,
    ) -> Result<Written, Refused> {
        let now = self.clock.board_time(host.now());
        let mut board = self.wired.lock();
        let mut event = board.write(address, width, value, now);
        if event == Ok(Some(BoardEvent::ConsoleFull)) && board.drain_console(host) {
            event = board.write(address, width, value, now);
        }
        if devices::board::is_uart(address) && event.is_ok() {
            board.drain_console(host);
            if !devices::board::is_uart_data(address) {
                // The FIFOs may have been turned on or emptied.
                board.feed_console(self.clock, host);
            }
        }
        self.give_back(board);
        Ok(match event? {
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

    /// Which virtio slots want to be served. What is not served then is to be notified again.
    #[inline]
    pub fn take_notified(&self) -> SlotSet {
        SlotSet::of_bits(if self.is_notified() { self.notified.swap(0, Ordering::AcqRel) } else { 0 })
    }

    /// Whether some virtio slot wants to be served.
    #[inline]
    pub fn is_notified(&self) -> bool {
        self.notified.load(Ordering::Relaxed) != 0
    }

    /// Lets a virtio slot be served once more: it has more to do than one turn may take.
    pub fn notify(&self, slot: SlotId) {
        self.notified.fetch_or(SlotSet::of(slot).bits(), Ordering::Release);
    }

    /// Lets the caller do something with the virtio device in `slot` and the memory that it works on; its interrupt line
    /// is up to date afterwards. Always `Some`, as on the board.
    pub fn serve<T>(&self, slot: SlotId, act: impl FnOnce(&mut Slot, &GuestRam) -> T) -> Option<T> {
        self.with_board(|board| board.serve(slot, |device| act(device, &self.ram)))
    }

    /// Moves what the serial port has sent to the operator's console; says whether all of it went.
    pub fn drain_console(&self, host: &mut impl Host) -> bool {
        self.with_board(|board| board.drain_console(host))
    }

    /// Moves what the virtio console in `slot` has to the operator's console, for a turn, and to it what was typed, if the
    /// guest has written to it last. `None` where there is no console.
    #[inline]
    pub fn serve_console(&self, slot: SlotId, host: &mut impl Host) -> Option<ConsoleTurn> {
        if !self.consoles.contains(slot) {
            return None;
        }
        self.with_board(|board| board.serve_console(slot, &self.ram, host))
    }

    /// The slots of virtio consoles.
    pub const fn consoles(&self) -> SlotSet {
        self.consoles
    }

    /// The slots of virtio devices that give out random numbers.
    pub const fn entropies(&self) -> SlotSet {
        self.entropies
    }

    /// Moves what the operator typed to the serial port, as far as it has room.
    pub fn feed_console(&self, host: &mut impl Host) {
        self.with_board(|board| board.feed_console(self.clock, host));
    }

    /// Writes to the operator's console behind what the serial port has sent; says how many bytes went.
    pub fn console_write(&self, bytes: &[u8], host: &mut impl Host) -> usize {
        self.with_board(|board| board.console_write(bytes, host))
    }

    /// A byte that the serial port has received, taken out of it.
    pub fn console_read(&self, host: &mut impl Host) -> Option<u8> {
        self.with_board(|board| board.console_read(self.clock, host))
    }

    /// Lets devices notice the time.
    pub fn tick(&self, now: u64) {
        if self.deadline() <= now {
            self.with_board(|board| board.tick(self.clock.board_time(now)));
        }
    }

    /// How long so many ticks are, in nanoseconds.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        self.clock.board_time(ticks).0
    }

    /// When devices want to be told the time again, in ticks; `u64::MAX` is never.
    pub fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Relaxed)
    }
}
