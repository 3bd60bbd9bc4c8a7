//! The 16550A's registers and their bits, as its data sheet numbers them.

/// A place in the register file. What answers there may depend on the access and on [`LCR_DLAB`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// Offset 0: receive buffer (read), transmit holding (write), divisor low (DLAB).
    Data,
    /// Offset 1: interrupt enable, divisor high (DLAB).
    InterruptEnable,
    /// Offset 2: interrupt identification (read), FIFO control (write).
    InterruptIdentification,
    /// Offset 3.
    LineControl,
    /// Offset 4.
    ModemControl,
    /// Offset 5; read-only.
    LineStatus,
    /// Offset 6; read-only.
    ModemStatus,
    /// Offset 7: a byte of the guest's own.
    Scratch,
}

impl Register {
    /// The register at `offset`.
    pub const fn at(offset: u64) -> Option<Self> {
        match offset {
            0 => Some(Self::Data),
            1 => Some(Self::InterruptEnable),
            2 => Some(Self::InterruptIdentification),
            3 => Some(Self::LineControl),
            4 => Some(Self::ModemControl),
            5 => Some(Self::LineStatus),
            6 => Some(Self::ModemStatus),
            7 => Some(Self::Scratch),
            _ => None,
        }
    }
}

/// IER: received data available, and the character time-out.
pub const IER_RECEIVED: u8 = 1 << 0;
/// IER: transmit holding register empty.
pub const IER_TRANSMIT_EMPTY: u8 = 1 << 1;
/// IER: overrun and break.
pub const IER_LINE_STATUS: u8 = 1 << 2;
/// IER bits that exist. Modem status, bit 3, can be enabled but never happens: no line ever changes.
pub const IER_MASK: u8 = 0x0f;

/// IIR with FIFOs on.
pub const IIR_FIFOS: u8 = 0xc0;

/// FCR: FIFOs on.
pub const FCR_ENABLE: u8 = 1 << 0;
/// FCR: empty the receive FIFO; reads back as 0.
pub const FCR_CLEAR_RECEIVE: u8 = 1 << 1;
/// FCR: empty the transmit FIFO; reads back as 0.
pub const FCR_CLEAR_TRANSMIT: u8 = 1 << 2;
/// FCR: the receive trigger level, two bits.
pub const FCR_TRIGGER: u8 = 0xc0;
/// FCR bits that stay when written; DMA mode, bit 3, means nothing here.
pub const FCR_STICKY: u8 = FCR_TRIGGER | 1 << 3 | FCR_ENABLE;

/// LCR: data bits less 5.
pub const LCR_DATA_BITS: u8 = 0x03;
/// LCR: two stop bits.
pub const LCR_STOP: u8 = 1 << 2;
/// LCR: a parity bit.
pub const LCR_PARITY: u8 = 1 << 3;
/// LCR: offsets 0 and 1 are the divisor.
pub const LCR_DLAB: u8 = 1 << 7;

/// MCR: output 2, set at reset.
pub const MCR_OUT2: u8 = 1 << 3;
/// MCR: what is transmitted is received, and the modem's inputs are its outputs.
pub const MCR_LOOPBACK: u8 = 1 << 4;
/// MCR bits that exist.
pub const MCR_MASK: u8 = 0x1f;

/// LSR: a received byte is waiting.
pub const LSR_DATA_READY: u8 = 1 << 0;
/// LSR: a received byte was lost; reading LSR clears it.
pub const LSR_OVERRUN: u8 = 1 << 1;
/// LSR: a break was received; reading LSR clears it.
pub const LSR_BREAK: u8 = 1 << 4;
/// LSR: the transmitter takes more bytes.
pub const LSR_TRANSMIT_HOLDING_EMPTY: u8 = 1 << 5;
/// LSR: every byte has left the transmitter.
pub const LSR_TRANSMITTER_EMPTY: u8 = 1 << 6;

/// MSR outside loopback: carrier, data set ready, clear to send.
pub const MSR_CONNECTED: u8 = 0xb0;

/// Why the UART interrupts, the most urgent first; the value is what IIR shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Overrun or break; ends with a read of LSR.
    LineStatus = 0x06,
    /// Bytes wait below the trigger level and none has come or gone for four character times.
    Timeout = 0x0c,
    /// The receive FIFO has reached its trigger level, or the receive buffer is full.
    Received = 0x04,
    /// The transmitter has become empty; ends with a read of IIR that shows it, or a byte to send.
    TransmitEmpty = 0x02,
    /// None.
    Nothing = 0x01,
}
