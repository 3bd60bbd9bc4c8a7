//! Sets of encodings that several tests walk.

/// The major opcodes that `decode` looks into: SYSTEM, LOAD, STORE, LOAD-FP, STORE-FP, AMO, MISC-MEM.
pub const MAJOR_OPCODES: [u32; 7] = [0x73, 0x03, 0x23, 0x07, 0x27, 0x2f, 0x0f];

/// Every 32-bit encoding of `opcode` with these two registers: all values of bits 31:20 and 14:12.
pub fn all_functs(opcode: u32, rd: u32, rs1: u32) -> impl Iterator<Item = u32> {
    (0..1 << 15).map(move |functs: u32| {
        let (high, funct3) = (functs >> 3, functs & 7);
        high << 20 | (rs1 & 31) << 15 | funct3 << 12 | (rd & 31) << 7 | opcode
    })
}

/// Every compressed encoding.
pub fn all_compressed() -> impl Iterator<Item = u16> {
    (0..=u16::MAX).filter(|half| half & 3 != 3)
}
