//! What passes between S-mode and M-mode: the registers, and an exception that is handed on.

/// What a trap saves and the way out loads.
#[repr(C, align(16))]
pub struct Frame {
    /// The registers; x0's place is not used.
    pub x: [u64; 32],
    /// Where it goes on.
    pub pc: u64,
    /// mstatus, with the mode that it goes on in.
    pub mstatus: u64,
}

/// An exception to hand on to S-mode.
pub struct Fault {
    pub cause: u64,
    pub tval: u64,
}
