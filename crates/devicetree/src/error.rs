//! What can be wrong with a device tree.

use core::fmt;

/// Why a device tree is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostError {
    /// The magic number is missing.
    NotADeviceTree,
    /// It is of a version that cannot be read.
    Version,
    /// A block of it lies beyond its end.
    Truncated,
    /// Its nodes and properties are not well formed.
    Structure,
    /// Nodes are nested deeper than any real tree's.
    TooDeep,
    /// More than `MAX_RESERVED` ranges are reserved.
    TooManyReserved,
    /// It describes no memory.
    NoMemory,
    /// It describes no hart with an S-mode and a 64-bit ISA.
    NoHart,
    /// It does not tell the timer's frequency.
    NoTimebase,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotADeviceTree => "there is no device tree",
            Self::Version => "the device tree is of a version that cannot be read",
            Self::Truncated => "the device tree is cut off",
            Self::Structure => "the device tree is not well formed",
            Self::TooDeep => "the device tree is nested too deeply",
            Self::TooManyReserved => "the device tree reserves too many ranges of memory",
            Self::NoMemory => "the device tree describes no memory",
            Self::NoHart => "the device tree describes no hart with an S-mode and RV64",
            Self::NoTimebase => "the device tree does not tell the timer's frequency",
        })
    }
}

impl core::error::Error for HostError {}
