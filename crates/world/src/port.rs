//! The seam between everything that runs and what it runs on: a hart, its clocks, and the host's devices. `hypocaust` has the
//! real ones; tests have simulated ones.

use block::Operation;
use devices::virtio::block::Status;
use isa::{FReg, TrapInfo};
use trace::HartCounts;
use vhart::{RootSatp, VcpuFrame};

/// What everything runs on. A type for each seam, so that all calls are direct.
pub trait Platform {
    /// A hart.
    type Port: HartPort;
    /// What can be read of the hart that asks.
    type View: HartView + Clone;
    /// The interrupt controller.
    type Interrupts: InterruptController;
    /// The line to the operator's terminal.
    type Line: TerminalLine;
    /// A disk of the host's.
    type Disk: DiskDriver;
    /// A network interface of the host's.
    type Nic: NicDriver;
}

/// A hart, for the one that has it. Its interrupts are never taken: they end a guest's run or a wait.
pub trait HartPort {
    /// Takes a vCPU on, which runs here until `leave`. `shares_asids` is whether the hart may have cached what others have
    /// under the ASIDs of this one.
    fn enter(&mut self, frame: &mut VcpuFrame, shares_asids: bool);

    /// Lets a vCPU go: what the hart holds of its state is saved.
    fn leave(&mut self, frame: &mut VcpuFrame);

    /// Runs the guest under the shadow root that `root`, a value for satp, names until it traps.
    fn run(&mut self, frame: &mut VcpuFrame, root: RootSatp) -> TrapInfo;

    /// Forgets all address translations.
    fn flush_all(&mut self);

    /// Forgets the translation of one address, in all address spaces.
    fn flush_address(&mut self, address: u64);

    /// Makes fetches see what was stored.
    fn fence_i(&mut self);

    /// Has the timer interrupt this hart at `deadline`, in ticks; `u64::MAX` is never.
    fn set_timer(&mut self, deadline: u64);

    /// Takes back the interrupt of a timer that has fired.
    fn silence_timer(&mut self);

    /// The interrupts that are pending, as bits of sip.
    fn pending_interrupts(&self) -> u64;

    /// Takes a software interrupt as served.
    fn clear_software_interrupt(&mut self);

    /// Waits until an interrupt is pending.
    fn wait_for_interrupt(&mut self);

    /// How often the hart did what.
    fn counts(&self) -> HartCounts;
}

/// What can be read of the hart that asks, by whoever asks.
pub trait HartView {
    /// The time CSR: ticks of the timebase, the same on all harts.
    fn now(&self) -> u64;

    /// The cycle counter, where it can be read.
    fn cycle(&self) -> u64;

    /// The counter of retired instructions, where it can be read.
    fn instret(&self) -> u64;

    /// A floating-point register of the vCPU that is on the hart.
    fn fp_read(&self, register: FReg) -> u64;

    /// Sets a floating-point register of the vCPU that is on the hart.
    fn fp_write(&self, register: FReg, value: u64);
}

/// The host's interrupt controller, as one hart sees it.
pub trait InterruptController {
    /// The source that interrupts, if any.
    fn claim(&self) -> Option<u32>;

    /// Ends the interrupt of `source`.
    fn complete(&self, source: u32);
}

/// The line to the operator's terminal: a UART, or the firmware's console.
pub trait TerminalLine {
    /// Whether it interrupts. One that does not takes each byte, and nothing is received on it.
    fn interrupts(&self) -> bool;

    /// Which events interrupt: a byte received, room to send.
    fn enable_interrupts(&self, receive: bool, transmit: bool);

    /// A byte that has arrived.
    fn receive(&self) -> Option<u8>;

    /// Sends a byte if there is room; says whether it went.
    fn send(&self, byte: u8) -> bool;

    /// Whether bytes are still on their way out.
    fn is_sending(&self) -> bool;
}

/// Why a disk has not taken an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no room; there is once something has ended.
    Full,
    /// It never takes this.
    Unsuitable,
}

/// Seconds that a disk of the host's has for an answer.
pub const PATIENCE: u64 = 30;

/// A driver of a disk of the host's. Takes operations without waiting, and gives them back by their tags.
pub trait DiskDriver {
    /// Whether an operation of any size would be taken.
    fn has_room(&self) -> bool;

    /// Takes an operation. The device may not know of it before `notify`.
    ///
    /// # Errors
    /// Where it was not taken.
    fn submit(&mut self, tag: u64, operation: &Operation) -> Result<(), Refused>;

    /// Tells the device of what was submitted.
    fn notify(&mut self);

    /// Answers the device's interrupt. `completed` is to be asked until it has nothing more.
    fn acknowledge_interrupt(&mut self);

    /// An operation that has ended, by its tag.
    fn completed(&mut self) -> Option<(u64, Status)>;

    /// Operations that were taken and have not ended.
    fn in_flight(&self) -> usize;
}

/// A driver of a network interface of the host's.
pub trait NicDriver {
    /// Sends a frame; says whether it could. The device may not know of it before `notify`.
    #[must_use]
    fn send(&mut self, frame: &[u8]) -> bool;

    /// Tells the device of what was sent.
    fn notify(&mut self);

    /// Gives the next frame that has arrived to `to`; `None` where there is none.
    fn receive<R>(&mut self, to: impl FnOnce(&[u8]) -> R) -> Option<R>;

    /// Answers the device's interrupt. `receive` is to be asked until it has nothing more.
    fn acknowledge_interrupt(&mut self);
}
