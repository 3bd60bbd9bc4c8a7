//! The host's UART: a 16550 or SiFive's. Knows registers, keeps no bytes.

use devicetree::ConsoleKind;
use hart::Mmio;

/// A UART.
#[derive(Debug)]
pub struct Uart {
    registers: Mmio,
    kind: ConsoleKind,
}

/// Registers of a 16550.
mod ns16550 {
    pub const DATA: u64 = 0;
    pub const IER: u64 = 1;
    pub const FCR: u64 = 2;
    pub const LCR: u64 = 3;
    pub const MCR: u64 = 4;
    pub const LSR: u64 = 5;
    pub const IER_RECEIVE: u8 = 1;
    pub const IER_TRANSMIT: u8 = 2;
    pub const FCR_ENABLE: u8 = 1;
    pub const LCR_8N1: u8 = 3;
    pub const MCR_DTR_RTS_OUT2: u8 = 0x0b;
    pub const LSR_DATA_READY: u8 = 1;
    pub const LSR_TRANSMIT_EMPTY: u8 = 0x20;
    /// The FIFO and the shift register.
    pub const LSR_ALL_EMPTY: u8 = 0x40;
}

/// Registers of SiFive's UART.
mod sifive {
    pub const TXDATA: u64 = 0x00;
    pub const RXDATA: u64 = 0x04;
    pub const TXCTRL: u64 = 0x08;
    pub const RXCTRL: u64 = 0x0c;
    pub const IE: u64 = 0x10;
    pub const IP: u64 = 0x14;
    /// Full, or empty.
    pub const NO: u32 = 1 << 31;
    pub const ENABLE: u32 = 1;
    /// Interrupt while fewer than this many bytes wait to be sent.
    pub const TX_WATERMARK: u32 = 1 << 16;
    pub const IE_TRANSMIT: u32 = 1;
    pub const IE_RECEIVE: u32 = 2;
    /// Below the watermark.
    pub const IP_TRANSMIT: u32 = 1;
}

impl Uart {
    /// Takes over a UART whose line parameters the firmware has set, with its interrupts off.
    pub fn new(registers: Mmio, kind: ConsoleKind) -> Self {
        let uart = Self { registers, kind };
        match kind {
            ConsoleKind::Ns16550 { .. } => {
                uart.write(ns16550::IER, 0);
                uart.write(ns16550::LCR, ns16550::LCR_8N1);
                uart.write(ns16550::FCR, ns16550::FCR_ENABLE);
                uart.write(ns16550::MCR, ns16550::MCR_DTR_RTS_OUT2);
            }
            ConsoleKind::SiFiveUart => {
                uart.registers.write32(sifive::IE, 0);
                uart.registers.write32(sifive::TXCTRL, sifive::ENABLE | sifive::TX_WATERMARK);
                uart.registers.write32(sifive::RXCTRL, sifive::ENABLE);
            }
        }
        uart
    }

    /// Which events interrupt: a byte received, room to send.
    pub fn enable_interrupts(&self, receive: bool, transmit: bool) {
        match self.kind {
            ConsoleKind::Ns16550 { .. } => {
                let receive = if receive { ns16550::IER_RECEIVE } else { 0 };
                let transmit = if transmit { ns16550::IER_TRANSMIT } else { 0 };
                self.write(ns16550::IER, receive | transmit);
            }
            ConsoleKind::SiFiveUart => {
                let receive = if receive { sifive::IE_RECEIVE } else { 0 };
                let transmit = if transmit { sifive::IE_TRANSMIT } else { 0 };
                self.registers.write32(sifive::IE, receive | transmit);
            }
        }
    }

    /// A byte that has arrived.
    pub fn receive(&self) -> Option<u8> {
        match self.kind {
            ConsoleKind::Ns16550 { .. } => {
                let ready = self.read(ns16550::LSR) & ns16550::LSR_DATA_READY != 0;
                ready.then(|| self.read(ns16550::DATA))
            }
            ConsoleKind::SiFiveUart => {
                let data = self.registers.read32(sifive::RXDATA);
                (data & sifive::NO == 0).then_some(data as u8)
            }
        }
    }

    /// Sends a byte if there is room; says whether it went.
    // Once a character: a call would cost as much.
    #[inline(always)]
    pub fn send(&self, byte: u8) -> bool {
        let room = match self.kind {
            ConsoleKind::Ns16550 { .. } => self.read(ns16550::LSR) & ns16550::LSR_TRANSMIT_EMPTY != 0,
            ConsoleKind::SiFiveUart => self.registers.read32(sifive::TXDATA) & sifive::NO == 0,
        };
        if room {
            match self.kind {
                ConsoleKind::Ns16550 { .. } => self.write(ns16550::DATA, byte),
                ConsoleKind::SiFiveUart => self.registers.write32(sifive::TXDATA, u32::from(byte)),
            }
        }
        room
    }

    /// Whether bytes wait in the UART to be sent.
    pub fn is_sending(&self) -> bool {
        match self.kind {
            ConsoleKind::Ns16550 { .. } => self.read(ns16550::LSR) & ns16550::LSR_ALL_EMPTY == 0,
            ConsoleKind::SiFiveUart => self.registers.read32(sifive::IP) & sifive::IP_TRANSMIT == 0,
        }
    }

    fn read(&self, register: u64) -> u8 {
        match self.kind {
            ConsoleKind::Ns16550 { reg_shift, reg_io_width: 4 } => {
                self.registers.read32(register.wrapping_shl(reg_shift.into())) as u8
            }
            ConsoleKind::Ns16550 { reg_shift, .. } => {
                self.registers.read8(register.wrapping_shl(reg_shift.into()))
            }
            ConsoleKind::SiFiveUart => self.registers.read8(register),
        }
    }

    fn write(&self, register: u64, value: u8) {
        match self.kind {
            ConsoleKind::Ns16550 { reg_shift, reg_io_width: 4 } => {
                self.registers.write32(register.wrapping_shl(reg_shift.into()), u32::from(value));
            }
            ConsoleKind::Ns16550 { reg_shift, .. } => {
                self.registers.write8(register.wrapping_shl(reg_shift.into()), value)
            }
            ConsoleKind::SiFiveUart => self.registers.write8(register, value),
        }
    }
}
