//! One virtual machine's devices at QEMU `virt`'s addresses, and their interrupt lines.
//!
//! The VMM brings accesses and events of the outside world, each with the time; after each of them every line
//! stands at the PLIC. Powering off, resetting and moving console bytes are asked of the VMM, not done here.

mod map;

use alloc::vec::Vec;

use isa::Width;
use memory::GuestPhysAddr;

use crate::finisher::{Finisher, FinisherRequest};
use crate::plic::{self, Plic};
use crate::rtc::GoldfishRtc;
use crate::slots::SlotId;
pub use crate::slots::VIRTIO_SLOTS;
use crate::uart16550::{Uart16550, Written};
use crate::virtio::slot::Effect;
use crate::virtio::{Slot, Version};
use crate::{BoardTime, Refused};
pub use map::{Device, MAP, RTC_IRQ, Region, UART_IRQ, VIRTIO_IRQ, find, is_uart, is_uart_data};

/// What a write asks of the VMM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum BoardEvent {
    /// The guest is done, successfully.
    PowerOff,
    /// The guest is done and reports failure with this code.
    Fail(u16),
    /// The guest wants to start again.
    Reset,
    /// The write did not happen: the console lags behind. Give it [`Board::uart_transmit_pending`], report
    /// [`Board::uart_transmitted`], and carry out the same write again.
    ConsoleFull,
    /// The virtio device in this slot has something to do: see [`Board::serve`].
    Notified(SlotId),
    /// The write did not happen: the device in this slot has to finish the requests that it has taken. Carry out the
    /// same write again once some were completed.
    Draining(SlotId),
}

impl From<FinisherRequest> for BoardEvent {
    fn from(request: FinisherRequest) -> Self {
        match request {
            FinisherRequest::Pass => Self::PowerOff,
            FinisherRequest::Fail(code) => Self::Fail(code),
            FinisherRequest::Reset => Self::Reset,
        }
    }
}

/// What a load has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// What was read.
    pub value: u64,
    /// Whether it may have moved an interrupt line to a hart or the board's deadline. Most loads do not.
    pub moves: bool,
}

/// The devices of one virtual machine.
#[derive(Clone, Debug)]
pub struct Board {
    plic: Plic,
    uart: Uart16550,
    rtc: GoldfishRtc,
    finisher: Finisher,
    slots: Vec<Slot>,
}

impl Board {
    /// A board in power-on state for `harts` harts (at most [`plic::MAX_HARTS`]), whose clock shows `wall_ns`
    /// nanoseconds since 1970 at the board's time 0, with `slots` behind its virtio transports, the first one first; the
    /// others are empty.
    ///
    /// # Panics
    /// Where there are more than [`VIRTIO_SLOTS`] slots: who configures a machine sees to that.
    pub fn new(harts: usize, wall_ns: u64, mut slots: Vec<Slot>) -> Self {
        assert!(slots.len() <= VIRTIO_SLOTS, "a board has {VIRTIO_SLOTS} virtio slots");
        slots.resize_with(VIRTIO_SLOTS, Slot::default);
        Self {
            plic: Plic::new(harts),
            uart: Uart16550::new(),
            rtc: GoldfishRtc::new(wall_ns),
            finisher: Finisher,
            slots,
        }
    }

    /// The same with virtio transports of this version, the empty ones, too. Before the first access.
    #[must_use]
    pub fn with_virtio(mut self, version: Version) -> Self {
        self.slots.iter_mut().for_each(|slot| slot.set_version(version));
        self
    }

    /// To power-on state. The clock goes on, and console output that was sent is still to be taken. Requests in flight
    /// ([`Self::in_flight`]) should have been waited for: their completion will do nothing.
    pub fn reset(&mut self) {
        self.plic.reset();
        self.uart.reset();
        self.rtc.reset();
        self.slots.iter_mut().for_each(Slot::reset);
    }

    /// What firmware has done to the devices when a kernel is entered.
    pub fn initialize(&mut self) {
        self.uart.initialize();
        self.plic.initialize();
    }

    /// Whether some device answers at `address`.
    pub fn contains(&self, address: GuestPhysAddr) -> bool {
        find(address, Width::Byte).is_some()
    }

    /// A load, as the hart sees it: zero-extended.
    ///
    /// # Errors
    /// Where no device answers.
    #[inline(always)]
    pub fn read(&mut self, address: GuestPhysAddr, width: Width, now: BoardTime) -> Result<Loaded, Refused> {
        let (region, offset) = find(address, width).ok_or(Refused)?;
        let ticked = self.tick(now);
        let (value, moves) = match region.device {
            Device::Plic => {
                let value = self.plic.read(offset, width)?;
                if is_claim(offset) {
                    if value == u64::from(UART_IRQ) {
                        self.uart.interrupt_claimed();
                    }
                    self.route_interrupts();
                }
                (value, is_claim(offset))
            }
            Device::Uart => {
                let value = self.uart.read(offset, width, now)?;
                self.route_uart();
                (value, true)
            }
            Device::Rtc => {
                let value = self.rtc.read(offset, width, now)?;
                self.route_interrupts();
                (value, true)
            }
            Device::Finisher => (self.finisher.read(offset, width)?, false),
            Device::Virtio(slot) => {
                (self.slots.get(slot.index()).ok_or(Refused)?.read(offset, width)?, false)
            }
        };
        Ok(Loaded { value, moves: ticked || moves })
    }

