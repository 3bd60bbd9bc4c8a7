//! From bits to `Instr`.

use super::Instr;

/// Bytes in the instruction whose first 16 bits these are: 2 or 4.
pub const fn length(low: u16) -> u64 {
    if low & 3 == 3 { 4 } else { 2 }
}

/// Decodes an instruction. For a compressed one only the low 16 bits count.
pub const fn decode(_bits: u32) -> Instr {
    Instr::Other
}
