//! What an AMO of a word or a double word makes of memory. Unpriv. spec, "Atomic Memory Operations".

use super::Width;
use crate::Reg;

/// An AMO of a word or a double word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amo {
    op: Op,
    /// Where what memory held goes.
    pub rd: Reg,
    /// The address.
    pub rs1: Reg,
    /// The operand.
    pub rs2: Reg,
    /// How much: `Word` or `Double`.
    pub width: Width,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Add,
    Swap,
    Xor,
    Or,
    And,
    Min,
    Max,
    MinUnsigned,
    MaxUnsigned,
}

impl Amo {
    /// The AMO that these bits are, if they are one; none of a byte or half, and no AMOCAS.
    pub const fn decode(bits: u32) -> Option<Self> {
        let width = match (bits & 0x7f, bits >> 12 & 7) {
            (0x2f, 2) => Width::Word,
            (0x2f, 3) => Width::Double,
            _ => return None,
        };
        let op = match bits >> 27 {
            0b00000 => Op::Add,
            0b00001 => Op::Swap,
            0b00100 => Op::Xor,
            0b01000 => Op::Or,
            0b01100 => Op::And,
            0b10000 => Op::Min,
            0b10100 => Op::Max,
            0b11000 => Op::MinUnsigned,
            0b11100 => Op::MaxUnsigned,
            _ => return None,
        };
        let (rd, rs1, rs2) = (Reg::new(bits >> 7), Reg::new(bits >> 15), Reg::new(bits >> 20));
        Some(Self { op, rd, rs1, rs2, width })
    }

    /// What `old`, of which the lower bits count, comes to in `rd`.
    pub const fn loaded(self, old: u64) -> u64 {
        match self.width {
            Width::Double => old,
            _ => old as i32 as u64,
        }
    }

    /// What is stored where `old` was, with `operand` in rs2; of both the lower bits count, and of the result.
    pub const fn stored(self, old: u64, operand: u64) -> u64 {
        // Sign-extended, words are in the same order as double words, also where they are unsigned.
        let (old, operand) = (self.loaded(old), self.loaded(operand));
        let takes_operand = match self.op {
            Op::Add => return old.wrapping_add(operand),
            Op::Xor => return old ^ operand,
            Op::Or => return old | operand,
            Op::And => return old & operand,
            Op::Swap => true,
            Op::Min => (operand as i64) < old as i64,
            Op::Max => operand as i64 > old as i64,
            Op::MinUnsigned => operand < old,
            Op::MaxUnsigned => operand > old,
        };
        if takes_operand { operand } else { old }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn amo(funct5: u32, funct3: u32) -> u32 {
        funct5 << 27 | 3 << 25 | 12 << 20 | 11 << 15 | funct3 << 12 | 10 << 7 | 0x2f
    }

    #[test]
    fn each_operation_is_the_processors() {
        const VALUES: [u64; 7] =
            [0, 1, u64::MAX, 1 << 31, 1 << 63, 0x7fff_ffff_8000_0001, 0x1234_5678_ffff_fffe];
        for (old, operand) in VALUES.into_iter().flat_map(|old| VALUES.map(|operand| (old, operand))) {
            let (word, other) = (old as u32, operand as u32);
            let (signed, other_signed) = (word as i32, other as i32);
            for (funct5, words, doubles) in [
                (0, word.wrapping_add(other), old.wrapping_add(operand)),
                (1, other, operand),
                (4, word ^ other, old ^ operand),
                (8, word | other, old | operand),
                (12, word & other, old & operand),
                (16, signed.min(other_signed) as u32, (old as i64).min(operand as i64) as u64),
                (20, signed.max(other_signed) as u32, (old as i64).max(operand as i64) as u64),
                (24, word.min(other), old.min(operand)),
                (28, word.max(other), old.max(operand)),
            ] {
                let [of_words, of_doubles] = [2, 3].map(|funct3| Amo::decode(amo(funct5, funct3)).unwrap());
                assert_eq!(of_words.stored(old, operand) as u32, words, "{funct5} {old:#x} {operand:#x}");
                assert_eq!(of_doubles.stored(old, operand), doubles, "{funct5} {old:#x} {operand:#x}");
                assert_eq!(of_words.loaded(old), signed as u64);
                assert_eq!(of_doubles.loaded(old), old);
            }
        }
    }

    #[test]
    fn the_registers_are_found_and_what_is_none_is_not() {
        let found = Amo::decode(amo(1, 2)).unwrap();
        assert_eq!([found.rd, found.rs1, found.rs2].map(Reg::index), [10, 11, 12]);
        // LR, SC, AMOCAS, of a byte, of a quad word, another opcode.
        for bits in [amo(2, 2), amo(3, 3), amo(5, 2), amo(0, 0), amo(0, 4), amo(0, 2) ^ 0x40] {
            assert_eq!(Amo::decode(bits), None, "{bits:#x}");
        }
    }
}