    /// A store. Bits of `value` above `width` do not matter.
    pub fn write(
        &mut self,
        address: GuestPhysAddr,
        width: Width,
        value: u64,
        now: BoardTime,
    ) -> Result<Option<BoardEvent>, Refused> {
        let (region, offset) = find(address, width).ok_or(Refused)?;
        self.tick(now);
        let mut event = None;
        match region.device {
            Device::Plic => self.plic.write(offset, width, value)?,
            Device::Uart => {
                let written = self.uart.write(offset, width, value, now)?;
                self.route_uart();
                return Ok((written == Written::TransmitFull).then_some(BoardEvent::ConsoleFull));
            }
            Device::Rtc => self.rtc.write(offset, width, value, now)?,
            Device::Finisher => event = self.finisher.write(offset, width, value)?.map(BoardEvent::from),
            Device::Virtio(slot) => {
                let device = self.slots.get_mut(slot.index()).ok_or(Refused)?;
                event = match device.write(offset, width, value)? {
                    Effect::Nothing | Effect::Reset => None,
                    Effect::Notified => Some(BoardEvent::Notified(slot)),
                    Effect::Draining => Some(BoardEvent::Draining(slot)),
                };
                self.route_slot(slot);
                return Ok(event);
            }
        }
        self.route_interrupts();
        Ok(event)
    }

    /// The harts whose S-mode external interrupt is pending (SEIP), bit `n` for hart `n`. Whoever changes the board in any way
    /// has to look at them afterwards.
    #[inline]
    pub fn external_interrupts(&self) -> u32 {
        self.plic.supervisors_interrupted()
    }

    /// The same of one hart.
    pub fn external_interrupt(&self, hart: usize) -> bool {
        self.external_interrupts().checked_shr(hart as u32).unwrap_or(0) & 1 != 0
    }

    /// Lets the devices notice that it has become `now`. To be called at [`Self::next_deadline`]; accesses
    /// do it themselves. Says whether something was due.
    #[inline(always)]
    pub fn tick(&mut self, now: BoardTime) -> bool {
        let is_due = self.next_deadline().is_some_and(|due| due <= now);
        if is_due {
            self.act(now);
        }
        is_due
    }

    #[cold]
    #[inline(never)]
    fn act(&mut self, now: BoardTime) {
        self.uart.tick(now);
        self.rtc.tick(now);
        self.route_interrupts();
    }

    /// When a device next does something of its own accord.
    #[inline(always)]
    pub fn next_deadline(&self) -> Option<BoardTime> {
        match (self.uart.next_timeout(), self.rtc.next_alarm()) {
            (Some(timeout), Some(alarm)) => Some(timeout.min(alarm)),
            (timeout, alarm) => timeout.or(alarm),
        }
    }

    /// How many bytes of console input the guest can be given now.
    pub fn uart_receive_room(&self) -> usize {
        self.uart.receive_room()
    }

    /// Console input: `false`, and the byte stays with the caller, where there is no room.
    #[must_use]
    pub fn uart_receive(&mut self, byte: u8, now: BoardTime) -> bool {
        let taken = self.uart.receive(byte, now);
        self.route_interrupts();
        taken
    }

    /// Console input that the guest asks its firmware for, instead of reading the UART.
    pub fn uart_take_for_firmware(&mut self, now: BoardTime) -> Option<u8> {
        let byte = self.uart.take_for_firmware(now);
        self.route_interrupts();
        byte
    }

    /// A break on the console line, which Linux takes for the magic SysRq key.
    pub fn uart_receive_break(&mut self, now: BoardTime) {
        self.uart.receive_break(now);
        self.route_interrupts();
    }

    /// Console output that waits to be taken, oldest first. The guest finds its transmitter busy meanwhile.
    pub fn uart_transmit_pending(&self) -> &[u8] {
        self.uart.transmit_pending()
    }

    /// The console has taken the oldest `count` bytes.
    pub fn uart_transmitted(&mut self, count: usize) {
        self.uart.transmitted(count);
        self.route_uart();
    }

    /// Lets the caller do something with the virtio device in `slot`, such as to take requests and complete them.
    /// Always `Some`: a board has all its slots.
    pub fn serve<T>(&mut self, slot: SlotId, act: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let done = act(self.slots.get_mut(slot.index())?);
        self.route_slot(slot);
        Some(done)
    }

    /// What is behind a virtio transport.
    pub fn slot(&self, slot: SlotId) -> Option<&Slot> {
        self.slots.get(slot.index())
    }

    /// What is behind each virtio transport.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How many requests virtio devices have taken and not finished. Until they are, guest memory may be written to.
    pub fn in_flight(&self) -> usize {
        self.slots.iter().map(Slot::in_flight).sum()
    }

    fn route_slot(&mut self, slot: SlotId) {
        if let Some(device) = self.slots.get(slot.index()) {
            self.plic.set_level(VIRTIO_IRQ + slot.index() as u32, device.irq_level());
        }
    }

    /// Puts the lines of all devices to the PLIC but those of virtio, which change nowhere but in `route_slot`.
    fn route_uart(&mut self) {
        self.plic.set_level(UART_IRQ, self.uart.irq_level());
    }

    fn route_interrupts(&mut self) {
        self.route_uart();
        self.plic.set_level(RTC_IRQ, self.rtc.irq_level());
    }
}

fn is_claim(offset: u64) -> bool {
    matches!(plic::Register::at(offset), Some(plic::Register::Claim(_)))
}

#[cfg(test)]
mod tests;
