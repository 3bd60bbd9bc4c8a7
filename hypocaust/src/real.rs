//! The real machine behind the seams of `world::port`: each call leads straight to `hart` or to a driver.

use block::{Operation, OperationKind};
use devices::virtio::block::Status;
use hart::Hart;
use hart::virtio::block::{self as disk, BlockDevice, Ended, Request};
use hart::virtio::net::NetDevice;
use isa::{FReg, TrapInfo};
use trace::HartCounts;
use vhart::{RootSatp, VcpuFrame};
use world::port::{DiskDriver, HartPort, HartView, InterruptController, NicDriver, Refused, TerminalLine};

use crate::drivers::plic::Plic;
use crate::drivers::uart::Uart;

/// The real machine.
#[derive(Clone, Copy, Debug)]
pub struct Real;

impl world::Platform for Real {
    type Port = Port;
    type View = View;
    type Interrupts = Plic;
    type Line = Line;
    type Disk = Disk;
    type Nic = Nic;
}

/// The hart.
#[derive(Debug)]
pub struct Port(pub Hart);

impl HartPort for Port {
    #[inline(always)]
    fn enter(&mut self, frame: &mut VcpuFrame, shares_asids: bool) {
        self.0.enter(frame, shares_asids);
    }

    #[inline(always)]
    fn leave(&mut self, frame: &mut VcpuFrame) {
        self.0.leave(frame);
    }

    #[inline(always)]
    fn run(&mut self, frame: &mut VcpuFrame, root: RootSatp) -> TrapInfo {
        self.0.run(frame, root)
    }

    #[inline(always)]
    fn flush_all(&mut self) {
        self.0.flush_all();
    }

    #[inline(always)]
    fn flush_address(&mut self, address: u64) {
        self.0.flush_address(address);
    }

    #[inline(always)]
    fn fence_i(&mut self) {
        self.0.fence_i();
    }

    #[inline(always)]
    fn set_timer(&mut self, deadline: u64) {
        self.0.set_timer(deadline);
    }

    #[inline(always)]
    fn silence_timer(&mut self) {
        self.0.silence_timer();
    }

    #[inline(always)]
    fn pending_interrupts(&self) -> u64 {
        self.0.pending_interrupts()
    }

    #[inline(always)]
    fn clear_software_interrupt(&mut self) {
        self.0.clear_software_interrupt();
    }

    #[inline(always)]
    fn wait_for_interrupt(&mut self) {
        self.0.wait_for_interrupt();
    }

    #[inline(always)]
    fn counts(&self) -> HartCounts {
        self.0.counts()
    }
}

/// What can be read of the hart without holding it.
#[derive(Clone, Copy, Debug)]
pub struct View;

impl HartView for View {
    #[inline(always)]
    fn now(&self) -> u64 {
        hart::time::now()
    }

    #[inline(always)]
    fn cycle(&self) -> u64 {
        hart::time::cycle()
    }

    #[inline(always)]
    fn instret(&self) -> u64 {
        hart::time::instret()
    }

    fn fp_read(&self, register: FReg) -> u64 {
        hart::float::read(register)
    }

    fn fp_write(&self, register: FReg, value: u64) {
        hart::float::write(register, value);
    }
}

impl InterruptController for Plic {
    fn claim(&self) -> Option<u32> {
        Self::claim(self)
    }

    fn complete(&self, source: u32) {
        Self::complete(self, source);
    }
}

/// The line to the terminal.
#[derive(Debug)]
pub enum Line {
    /// Through a UART that we drive.
    Uart(Uart),
    /// Through the firmware.
    Firmware,
}

impl TerminalLine for Line {
    #[inline(always)]
    fn interrupts(&self) -> bool {
        matches!(self, Self::Uart(_))
    }

    fn enable_interrupts(&self, receive: bool, transmit: bool) {
        if let Self::Uart(uart) = self {
            uart.enable_interrupts(receive, transmit);
        }
    }

    fn receive(&self) -> Option<u8> {
        match self {
            Self::Uart(uart) => uart.receive(),
            Self::Firmware => None,
        }
    }

    #[inline(always)]
    fn send(&self, byte: u8) -> bool {
        match self {
            Self::Uart(uart) => uart.send(byte),
            Self::Firmware => {
                hart::firmware::console_putchar(byte);
                true
            }
        }
    }

    fn is_sending(&self) -> bool {
        matches!(self, Self::Uart(uart) if uart.is_sending())
    }
}

/// A virtio disk.
#[derive(Debug)]
pub struct Disk(pub BlockDevice);

impl DiskDriver for Disk {
    fn has_room(&self) -> bool {
        self.0.has_room()
    }

    fn submit(&mut self, tag: u64, operation: &Operation) -> Result<(), Refused> {
        let sector = operation.sector;
        let request = match operation.kind {
            OperationKind::Read => Request::Read { sector, into: &operation.memory },
            OperationKind::Write => Request::Write { sector, from: &operation.memory },
            OperationKind::Flush => Request::Flush,
            OperationKind::Discard { sectors } => Request::Discard { sector, count: sectors },
            OperationKind::WriteZeroes { sectors, unmap } => {
                Request::WriteZeroes { sector, count: sectors, unmap }
            }
        };
        self.0.submit(tag, &request).map_err(|refused| match refused {
            disk::Refused::Full => Refused::Full,
            disk::Refused::Invalid | disk::Refused::Broken => Refused::Unsuitable,
        })
    }

    fn notify(&mut self) {
        self.0.notify();
    }

    fn acknowledge_interrupt(&mut self) {
        self.0.acknowledge_interrupt();
    }

    fn completed(&mut self) -> Option<(u64, Status)> {
        let (tag, ended) = self.0.completed()?;
        let status = match ended {
            Ended::Done => Status::Ok,
            Ended::Failed => Status::IoErr,
            Ended::Unsupported => Status::Unsupported,
        };
        Some((tag, status))
    }

    fn in_flight(&self) -> usize {
        self.0.in_flight()
    }
}

/// A virtio network interface.
#[derive(Debug)]
pub struct Nic(pub NetDevice);

impl NicDriver for Nic {
    fn send(&mut self, frame: &[u8]) -> bool {
        self.0.send(frame)
    }

    fn notify(&mut self) {
        self.0.notify();
    }

    fn receive<R>(&mut self, to: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.0.receive(to)
    }

    fn acknowledge_interrupt(&mut self) {
        self.0.acknowledge_interrupt();
    }
}
