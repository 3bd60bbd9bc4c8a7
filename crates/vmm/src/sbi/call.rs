//! A call's arguments, and what becomes of it. SBI spec, "Binary Encoding".

use crate::outcome::Outcome;

/// Bytes of an ECALL.
pub(super) const ECALL: u64 = 4;

/// Why a call failed. SBI spec, "Standard SBI Errors".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
pub enum SbiError {
    /// There is no such extension or function.
    NotSupported = -2,
    /// A parameter is wrong.
    InvalidParam = -3,
    /// An address is wrong.
    InvalidAddress = -5,
    /// What was asked for is so already.
    AlreadyAvailable = -6,
    /// It runs already.
    AlreadyStarted = -7,
    /// It does not run.
    AlreadyStopped = -8,
    /// No shared memory was named.
    NoSharedMemory = -9,
}

/// What a call gives: the value for a1, or an error.
pub(super) type SbiResult = Result<u64, SbiError>;

/// A call's arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct SbiCall {
    pub(super) function: u64,
    pub(super) args: [u64; 6],
}

/// What a handler of calls decides.
pub(super) enum Reply {
    /// The call returns this.
    Return(SbiResult),
    /// A legacy call returns this in a0 alone.
    Legacy(i64),
    /// The call does not return by itself.
    Outcome(Outcome),
}

impl From<SbiResult> for Reply {
    fn from(result: SbiResult) -> Self {
        Self::Return(result)
    }
}
